"""What an admin may say of loading and unloading a model."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import BadRequest
from lmgateway.inventory import LoadOrder
from lmgateway.policy.checks import ValidationFailed
from lmgateway.policy.loading import (
    LOAD_CONFIG,
    MOST,
    CancelRequest,
    LoadRequest,
    UnloadRequest,
    checkLoadConfig,
    completeOrder,
    decodeCancel,
    decodeLoad,
    decodeUnload,
    settingsIn,
)
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import jsonObjects, mutations

GOOD: dict[str, tuple[Any, ...]] = {
    "contextLength": (1, 131072, MOST),
    "gpu": ({"ratio": 0}, {"ratio": 1, "layers": 0}, {"ratio": 0.5}, {"layers": 40}),
    "cpuThreads": (1, 64),
    "ropeFrequencyBase": (0.1, 10000),
    "ropeFrequencyScale": (0.0001, 1),
    "evalBatchSize": (1, 512),
    "flashAttention": (True, False),
    "numExperts": (1, 8),
    "offloadKvCacheToGpu": (True, False),
    "parallel": (1, 4),
}
BAD: dict[str, tuple[Any, ...]] = {
    "contextLength": (0, -1, 1.0, True, "1", MOST + 1, 10**400),
    "gpu": ("max", 1, [], True),
    "cpuThreads": (0, 1.5, False),
    "ropeFrequencyBase": (0, -1, "1", True, float("nan"), float("inf")),
    "ropeFrequencyScale": (0, 0.0, [1]),
    "evalBatchSize": (0, "512"),
    "flashAttention": (0, 1, "on"),
    "numExperts": (0, 1.0),
    "offloadKvCacheToGpu": ("true", 1),
    "parallel": (0, -4),
}

CONFIGS = st.fixed_dictionaries(
    {}, optional={name: st.one_of(st.none(), *map(st.just, values)) for name, values in GOOD.items()}
)


def pathsOf(config: object) -> list[Any]:
    """Where a ``loadConfig`` is found to be wrong."""
    return [list(path) for path, _ in checkLoadConfig(config, ("loadConfig",))]


def ordered(config: object) -> Any:
    """What becomes of a ``loadConfig`` in the order that has it."""
    return decodeLoad(json.dumps({"modelKey": "m", "loadConfig": config}).encode()).order.loadConfig


class LoadConfigTests(SynchronousTestCase):
    def test_table(self) -> None:
        """The names are those of the contract."""
        self.assertEqual(list(LOAD_CONFIG), list(GOOD))

    def test_good(self) -> None:
        """What is within the ranges passes, their ends included, and comes back as it is."""
        for name, values in GOOD.items():
            for value in values:
                self.assertEqual(ordered({name: value}), {name: value})

    def test_bad(self) -> None:
        """What is out of range or of another type is refused, with the path of the field."""
        for name, values in BAD.items():
            for value in values:
                self.assertEqual(pathsOf({name: value}), [["loadConfig", name]], f"{name}: {value!r}")

    def test_gpu(self) -> None:
        """A fault within ``gpu`` is named with its whole path, and so is what does not belong there."""
        for value, member in (({"ratio": 1.1}, "ratio"), ({"ratio": -1}, "ratio"), ({"layers": -1}, "layers")):
            self.assertEqual(pathsOf({"gpu": value}), [["loadConfig", "gpu", member]])
        self.assertEqual(
            pathsOf({"gpu": {"ratio": 2, "split": 1}}), [["loadConfig", "gpu", n] for n in ("ratio", "split")]
        )

    def test_unknown(self) -> None:
        """A name that is not in the table is refused, and so is what is no object."""
        self.assertEqual(pathsOf({"context_length": 1}), [["loadConfig", "context_length"]])
        for value in (None, [], 1, "a"):
            self.assertEqual(pathsOf(value), [["loadConfig"]])

    def test_null(self) -> None:
        """``null`` is as good as leaving a member out, wherever it stands."""
        self.assertEqual(ordered({"contextLength": None, "gpu": {"ratio": None}, "parallel": 2}), {"parallel": 2})
        self.assertEqual(ordered({"gpu": None}), {})

    @given(CONFIGS)
    def test_idempotent(self, config: dict[str, Any]) -> None:
        """What has passed once passes again unchanged, and holds no ``null``."""
        once = ordered(config)
        self.assertEqual(ordered(once), once)
        self.assertNotIn("null", json.dumps(once))


class DecodeTests(SynchronousTestCase):
    def test_load(self) -> None:
        """Each member of a load finds its place."""
        body = {
            "modelKey": "m",
            "instanceId": "i",
            "loadConfig": {"contextLength": 8, "gpu": {"ratio": 1}},
            "ttlSeconds": 60,
            "defaultInference": {"topP": 0.5},
            "activate": False,
        }
        order = LoadOrder("m", "i", {"contextLength": 8, "gpu": {"ratio": 1}}, 60)
        expected = LoadRequest(order, activate=False, defaultInference={"topP": 0.5})
        self.assertEqual(decodeLoad(json.dumps(body).encode()), expected)

    def test_least(self) -> None:
        """The key alone will do, ``null`` for the rest is as good as nothing, and a load activates unless told otherwise."""
        names = ("instanceId", "loadConfig", "ttlSeconds", "defaultInference", "activate")
        expected = LoadRequest(LoadOrder("m", None, {}, None), activate=True, defaultInference={})
        self.assertEqual(decodeLoad(b'{"modelKey":"m"}'), expected)
        self.assertEqual(decodeLoad(json.dumps({"modelKey": "m", **dict.fromkeys(names)}).encode()), expected)

    def test_faults(self) -> None:
        """All faults of a load are told at once, each by its path."""
        body = {"instanceId": "", "ttlSeconds": 0, "activate": 1, "loadConfig": {"parallel": 0}, "x": 1}
        error = self.assertRaises(ValidationFailed, decodeLoad, json.dumps(body).encode())
        self.assertEqual(
            [one["path"] for one in error.details or ()],
            [["modelKey"], ["instanceId"], ["ttlSeconds"], ["activate"], ["loadConfig", "parallel"], ["x"]],
        )
        for ttl in (1.5, "60", True, -1):
            self.assertRaises(ValidationFailed, decodeLoad, json.dumps({"modelKey": "m", "ttlSeconds": ttl}).encode())

    def test_unload(self) -> None:
        """An unload has a model, perhaps an instance, and force only where it is asked for."""
        self.assertEqual(decodeUnload(b'{"modelKey":"m"}'), UnloadRequest("m", None, force=False))
        self.assertEqual(
            decodeUnload(b'{"modelKey":"m","instanceId":"i","force":true}'), UnloadRequest("m", "i", force=True)
        )
        self.assertRaises(ValidationFailed, decodeUnload, b'{"modelKey":"m","force":"yes"}')
        self.assertRaises(ValidationFailed, decodeUnload, b'{"instanceId":"i"}')

    def test_cancel(self) -> None:
        """A cancellation names what a load named."""
        self.assertEqual(decodeCancel(b'{"modelKey":"m","instanceId":null}'), CancelRequest("m", None))
        self.assertEqual(decodeCancel(b'{"modelKey":"m","instanceId":"i"}'), CancelRequest("m", "i"))
        self.assertRaises(ValidationFailed, decodeCancel, b'{"modelKey":"m","force":true}')

    @given(
        st.one_of(
            st.binary(max_size=30),
            mutations(jsonObjects("modelKey", "instanceId", "loadConfig", "ttlSeconds", "activate", "force")),
        )
    )
    def test_total(self, body: bytes) -> None:
        """Nothing but BadRequest ever comes out of arbitrary bytes, and nothing without a key."""
        for decode in (decodeLoad, decodeUnload, decodeCancel):
            try:
                decoded: Any = decode(body)
            except BadRequest:
                continue
            self.assertTrue(getattr(decoded, "order", decoded).modelKey.strip())


class CompleteOrderTests(SynchronousTestCase):
    def test_gpu(self) -> None:
        """Who orders layers is not given a ratio besides, which says the same in another way."""
        order = completeOrder(LoadOrder("m", "i", {"gpu": {"layers": 3}}, 5), {"gpu": {"ratio": 1}, "parallel": 2})
        self.assertEqual(order, LoadOrder("m", "i", {"gpu": {"layers": 3}, "parallel": 2}, 5))

    @given(CONFIGS, CONFIGS)
    def test_wins(self, said: dict[str, Any], defaults: dict[str, Any]) -> None:
        """Each member is the ordered one where it was ordered, else the one that is set; and nothing else is there."""
        wanted = ordered(said)
        whole = completeOrder(LoadOrder("m", None, wanted), defaults).loadConfig
        least = ordered(defaults)
        self.assertEqual(whole, {name: wanted.get(name, least.get(name)) for name in {*wanted, *least}})


class SettingsInTests(SynchronousTestCase):
    def test_names(self) -> None:
        """What lies in an object is named with the object's name."""
        self.assertEqual(
            list(settingsIn({"gpu": {"ratio": 1, "layers": 2}, "parallel": 1})), ["gpu.ratio", "gpu.layers", "parallel"]
        )
