"""Reading what LM Studio's REST API says of its models."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden, GatewayError, NotFound, UpstreamBroken, UpstreamFailed
from lmgateway.inventory import Inventory
from lmgateway.studio.rest_answers import (
    LONGEST_QUOTE,
    decodeAnswer,
    readInventory,
    readLoad,
    readUnload,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.studio.asking_support import TOKEN

_NAMES = (
    "models",
    "key",
    "type",
    "loaded_instances",
    "id",
    "config",
    "context_length",
    "variants",
    "size_bytes",
    "capabilities",
    "quantization",
    "instance_id",
    "load_config",
    "error",
    "message",
    "code",
    "data",
    "lmstudio",
    "max_context_length",
    "display_name",
    "flash_attention",
)
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_KEYS = st.sampled_from(_NAMES) | st.text(max_size=4)
JSON: st.SearchStrategy[Any] = st.recursive(
    _LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=5), max_leaves=12
)


class RobustnessTests(SynchronousTestCase):
    @given(st.integers(100, 599), JSON)
    def test_anyJson(self, status: int, value: Any) -> None:
        """Whatever JSON comes, with whatever status, it is read or is an error of LM Studio's; nothing else is raised."""
        self._read(status, json.dumps(value).encode())

    @given(st.dictionaries(_KEYS, JSON, max_size=4), JSON, JSON)
    def test_anyModel(self, item: dict[str, Any], instances: Any, config: Any) -> None:
        """Whatever a model of the list says of itself, the list is read or refused."""
        model = {**item, "key": "k", "type": "llm", "loaded_instances": [{"id": "i", "config": config}, instances]}
        self._read(200, json.dumps({"models": [model]}).encode())
        self._read(200, json.dumps({"instance_id": "i", "load_config": config}).encode())

    @given(st.binary(max_size=40))
    def test_anyBytes(self, body: bytes) -> None:
        """Bytes that are no JSON object are an upstream that is broken, or forbids."""
        self._read(200, body)
        self._read(401, body)

    @given(JSON, st.sampled_from((200, 400, 401, 403, 404, 500)))
    def test_noQuote(self, error: Any, status: int) -> None:
        """LM Studio's token is never in an error, whatever it quotes."""
        for told in ({"message": f"Bad token {TOKEN}", "type": error}, f"Bad token {TOKEN}"):
            with self.assertRaises(GatewayError) as raised:
                decodeAnswer(status, json.dumps({"error": told}).encode(), TOKEN)
            self.assertNotIn(TOKEN, raised.exception.message)

    def _read(self, status: int, body: bytes) -> None:
        try:
            answer = decodeAnswer(status, body, TOKEN)
        except GatewayError:
            return
        for read in (readInventory, readLoad, readUnload):
            with contextlib.suppress(UpstreamBroken):
                read(answer)


class ErrorTests(SynchronousTestCase):
    def error(self, status: int, error: object) -> GatewayError:
        """What is raised."""
        with self.assertRaises(GatewayError) as raised:
            decodeAnswer(status, json.dumps({"error": error}).encode())
        return raised.exception

    def test_kinds(self) -> None:
        """Each error of LM Studio's is of the kind that its words mean, whatever its status."""
        for status, error, kind in (
            (200, "Unexpected endpoint or method. (GET /api/v1/models)", UpstreamBroken),
            (404, "Unexpected endpoint or method. (GET /api/v1/models)", UpstreamBroken),
            (404, {"type": "model_not_found", "message": "Model K not found in downloaded models"}, NotFound),
            (200, {"type": "model_not_found", "message": "no"}, NotFound),
            (401, {"type": "invalid_request", "code": "invalid_api_key", "message": "A token is required"}, Forbidden),
            (200, {"code": "invalid_api_key", "message": "A token is required"}, Forbidden),
            (403, "no", Forbidden),
            (400, {"type": "invalid_request", "message": "Permission denied to use plugin"}, Forbidden),
            (500, {"type": "internal_error", "message": "Failed to load model"}, UpstreamFailed),
            (400, {"message": 'Failed to load model "X". Error: …'}, UpstreamFailed),
            (400, {"type": "invalid_request", "message": "Unrecognized key(s)"}, UpstreamBroken),
            (500, {}, UpstreamBroken),
            (500, 7, UpstreamBroken),
        ):
            self.assertIs(type(self.error(status, error)), kind, error)

    def test_words(self) -> None:
        """LM Studio's own words are passed on, up to a length."""
        self.assertIn(
            "Model K not found", self.error(404, {"type": "model_not_found", "message": "Model K not found"}).message
        )
        long = self.error(400, {"message": "x" * 10_000}).message
        self.assertLess(len(long), LONGEST_QUOTE + 100)

    def test_noBody(self) -> None:
        """A refusal without words is one too."""
        for status in (401, 403):
            with self.assertRaises(Forbidden):
                decodeAnswer(status, b"Forbidden")


class ReadingTests(SynchronousTestCase):
    def test_unknown(self) -> None:
        """What is unknown or of another type than expected is passed over where it is not needed."""
        model = {
            "key": "k",
            "type": "llm",
            "size_bytes": "big",
            "variants": [1, "k@q8"],
            "new": {},
            "quantization": None,
        }
        inventory = readInventory({"models": [model], "more": 1})
        (read,) = inventory.downloaded
        self.assertEqual((read.size, read.variants, dict(read.details)), (None, ("k@q8",), {}))

    def test_needed(self) -> None:
        """A model without a key, one without a type, and an instance without an id make no sense."""
        nameless = {"key": "k", "type": "llm", "loaded_instances": [{}]}
        for model in (
            {"type": "llm"},
            {"key": "k"},
            {"key": "", "type": "llm"},
            {"key": 1, "type": "llm"},
            7,
            nameless,
        ):
            with self.assertRaises(UpstreamBroken):
                readInventory({"models": [model]})

    def test_none(self) -> None:
        """An LM Studio without any model has an empty list."""
        self.assertEqual(readInventory({"models": []}), Inventory())
