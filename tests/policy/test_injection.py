"""Members spliced into a JSON body, and nothing else changed."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from typing import Any, NoReturn

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest
from lmgateway.interfaces import IRequestRewriter
from lmgateway.message import Completion, Injection, Rewritten
from lmgateway.policy.injection import MEMBERS_LIMIT, SMALL_BODY, MemberSplicer, readCarefully, readQuickly
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.strategies import jsonObjects, mutations

MODEL = Injection("model", "model", b'"qwen/qwen3-8b"')
TEMPERATURE = Injection("temperature", "temperature", b"0.70")
MAX_TOKENS = Injection("maxTokens", "max_tokens", b"512", ("max_completion_tokens",))
STREAM = Injection("stream", "stream", b"true")
STOP = Injection("stopStrings", "stop", b'["a", "\\u00e9"]')
INJECTIONS = (MODEL, TEMPERATURE, MAX_TOKENS, STOP, STREAM)
WATCHED = frozenset({"integrations"})
READ = frozenset({"model", "temperature", "max_tokens", "max_completion_tokens", "stop", "stream", "integrations"})

OBJECTS = jsonObjects(
    "model", "temperature", "max_tokens", "max_completion_tokens", "stream", "stop", "integrations", "x"
)
INJECTED = st.lists(st.sampled_from(INJECTIONS), unique=True).map(tuple)


def rewrite(
    body: bytes, injections: tuple[Injection, ...], watch: frozenset[str] = frozenset(), alias: bytes | None = None
) -> Rewritten:
    """Complete a body with the same, whatever model it names."""
    return MemberSplicer().rewrite(body, lambda _: Completion(injections, alias), watch)


class Pairs(list[tuple[str, Any]]):
    """The members of an object in order, repeated ones too."""


def refuseConstant(name: str) -> NoReturn:
    """NaN and Infinity are Python's JSON, not RFC 8259's."""
    raise ValueError(name)


def parse(body: bytes) -> Any:
    """Read JSON strictly by Python's own parser: UTF-8, no NaN, numbers as they are spelled, objects as pairs."""
    return json.loads(
        body.decode("utf-8"), object_pairs_hook=Pairs, parse_constant=refuseConstant, parse_int=str, parse_float=str
    )


def pairsOf(body: bytes) -> Pairs:
    """The members of a body that is known to be an object."""
    pairs = parse(body)
    assert isinstance(pairs, Pairs)
    return pairs


def repeatsRead(pairs: Pairs) -> bool:
    """Whether a key that the gateway reads is there twice."""
    return any(times > 1 and name in READ for name, times in Counter(name for name, _ in pairs).items())


def addedBy(injections: tuple[Injection, ...], pairs: Pairs) -> list[Injection]:
    """What is missing, said as simply as can be."""
    sent = {name for name, _ in pairs}
    return [injection for injection in injections if not sent & {injection.member, *injection.unless}]


