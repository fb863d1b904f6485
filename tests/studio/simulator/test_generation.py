"""What the simulated model says: the same every time, and within the limits it is given."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.studio.simulator.generation import Generation, Question, StopReason, Tool, Turn, generate, tokenize
from twisted.trial.unittest import SynchronousTestCase

ANY_TEXT = st.text(st.characters())
TURNS = st.lists(st.builds(Turn, st.sampled_from(["system", "user", "assistant", "tool"]), ANY_TEXT), max_size=4).map(
    tuple
)
WEATHER = Tool(
    "get_weather",
    {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "unit": {"enum": ["celsius"]},
            "more": {"type": ["array", "null"]},
            "late": {"type": "boolean"},
        },
        "required": ["city", "days", "unit", "more", "late", "lost"],
    },
)
NOW = Tool("now", {})


def asked(text: str, **more: object) -> Generation:
    """The answer to one message of a user, without thoughts."""
    question = Question(turns=(Turn("user", text),), **more)  # type: ignore[arg-type]  # fields of a Question
    return generate(question, reasons=False)


class TokenizeTests(SynchronousTestCase):
    @given(ANY_TEXT)
    def test_lossless(self, text: str) -> None:
        """The tokens of any text make the very text, and none is longer than nine characters or empty."""
        tokens = tokenize(text)
        self.assertEqual("".join(tokens), text)
        self.assertTrue(all(1 <= len(token) <= 9 for token in tokens))


class GenerateTests(SynchronousTestCase):
    @given(TURNS, st.booleans(), st.integers(0, 60))
    def test_limit(self, turns: tuple[Turn, ...], reasons: bool, limit: int) -> None:  # noqa: FBT001 - drawn
        """With a limit there are fewer tokens than it says, and they are the first of those without one."""
        whole = generate(Question(turns=turns), reasons=reasons)
        cut = generate(Question(turns=turns, maxTokens=limit), reasons=reasons)
        self.assertEqual(cut.promptTokens, whole.promptTokens)
        everything = whole.reasoning + whole.content
        said = cut.reasoning + cut.content
        self.assertEqual(said, everything[: len(said)])
        if len(everything) < limit:
            self.assertEqual(cut, whole)
        else:
            self.assertEqual((len(said), cut.stopReason), (max(0, limit - 1), StopReason.LIMIT))

    @given(ANY_TEXT, st.lists(st.text(max_size=3), max_size=3).map(tuple))
    def test_stops(self, text: str, stops: tuple[str, ...]) -> None:
        """No stop string ever appears in the answer, and one that ended it is named."""
        generation = asked(text, stops=stops)
        self.assertFalse([stop for stop in stops if stop and stop in generation.text])
        self.assertEqual(generation.stopString is not None, generation.stopReason is StopReason.STOP_STRING)

    @given(TURNS)
    def test_sameAgain(self, turns: tuple[Turn, ...]) -> None:
        """The same question has the same answer."""
        question = Question(turns=turns, tools=(WEATHER,))
        self.assertEqual(generate(question, reasons=True), generate(question, reasons=True))

    def test_echo(self) -> None:
        """The answer says what it is, and repeats what it was told, as much as is decent."""
        self.assertEqual(asked("hello").text, "This is lmgateway's simulator, not a model. You said: hello")
        self.assertLess(len(asked("x" * 100_000).text), 500)

    def test_earlierTurn(self) -> None:
        """That a conversation goes on can be seen."""
        turns = (Turn("user", "one"), Turn("assistant", "two"), Turn("user", "three"))
        text = generate(Question(turns=turns), reasons=False).text
        self.assertTrue(text.endswith("You said: three\nBefore that you said: one"))

    def test_images(self) -> None:
        """That images arrived can be seen, and they count as tokens."""
        one = generate(Question(turns=(Turn("user", "look", 1),)), reasons=False)
        self.assertTrue(one.text.endswith("You showed 1 image."))
        self.assertEqual(one.promptTokens, asked("look").promptTokens + 256)

    def test_count(self) -> None:
        """A long answer can be had."""
        self.assertEqual(asked("Please count to 12!").text, "1 2 3 4 5 6 7 8 9 10 11 12")

    def test_emptyConversation(self) -> None:
        """No message at all is no error."""
        self.assertTrue(generate(Question(turns=()), reasons=True).text)

    def test_reasoning(self) -> None:
        """A model that reasons does so first, and its thoughts count."""
        question = Question(turns=(Turn("user", "hi"),))
        with_, without = generate(question, reasons=True), generate(question, reasons=False)
        self.assertEqual(with_.content, without.content)
        self.assertEqual(with_.completionTokens, without.completionTokens + len(with_.reasoning))

    def test_schema(self) -> None:
        """Where the answer must fit a schema, it does."""
        text = asked("anything", schema=WEATHER.parameters).text
        self.assertEqual(
            json.loads(text),
            {"city": "string", "days": 1, "unit": "celsius", "more": "string", "late": True, "lost": "string"},
        )


class ToolCallTests(SynchronousTestCase):
    def test_named(self) -> None:
        """The message names the tool and the arguments."""
        generation = asked('Now tool: get_weather {"city": "Paris"} please', tools=(NOW, WEATHER))
        (call,) = generation.toolCalls
        self.assertEqual((call.name, "".join(call.arguments)), ("get_weather", '{"city":"Paris"}'))
        self.assertEqual((generation.stopReason, generation.text), (StopReason.TOOL_CALLS, ""))
        self.assertTrue(len(call.id) == 9 and call.id.isdigit())
        self.assertEqual(generation.completionTokens, len(call.arguments))

    def test_invented(self) -> None:
        """Without arguments in the message there are some that the tool takes."""
        (call,) = asked("tool: get_weather", tools=(WEATHER,)).toolCalls
        expected = {"city": "string", "days": 1, "unit": "celsius", "more": "string", "late": True, "lost": "string"}
        self.assertEqual(json.loads("".join(call.arguments)), expected)

    def test_whenNot(self) -> None:
        """There is no call without tools, without being asked, where it is forbidden, and right after a tool answered."""
        self.assertFalse(asked("tool: now").toolCalls)
        self.assertFalse(asked("what time is it?", tools=(NOW,)).toolCalls)
        self.assertFalse(asked("tool: now", tools=(NOW,), toolChoice="none").toolCalls)
        turns = (Turn("user", "tool: now"), Turn("assistant", ""), Turn("tool", "noon"))
        answer = generate(Question(turns=turns, tools=(NOW,), toolChoice="required"), reasons=False)
        self.assertTrue(answer.text.endswith("The tool answered: noon"))

    def test_forced(self) -> None:
        """A call can be demanded, and that of one tool too."""
        self.assertEqual(asked("x", tools=(NOW, WEATHER), toolChoice="required").toolCalls[0].name, "now")
        self.assertEqual(asked("x", tools=(NOW, WEATHER), toolChoice="get_weather").toolCalls[0].name, "get_weather")

    def test_limited(self) -> None:
        """Half a call is worth nothing: where the limit cuts it, there is none."""
        generation = asked("tool: get_weather", tools=(WEATHER,), maxTokens=3)
        self.assertEqual((generation.toolCalls, generation.stopReason), ((), StopReason.LIMIT))

    @given(ANY_TEXT)
    def test_anyArguments(self, text: str) -> None:
        """Whatever follows the name of the tool, the arguments are a JSON object."""
        (call,) = asked(f"tool: now {text}", tools=(NOW,)).toolCalls
        self.assertIsInstance(json.loads("".join(call.arguments)), dict)


class FirstTests(SynchronousTestCase):
    def test_prefix(self) -> None:
        """The first tokens of a generation: thoughts, then the answer."""
        whole = generate(Question(turns=(Turn("user", "hi"),)), reasons=True)
        thoughts = len(whole.reasoning)
        first = whole.first(thoughts + 2, StopReason.EOS)
        self.assertEqual((first.reasoning, first.content), (whole.reasoning, whole.content[:2]))
        self.assertEqual(whole.first(1, StopReason.EOS).reasoning, whole.reasoning[:1])
        self.assertEqual(whole.first(0, StopReason.EOS).completionTokens, 0)
