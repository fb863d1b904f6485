"""Reading a request: what each field may be, whichever API it came by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator import fields
from lmgateway.studio.simulator.errors import FieldError
from lmgateway.studio.simulator.generation import Tool, Turn
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.test_encoding import JSON

SCHEMA = {"type": "object"}


class FieldTests(SynchronousTestCase):
    def refusal(self, read: Callable[..., object], body: dict[str, Any], *args: object) -> str:
        """What is said of a wrong field, after seeing that it is named."""
        error = self.assertRaises(FieldError, read, body, *args)
        self.assertIn(error.param, error.message)
        return error.message

    def test_absent(self) -> None:
        """A field that is absent or null is nothing."""
        for body in ({}, {"a": None}):
            self.assertIsNone(fields.number(body, "a"))
            self.assertIsNone(fields.integer(body, "a"))
            self.assertIsNone(fields.string(body, "a"))
            self.assertEqual(fields.strings(body, "a"), ())
            self.assertIs(fields.flag(body, "a"), False)
            self.assertIs(fields.flag(body, "a", default=True), True)
            self.assertIsNone(fields.limit(body, "a"))

    def test_present(self) -> None:
        """A field of the right type is its value."""
        self.assertEqual(fields.number({"a": 0.5}, "a"), 0.5)
        self.assertEqual(fields.integer({"a": 3.0}, "a"), 3)
        self.assertEqual(fields.string({"a": "x"}, "a"), "x")
        self.assertEqual(fields.strings({"a": "x"}, "a"), ("x",))
        self.assertEqual(fields.strings({"a": ["x", "y"]}, "a"), ("x", "y"))
        self.assertIs(fields.flag({"a": True}, "a"), True)

    def test_wrong(self) -> None:
        """A field of another type is refused."""
        self.assertEqual(self.refusal(fields.number, {"a": "1"}, "a"), "'a' field must be a number")
        self.assertEqual(self.refusal(fields.number, {"a": True}, "a"), "'a' field must be a number")
        self.assertEqual(self.refusal(fields.integer, {"a": 1.5}, "a"), "'a' field must be an integer")
        self.assertEqual(self.refusal(fields.integer, {"a": float("inf")}, "a"), "'a' field must be an integer")
        self.assertEqual(self.refusal(fields.string, {"a": 1}, "a"), "'a' field must be a string")
        self.assertEqual(self.refusal(fields.flag, {"a": 1}, "a"), "'a' field must be a boolean")

    def test_recorded(self) -> None:
        """Tokens for texts are refused in the very words of LM Studio."""
        expected = "'input' field must be a string or an array of strings"
        self.assertEqual(self.refusal(fields.strings, {"input": [1, 2]}, "input"), expected)

    def test_limit(self) -> None:
        """The first limit that is there counts, and one below 0 is none."""
        self.assertEqual(fields.limit({"b": 5}, "a", "b"), 5)
        self.assertEqual(fields.limit({"a": 0, "b": 5}, "a", "b"), 0)
        self.assertIsNone(fields.limit({"a": -1, "b": 5}, "a", "b"))

    def test_sampling(self) -> None:
        """What shapes the answer must be a number."""
        fields.checkSampling({"temperature": 0, "top_k": None, "unheard_of": "x"})
        for name in fields.SAMPLING:
            self.refusal(fields.checkSampling, {name: "hot"})


class TurnTests(SynchronousTestCase):
    def test_text(self) -> None:
        """Content may be text, or nothing."""
        self.assertEqual(fields.turn("user", "x"), Turn("user", "x"))
        self.assertEqual(fields.turn("assistant", None), Turn("assistant", ""))

    def test_parts(self) -> None:
        """Of parts the texts of every API and the images count."""
        parts = [
            {"type": "text", "text": "a"},
            {"type": "input_text", "text": "b"},
            {"type": "text", "content": "c"},
            {"type": "tool_result", "content": [{"type": "text", "text": "d"}]},
            {"type": "function_call_output", "output": "e"},
            {"type": "image_url", "image_url": {"url": "data:"}},
            {"type": "input_image"},
        ]
        self.assertEqual(fields.turn("user", parts), Turn("user", "a\nb\nc\nd\ne", 2))

    @given(JSON)
    def test_totality(self, content: object) -> None:
        """Whatever the content is, it is a message or refused."""
        try:
            self.assertEqual(fields.turn("user", content).role, "user")
        except FieldError as error:
            self.assertEqual(error.param, "content")

    def test_turns(self) -> None:
        """Messages are required, and must be objects."""
        self.assertEqual(fields.turns({"m": [{"role": "user", "content": "x"}]}, "m"), (Turn("user", "x"),))
        missing = self.assertRaises(FieldError, fields.turns, {}, "messages")
        self.assertEqual(missing.message, "'messages' field is required")
        for wrong in ("x", [1], {"messages": []}):
            self.assertRaises(FieldError, fields.turns, {"m": wrong}, "m")


class ToolTests(SynchronousTestCase):
    def test_spellings(self) -> None:
        """The three spellings of a tool are one."""
        for tool in (
            {"type": "function", "function": {"name": "f", "parameters": SCHEMA}},
            {"type": "function", "name": "f", "parameters": SCHEMA},
            {"name": "f", "input_schema": SCHEMA},
        ):
            self.assertEqual(fields.tools({"tools": [tool]}), (Tool("f", SCHEMA),))

    def test_others(self) -> None:
        """Tools that are no functions are passed over; what is no list of objects is refused."""
        self.assertEqual(fields.tools({"tools": [{"type": "mcp"}, {"name": "f"}]}), (Tool("f", {}),))
        self.assertEqual(fields.tools({}), ())
        self.assertRaises(FieldError, fields.tools, {"tools": "f"})

    def test_choices(self) -> None:
        """The choice in each API's spelling."""
        for choice, expected in (
            (None, "auto"),
            ("auto", "auto"),
            ("none", "none"),
            ("required", "required"),
            ({"type": "any"}, "required"),
            ({"type": "auto"}, "auto"),
            ({"type": "tool", "name": "f"}, "f"),
            ({"type": "function", "name": "f"}, "f"),
            ({"type": "function", "function": {"name": "f"}}, "f"),
            (7, "auto"),
        ):
            self.assertEqual(fields.toolChoice({"tool_choice": choice}), expected)

    @given(st.dictionaries(st.sampled_from(["tools", "tool_choice"]), JSON))
    def test_totality(self, body: dict[str, Any]) -> None:
        """Whatever they are, there are tools and a choice, or a refusal."""
        self.assertIsInstance(fields.toolChoice(body), str)
        try:
            fields.tools(body)
        except FieldError as error:
            self.assertEqual(error.param, "tools")