class RewriteTests(SynchronousTestCase):
    def test_interface(self) -> None:
        """The splicer is what the proxy asks for."""
        verifyObject(IRequestRewriter, MemberSplicer())

    def test_usual(self) -> None:
        """What is missing is written in order after the opening brace; what is there stays."""
        result = rewrite(b'{"messages":[],"max_completion_tokens":9}', INJECTIONS)
        self.assertEqual(
            result.body,
            b'{"model":"qwen/qwen3-8b","temperature":0.70,"stop":["a", "\\u00e9"],"stream":true,'
            b'"messages":[],"max_completion_tokens":9}',
        )
        self.assertEqual(result.injected, ("model", "temperature", "stopStrings", "stream"))
        self.assertEqual((result.model, result.stream), ("qwen/qwen3-8b", True))

    def test_empty(self) -> None:
        """An empty object gets no comma too many, wherever its white space is."""
        for body, expected in (
            (b"{}", b'{"temperature":0.70}'),
            (b" \n{ \t} ", b' \n{"temperature":0.70 \t} '),
        ):
            self.assertEqual(rewrite(body, (TEMPERATURE,)).body, expected)

    def test_presentWins(self) -> None:
        """A member that is there wins, whatever its value."""
        for value in (b"null", b"0", b"[]", b"{}", b"false", b'""'):
            body = b'{"model":%b,"temperature":%b,"stop":%b,"stream":%b,"max_tokens":%b}' % ((value,) * 5)
            result = rewrite(body, INJECTIONS)
            self.assertIs(result.body, body)
            self.assertEqual(result.injected, ())

    def test_nestedIsNotPresent(self) -> None:
        """A key inside a value is no member of the body, and may be there as often as it likes."""
        result = rewrite(b'{"tools":[{"model":1,"model":2}],"x":"\\"model\\":"}', (MODEL,))
        self.assertEqual(result.injected, ("model",))

    def test_verbatim(self) -> None:
        """Numbers that no double holds, escapes and white space go through to the letter, and at once."""
        rest = b'"a" : 1e999999, "b":-0.0,"c":' + b"7" * 10_000 + b',"d":"\\u00e9\\/",\n"e":[ 1 ,2]}'
        self.assertEqual(rewrite(b"{" + rest, (TEMPERATURE,)).body, b'{"temperature":0.70,' + rest)

    def test_model(self) -> None:
        """``model`` is told decoded, or not at all if it is no string."""
        for value, expected in ((b'"a\\u002fb"', "a/b"), ('"é"'.encode(), "é"), (b"null", None), (b'["a"]', None)):
            self.assertEqual(rewrite(b'{"model":%b}' % value, INJECTIONS).model, expected)
        self.assertIsNone(rewrite(b"{}", ()).model)

    def test_modelSurrogate(self) -> None:
        """A ``model`` with half an emoji goes up as it is, and is told as text that can be logged and encoded."""
        body = b'{"model":"m\\ud83d"}'
        result = rewrite(body, (MODEL,))
        self.assertIs(result.body, body)
        assert result.model is not None
        self.assertEqual(result.model[:1], "m")
        self.assertEqual(len(result.model.encode()), 4)

    def test_stream(self) -> None:
        """A stream is asked for by ``true`` and nothing else."""
        for value in (b"false", b"null", b"1", b'"true"', b'"ab"', b"1234", b"[true]"):
            self.assertFalse(rewrite(b'{"stream":%b}' % value, (STREAM,)).stream)
        self.assertTrue(rewrite(b'{"stream":true}', ()).stream)
        self.assertFalse(rewrite(b"{}", ()).stream)

    def test_streamDefault(self) -> None:
        """A default of ``false`` is injected, and asks for no stream."""
        result = rewrite(b"{}", (Injection("stream", "stream", b"false"),))
        self.assertEqual((result.body, result.stream), (b'{"stream":false}', False))

    def test_members(self) -> None:
        """Of the names asked about, those that the client sent are told; an injected one is not."""
        watch = frozenset({"integrations", "model", "x"})
        result = rewrite(b'{"integrat\\u0069ons":[],"y":1}', (MODEL,), watch)
        self.assertEqual(result.members, {"integrations"})

    def test_sameMemberTwice(self) -> None:
        """Of two injections for one member the first is added, so that no key is ever written twice."""
        result = rewrite(b"{}", (MAX_TOKENS, Injection("other", "max_tokens", b"7")))
        self.assertEqual((result.body, result.injected), (b'{"max_tokens":512}', ("maxTokens",)))

    def test_surrogateLookalike(self) -> None:
        """A Hangul escape beside half an emoji does not turn a key into another: U+D06D is no ``m``."""
        result = rewrite(b'{"\\ud06dodel":"\\ud83d"}', (MODEL,))
        self.assertEqual(result.injected, ("model",))

    @given(OBJECTS, INJECTED)
    def test_overlaid(self, body: bytes, injections: tuple[Injection, ...]) -> None:
        """A rewritten body parses to the defaults that were missing, then exactly what the client sent."""
        pairs = pairsOf(body)
        if repeatsRead(pairs):
            return
        result = rewrite(body, injections, WATCHED)
        added = addedBy(injections, pairs)
        self.assertEqual(pairsOf(result.body), [(one.member, parse(one.value)) for one in added] + pairs)
        self.assertEqual(result.injected, tuple(one.name for one in added))
        self.assertEqual(result.stream, any(one.member == "stream" for one in added) or ("stream", True) in pairs)
        self.assertEqual(result.members, WATCHED & {name for name, _ in pairs})

    @given(OBJECTS, INJECTED)
    def test_everyByte(self, body: bytes, injections: tuple[Injection, ...]) -> None:
        """Every byte that the client wrote is still there, in order: one piece was put in, right after the first brace."""
        if repeatsRead(pairsOf(body)):
            return
        rewritten = rewrite(body, injections, WATCHED).body
        start = body.index(b"{") + 1
        self.assertEqual(rewritten[:start] + rewritten[start + len(rewritten) - len(body) :], body)

    @given(OBJECTS, INJECTED)
    def test_idempotent(self, body: bytes, injections: tuple[Injection, ...]) -> None:
        """Rewriting twice is rewriting once."""
        if repeatsRead(pairsOf(body)):
            return
        once = rewrite(body, injections, WATCHED)
        twice = rewrite(once.body, injections, WATCHED)
        self.assertIs(twice.body, once.body)
        self.assertEqual((twice.injected, twice.model, twice.stream), ((), once.model, once.stream))

    @given(st.sampled_from(INJECTIONS), st.data())
    def test_escapedKey(self, injection: Injection, data: st.DataObject) -> None:
        """A key spelled with escapes is the key."""
        escaped = data.draw(st.sets(st.integers(0, len(injection.member) - 1)))
        key = "".join(f"\\u{ord(c):04x}" if at in escaped else c for at, c in enumerate(injection.member))
        body = f'{{"{key}":null}}'.encode()
        self.assertIs(rewrite(body, (injection,)).body, body)

    @given(OBJECTS)
    def test_size(self, body: bytes) -> None:
        """A large body is rewritten as a small one."""
        if repeatsRead(pairsOf(body)):
            return
        small = rewrite(body, INJECTIONS, WATCHED)
        large = rewrite(body + b" " * SMALL_BODY, INJECTIONS, WATCHED)
        self.assertEqual(large.body, small.body + b" " * SMALL_BODY)
        self.assertEqual((large.injected, large.model, large.stream), (small.injected, small.model, small.stream))


