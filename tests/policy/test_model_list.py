"""The list of models as clients get it."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.completion import Alias
from lmgateway.policy.model_list import ModelList
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import jsonObjects, mutations

BODY = b'{"data":[{"id":"a/b","object":"model","owned_by":"organization_owner","x":1.50},{"id":"c"}],"object":"list"}'
NAMES = st.text(st.characters(codec="utf-8"), max_size=20)


def rendered(body: bytes, aliases: dict[str, Alias], globs: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The items of a list."""
    listed = ModelList.read(body)
    assert listed is not None
    result = json.loads(listed.render(aliases, globs))
    assert result["object"] == "list"
    items: list[dict[str, Any]] = result["data"]
    return items


class ModelListTests(SynchronousTestCase):
    def test_letter(self) -> None:
        """A list that nothing is added to is written as it came, and else each of LM Studio's items is, to the letter."""
        body = BODY.replace(b",", b" ,\n", 1)
        listed = ModelList.read(body)
        assert listed is not None
        self.assertEqual(listed.render({}), body)
        self.assertIn(b'"x":1.50}', listed.render({"gpt": Alias("c")}))

    def test_aliases(self) -> None:
        """Aliases come last, each with the model behind it; one that is a model's own name is there once."""
        items = rendered(BODY, {"gpt": Alias("a/b"), "c": Alias("a/b")})
        self.assertEqual([item["id"] for item in items], ["a/b", "c", "gpt"])
        self.assertEqual(items[-1], {"id": "gpt", "root": "a/b", "object": "model", "owned_by": "lmgateway"})

    def test_globs(self) -> None:
        """Who may ask some models sees those, and the aliases that stand for them."""
        aliases = {"gpt": Alias("a/b"), "other": Alias("c")}
        self.assertEqual([item["id"] for item in rendered(BODY, aliases, ("a/*",))], ["a/b", "gpt"])
        self.assertEqual([item["id"] for item in rendered(BODY, aliases, ("other",))], ["other"])

    def test_known(self) -> None:
        """A list can be made of names alone."""
        self.assertEqual([item["id"] for item in json.loads(ModelList.of(("x", "y")).render({}))["data"]], ["x", "y"])

    @given(st.one_of(st.binary(), jsonObjects("data", "object", "id"), mutations(st.just(BODY))))
    def test_total(self, body: bytes) -> None:
        """Whatever LM Studio answers is a list or none, and a list can be written for everybody."""
        listed = ModelList.read(body)
        if listed is not None:
            json.loads(listed.render({"gpt": Alias("a")}, ("*",)).decode("utf-8", "replace"))

    @given(st.lists(NAMES, unique=True), st.dictionaries(NAMES, NAMES))
    def test_names(self, ids: list[str], aliases: dict[str, str]) -> None:
        """Every model and every alias is there exactly once, whatever they are called."""
        body = json.dumps({"data": [{"id": id_} for id_ in ids], "object": "list"}).encode()
        items = rendered(body, {name: Alias(model) for name, model in aliases.items()})
        self.assertEqual(sorted(item["id"] for item in items), sorted({*ids, *aliases}))
