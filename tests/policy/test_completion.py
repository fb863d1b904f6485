"""Which model a request goes to, and whose default parameters count."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import Forbidden
from lmgateway.inventory import DownloadedModel, Inventory, LoadedModel
from lmgateway.message import ActiveModel, Grant, Principal, Scope
from lmgateway.policy.completion import REMEMBERED, Alias, Completions, ModelDefaults, UnknownModel
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.model_names import KnownModels
from twisted.trial.unittest import SynchronousTestCase

QWEN = "qwen/qwen3-8b"
ANYBODY = Principal("alice", frozenset({Scope.INFERENCE}))
KNOWN = KnownModels(
    Inventory(
        (DownloadedModel(QWEN, "llm", QWEN), DownloadedModel("b/b", "llm", "b/b")),
        (LoadedModel("fast", QWEN, "llm", QWEN),),
    )
)
LAYERS = ("client", "key", "alias", "active", "model")


def complete(
    completions: Completions,
    body: dict[str, Any],
    active: ActiveModel | None = None,
    principal: Principal = ANYBODY,
) -> dict[str, Any]:
    """What goes upstream of a chat."""
    completing = completions.completing("openai", "all", active, principal)
    result: dict[str, Any] = json.loads(MemberSplicer().rewrite(json.dumps(body).encode(), completing).body)
    return result


class OrderTests(SynchronousTestCase):
    @given(st.sets(st.sampled_from(LAYERS)))
    def test_order(self, saying: set[str]) -> None:
        """The client decides, else its key, else the alias it used, else the active model, else the model's own default."""
        number = {layer: index / 10 for index, layer in enumerate(LAYERS)}

        def defaults(layer: str) -> dict[str, Any]:
            return {"temperature": number[layer]} if layer in saying else {}

        completions = Completions({"gpt": Alias(QWEN, defaults("alias"))}, {QWEN: ModelDefaults(defaults("model"))})
        principal = Principal("alice", frozenset(), None, Grant(defaultInference=defaults("key")))
        body = {"model": "gpt", **defaults("client")}
        sent = complete(completions, body, ActiveModel("other", None, defaults("active")), principal)
        first = next((layer for layer in LAYERS if layer in saying), None)
        self.assertEqual(sent.get("temperature"), number.get(first or ""))

    def test_merged(self) -> None:
        """Each parameter is decided for itself."""
        completions = Completions({}, {QWEN: ModelDefaults({"topP": 0.5, "topK": 1})})
        sent = complete(completions, {"model": QWEN}, ActiveModel("x", None, {"topK": 2}))
        self.assertEqual(sent, {"model": QWEN, "top_p": 0.5, "top_k": 2})

    def test_variant(self) -> None:
        """What is set for a model counts for its variants and instances, too."""
        completions = Completions({}, {QWEN: ModelDefaults({"topK": 1})})
        completions.known = KNOWN
        for name in (QWEN, f"{QWEN}@q8_0", "fast"):
            self.assertEqual(complete(completions, {"model": name}), {"top_k": 1, "model": name})

    def test_nothing(self) -> None:
        """Where nobody says anything, nothing is added."""
        self.assertEqual(complete(Completions(), {"a": 1}), {"a": 1})


class AliasTests(SynchronousTestCase):
    def test_letter(self) -> None:
        """An alias changes the value of ``model`` and not another byte of what the client wrote."""
        completing = Completions({"gpt-4o": Alias(QWEN)}).completing("openai", "all", None, ANYBODY)
        for body, expected in (
            (
                b' { "a" : "gpt-4o", "model" :\t"gpt-4o" , "x":1.50}',
                b' { "a" : "gpt-4o", "model" :\t"qwen/qwen3-8b" , "x":1.50}',
            ),
            (b'{"m\\u006fdel":"gpt\\u002d4o"}', b'{"m\\u006fdel":"qwen/qwen3-8b"}'),
            (
                b'{"x":{"model":"gpt-4o"},"x":2,"model":"gpt-4o"}',
                b'{"x":{"model":"gpt-4o"},"x":2,"model":"qwen/qwen3-8b"}',
            ),
            (b'{"e":"\\ud83d","model":"gpt-4o"}', b'{"e":"\\ud83d","model":"qwen/qwen3-8b"}'),
            (b'{"e":"\\ud83d","e":1,"model":"gpt-4o"}', b'{"e":"\\ud83d","e":1,"model":"qwen/qwen3-8b"}'),
        ):
            rewritten = MemberSplicer().rewrite(body, completing)
            self.assertEqual((rewritten.body, rewritten.model), (expected, QWEN))

    def test_injected(self) -> None:
        """What is missing is added in the same step."""
        sent = complete(Completions({"g": Alias(QWEN, {"topK": 1})}), {"model": "g", "x": 1})
        self.assertEqual(sent, {"top_k": 1, "model": QWEN, "x": 1})

    def test_active(self) -> None:
        """An active model that is an alias stands for the alias's model."""
        sent = complete(Completions({"g": Alias(QWEN, {"topK": 1})}), {}, ActiveModel("g"))
        self.assertEqual(sent, {"model": QWEN, "top_k": 1})

    def test_value(self) -> None:
        """Only a string can be an alias: any other value passes as it came."""
        completions = Completions({"g": Alias(QWEN)})
        for value in (None, 1, ["g"], {"g": 1}):
            self.assertEqual(complete(completions, {"model": value}), {"model": value})

    @given(st.dictionaries(st.sampled_from("abc"), st.text(st.characters(codec="utf-8")), min_size=1), st.text())
    def test_anyModel(self, others: dict[str, str], name: str) -> None:
        """Whatever the alias and its model are called, the model's name arrives and the rest stays."""
        name = name.encode("utf-8", "replace").decode()
        sent = complete(Completions({name: Alias(QWEN)}), {**others, "model": name})
        self.assertEqual(sent, {**others, "model": QWEN})


class StrictTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.completions = Completions({"gpt": Alias(QWEN), "gone": Alias("a/deleted")})
        self.completions.known = KNOWN

    def test_known(self) -> None:
        """A key, a variant, an instance and an alias pass."""
        for name in (QWEN, f"{QWEN}@q8_0", "fast", "gpt"):
            complete(self.completions, {"model": name})

    def test_unknown(self) -> None:
        """Another name is refused as OpenAI does it, with what may have been meant."""
        error = self.assertRaises(UnknownModel, complete, self.completions, {"model": "qwen3-8b"})
        shape = (error.status, error.kind, error.code, error.param)
        self.assertEqual(shape, (404, "invalid_request_error", "model_not_found", "model"))
        self.assertIn('There is no model "qwen3-8b" here. Did you mean "qwen/qwen3-8b"?', error.message)

    def test_aliasOfNothing(self) -> None:
        """An alias for a model that LM Studio does not have is refused, and the refusal says which model that is."""
        error = self.assertRaises(UnknownModel, complete, self.completions, {"model": "gone"})
        self.assertIn('The alias "gone" stands for "a/deleted"', error.message)

    def test_active(self) -> None:
        """An active model that was deleted is refused, too: another one would answer."""
        self.assertRaises(UnknownModel, complete, self.completions, {}, ActiveModel("a/deleted"))

    def test_instanceGone(self) -> None:
        """Of an active instance that was unloaded the key is asked for, and LM Studio loads it again."""
        self.assertEqual(complete(self.completions, {}, ActiveModel("b/b", "mine")), {"model": "b/b"})
        self.assertEqual(complete(self.completions, {}, ActiveModel(QWEN, "fast")), {"model": "fast"})

    def test_longName(self) -> None:
        """A name of any length is refused in a short sentence."""
        error = self.assertRaises(UnknownModel, complete, self.completions, {"model": "x" * 100_000})
        self.assertLess(len(error.message), 500)

    def test_notKnown(self) -> None:
        """While it is not known what LM Studio has, every name passes."""
        self.completions.known = None
        self.assertEqual(complete(self.completions, {"model": "x"}), {"model": "x"})

    def test_off(self) -> None:
        """Where it is turned off, every name passes."""
        self.completions.configure({}, {}, isStrict=False)
        self.assertEqual(complete(self.completions, {"model": "x"}), {"model": "x"})

    def test_learned(self) -> None:
        """What was refused passes once LM Studio has it, and what passed is refused once it is gone."""
        self.assertRaises(UnknownModel, complete, self.completions, {"model": "new"})
        self.completions.known = KnownModels(Inventory((DownloadedModel("new", "llm", "new"),)))
        complete(self.completions, {"model": "new"})
        self.assertRaises(UnknownModel, complete, self.completions, {"model": QWEN})


class GrantTests(SynchronousTestCase):
    def test_globs(self) -> None:
        """A key meant for some models may ask those, by key, instance or alias, and no other."""
        completions = Completions({"gpt": Alias("b/b")})
        completions.known = KNOWN
        for globs, allowed, refused in (
            (("qwen/*",), (QWEN, "fast", f"{QWEN}@q8_0"), ("b/b", "gpt", "x")),
            (("gpt",), ("gpt",), ("b/b", QWEN)),
        ):
            principal = Principal("k", frozenset(), None, Grant(models=globs))
            for name in allowed:
                complete(completions, {"model": name}, None, principal)
            for name in refused:
                error = self.assertRaises(Forbidden, complete, completions, {"model": name}, None, principal)
                self.assertEqual(error.code, "model_not_allowed")

    def test_active(self) -> None:
        """The active model is no way around it."""
        principal = Principal("k", frozenset(), None, Grant(models=("qwen/*",)))
        self.assertRaises(Forbidden, complete, Completions(), {}, ActiveModel("b/b"), principal)

    def test_notShared(self) -> None:
        """What one key may is not what another may, though both ask for the same."""
        completions = Completions()
        complete(completions, {"model": "a"})
        limited = Principal(ANYBODY.name, frozenset(), None, Grant(models=("b",)))
        self.assertRaises(Forbidden, complete, completions, {"model": "a"}, None, limited)


class MemoryTests(SynchronousTestCase):
    def test_same(self) -> None:
        """What was worked out once is given again."""
        completing = Completions({}, {"m": ModelDefaults({"topK": 1})}).completing("openai", "all", None, ANYBODY)
        self.assertIs(completing("m"), completing("m"))

    def test_activated(self) -> None:
        """Another active model is another completion, though it has the same name."""
        completions = Completions()
        first, second = (ActiveModel("m", None, {"topK": number}) for number in (1, 2))
        self.assertEqual(complete(completions, {}, first)["top_k"], 1)
        self.assertEqual(complete(completions, {}, second)["top_k"], 2)

    def test_bounded(self) -> None:
        """Clients that make up names do not fill the memory."""
        completions = Completions()
        completing = completions.completing("openai", "all", None, ANYBODY)
        for number in range(REMEMBERED * 2):
            completing(str(number))
        completing("x" * 1000)
        self.assertLessEqual(len(completions._remembered), REMEMBERED)