class RefusalTests(SynchronousTestCase):
    def refusal(self, body: bytes, watch: frozenset[str] = frozenset()) -> BadRequest:
        """What a body is refused with."""
        return self.assertRaises(BadRequest, rewrite, body, INJECTIONS, watch)

    def test_notJson(self) -> None:
        """What is not JSON is refused, with the place where it is known."""
        for body, reason in (
            (b"", "input data was truncated"),
            (b"{", "input data was truncated"),
            (b'{"a":NaN}', "(byte 5)"),
            (b'{"a":Infinity}', "(byte 5)"),
            (b'{"a":1}x', "trailing characters"),
            (b'{"a":1}{}', "trailing characters"),
            (b"{'a':1}", "(byte 1)"),
            (b'{"a":"\\ud83d","b":01}', "(byte 19)"),
            (b'{"a":"\\ud83z"}', "(byte 12)"),
            (b"\xef\xbb\xbf{}", "byte order mark"),
            (b'{"a":"\xff"}', "not UTF-8 (byte 6)"),
            (b'{"a":"\xed\xa0\xbd"}', "not UTF-8 (byte 6)"),
            (b"{}".ljust(SMALL_BODY + 1) + b"\xff", f"not UTF-8 (byte {SMALL_BODY + 1})"),
        ):
            error = self.refusal(body)
            self.assertIn(reason, error.message)
            self.assertEqual(error.code, "invalid_json")

    def test_noObject(self) -> None:
        """JSON that is not one object is refused."""
        for body in (b"[]", b"1", b'"model"', b"null", b" [{}] "):
            self.assertIn("one JSON object", self.refusal(body).message)

    def test_repeatedRead(self) -> None:
        """A key that the gateway reads may not be there twice, however it is spelled and whatever its values."""
        for name in sorted(READ):
            for second in (name, f"\\u{ord(name[0]):04x}{name[1:]}"):
                for first, last in (("1", "1"), ('"a"', "null"), ('"' + "a" * SMALL_BODY + '"', "2")):
                    error = self.refusal(f'{{"{name}":{first}, "x":2,"{second}":{last}}}'.encode(), WATCHED)
                    self.assertEqual((error.param, error.code), (name, "repeated_member"))

    def test_repeatedAlwaysRead(self) -> None:
        """``stream`` and ``model`` are read even where they are not injected."""
        for name in ("model", "stream"):
            self.assertRaises(BadRequest, rewrite, f'{{"{name}":1,"{name}":2}}'.encode(), ())

    def test_repeatedOther(self) -> None:
        """A repeated key that the gateway does not read is LM Studio's business."""
        body = b'{"seed":1,"seed":[2],"seed":3,"model":"a"}'
        result = rewrite(body, (MODEL,))
        self.assertIs(result.body, body)
        self.assertEqual(result.model, "a")
        self.assertEqual(rewrite(b'{"temperature":1,"temperature":2,"model":1}', (MODEL,)).injected, ())

    def test_depth(self) -> None:
        """512 levels pass; thirty thousand in a small body, and ten million, are refused, and nothing crashes."""
        for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
            body = b'{"a":' + opening * 511 + b"1" + closing * 511 + b"}"
            self.assertEqual(rewrite(body, (MODEL,)).injected, ("model",))
            for levels in (30_000, 100_000, 10_000_000):
                for text in (opening * levels, b'{"a":' + opening * levels + b"1" + closing * levels + b"}"):
                    if text.startswith(b"["):
                        self.assertIn("one JSON object", self.refusal(text).message)
                    else:
                        self.assertIn("nested too deeply", self.refusal(text).message)

    def test_members(self) -> None:
        """So many members pass and no more, repeated ones included."""
        most = b"{" + b",".join(b'"%d":[]' % at for at in range(MEMBERS_LIMIT)) + b"}"
        self.assertEqual(rewrite(most, (MODEL,)).injected, ("model",))
        self.assertIn("top-level members", self.refusal(most[:-1] + b',"x":1}').message)
        self.assertIn("top-level members", self.refusal(b"{" + b'"":1,' * 1_000_000 + b'"":1}').message)

    def test_membersOfSmall(self) -> None:
        """No small body can have too many members, which is why they are not counted there."""
        self.assertTrue(len(b'"":0,' * MEMBERS_LIMIT) > SMALL_BODY)

    @given(st.binary(max_size=40))
    def test_arbitrary(self, body: bytes) -> None:
        """Nothing but BadRequest ever comes out of arbitrary bytes."""
        try:
            rewrite(body, INJECTIONS, WATCHED)
        except BadRequest as error:
            self.assertTrue(error.message.endswith("."))

    @given(mutations(OBJECTS))
    def test_asStrict(self, body: bytes) -> None:
        """A body is refused exactly if strict JSON in UTF-8 refuses it, it is no object, or it repeats what is read."""
        try:
            pairs = parse(body)
        except ValueError:
            isRight = False
        else:
            isRight = isinstance(pairs, Pairs) and not repeatsRead(pairs)
        try:
            result = rewrite(body, INJECTIONS, WATCHED)
        except BadRequest:
            self.assertFalse(isRight)
        else:
            self.assertTrue(isRight)
            parse(result.body)


class ReadingTests(SynchronousTestCase):
    def test_quick(self) -> None:
        """The usual body takes the quick way, or the quick way would be for nothing."""
        self.assertEqual(
            list(readQuickly(b'{"messages":[{"a" : 1}],"temperature":1}') or ()), ["messages", "temperature"]
        )
        self.assertEqual(readQuickly(b"{}"), {})

    def test_shortestRepeat(self) -> None:
        """The quick way leaves even the shortest repeated key to the careful one."""
        for body in (b'{"":0,"":1}', b'{"":0,"":0}', b'{"":0,"a":1,"":0}'):
            self.assertIsNone(readQuickly(body))
            self.assertEqual(readCarefully(body)[1], {""})

    @given(OBJECTS)
    def test_agree(self, body: bytes) -> None:
        """Wherever the quick way can tell, the careful way tells the same."""
        quick = readQuickly(body)
        careful, repeated = readCarefully(body)
        names = Counter(name for name, _ in pairsOf(body))
        if quick is not None:
            self.assertEqual(max(names.values(), default=1), 1)
            self.assertEqual(repeated, frozenset())
            self.assertEqual(
                {name: bytes(value) for name, value in quick.items()},
                {name: bytes(value) for name, value in careful.items()},
            )
        if b"\\ud" not in body.lower():
            self.assertEqual(repeated, {name for name, times in names.items() if times > 1})


class MemoryTests(SynchronousTestCase):
    def costOf(self, body: bytes) -> int:
        """The most bytes that were allocated at once while a body was rewritten, beside the body itself."""
        tracemalloc.start()
        try:
            rewrite(body, (MODEL,))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    def test_oneCopy(self) -> None:
        """A large body costs one copy and not much more, however it is written."""
        size = 3_000_000
        for content in (
            b"A" * size,
            b"A" * size + "😀".encode(),
            "😀".encode() * (size // 4),
            b"\\ud83d" * (size // 6),
            b"\\\\" * (size // 2) + b"\\ud83d",
        ):
            self.assertTrue(self.costOf(b'{"messages":["' + content + b'"]}') < size * 1.2)
        self.assertTrue(self.costOf(b'{"messages":[' + b"[]," * (size // 3) + b"1]}") < size * 1.2)
        self.assertTrue(self.costOf(b'{"messages":1' + b" " * size + b"}") < size * 1.2)

    def test_members(self) -> None:
        """A flood of members is refused before it costs much."""
        body = b"{" + b'"":1,' * 600_000 + b'"":1}'
        tracemalloc.start()
        try:
            self.assertRaises(BadRequest, rewrite, body, (MODEL,))
            self.assertTrue(tracemalloc.get_traced_memory()[1] < 8_000_000)
        finally:
            tracemalloc.stop()
