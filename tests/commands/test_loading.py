"""Having a model loaded, over real sockets: the answer and the progress come by two of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.commands.loading import PROGRESS, Loading, Progress, Trouble, progressOf
from lmgateway.commands.talk import Place, TalkError
from lmgateway.telemetry.sse import StreamEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import LittleGateway, Said, error, events, json200
from tests.commands.test_talk import VALUES

STREAM = "/debug/stream"
LOAD = "/admin/models/load"
ORDER = {"modelKey": "qwen", "instanceId": "mine"}
LOADED = {"status": "loaded", "modelKey": "qwen", "instanceId": "mine", "message": "qwen is loaded."}
CONNECTED = b"event: connected\ndata: {}\n\n"


def progress(percent: float, modelKey: str = "qwen", instanceId: str | None = "mine") -> bytes:
    """An event as the gateway sends it."""
    data = {"modelKey": modelKey, "instanceId": instanceId, "progress": percent, "progressRaw": percent / 100}
    return b"event: model_load_progress\ndata: %b\n\n" % json.dumps(data).encode()


class LoadingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.isLoaded = threading.Event()

    def loading(self, stream: list[Said], said: Said | None = None, order: Mapping[str, Any] = ORDER) -> Loading:
        """A load at a gateway that has these streams, and has loaded when the test says so."""
        answers = {STREAM: stream, LOAD: [said or json200(LOADED, after=self.isLoaded)]}
        self.gateway = LittleGateway(self, answers)
        return Loading(Place(self.gateway.url), order)

    def test_progress(self) -> None:
        """The progress of this load, and of no other, is told before the answer; the load begins when the stream has begun."""
        others = progress(70, "other") + progress(80, instanceId="other") + b"event: debug_log\ndata: {}\n\n"
        loading = self.loading([events(CONNECTED, progress(12.5), others, progress(50), isHeld=True)])
        updates = loading.updates()
        self.assertEqual([next(updates), next(updates)], [Progress(12.5), Progress(50.0)])
        self.assertEqual(loading.answer, {})
        self.isLoaded.set()
        self.assertEqual(list(updates), [])
        self.assertEqual(loading.answer, LOADED)
        self.assertEqual(self.gateway.targets, [f"{STREAM}?types={PROGRESS}", LOAD])
        self.assertEqual(self.gateway.orders(), [(LOAD, ORDER)])

    def test_anyInstance(self) -> None:
        """Where LM Studio chooses the instance's name, the progress is found by the model's."""
        loading = self.loading([events(CONNECTED, progress(10), isHeld=True)], order={"modelKey": "qwen"})
        self.assertEqual(next(loading.updates()), Progress(10.0))

    def test_streamLost(self) -> None:
        """A stream that breaks off is taken up again, and that it broke is told; the load is none the worse."""
        loading = self.loading(
            [events(CONNECTED, progress(10)), events(CONNECTED, progress(20), isHeld=True)], order={"modelKey": "qwen"}
        )
        updates = loading.updates()
        self.assertEqual(
            [next(updates), next(updates), next(updates)],
            [Progress(10.0), Trouble("The gateway ended the stream. Trying again in 0.001 s."), Progress(20.0)],
        )
        self.isLoaded.set()
        self.assertEqual((list(updates), loading.answer), ([], LOADED))

    def test_noStream(self) -> None:
        """Where the progress cannot be heard, that is told, and the model is loaded all the same."""
        self.isLoaded.set()
        loading = self.loading([error(429, {"error": "Too many follow."})])
        troubles = list(loading.updates())
        self.assertEqual(loading.answer, LOADED)
        self.assertEqual(len(troubles), 1)
        self.assertRegex(str(troubles[0]), r"The progress cannot be shown\. .* 429: Too many follow\.")

    def test_failed(self) -> None:
        """A load that fails ends with what the gateway says, whatever was heard before."""
        self.isLoaded.set()
        loading = self.loading([events(CONNECTED, isHeld=True)], error(502, {"error": "LM Studio could not load it."}))
        failure = self.assertRaises(TalkError, list, loading.updates())
        self.assertIn("502: LM Studio could not load it.", failure.message)
        self.assertEqual(loading.answer, {})

    def test_cut(self) -> None:
        """An answer that breaks off is no load."""
        self.isLoaded.set()
        loading = self.loading([events(CONNECTED, isHeld=True)], Said(pieces=(b'{"status":"loaded"}',), isCut=True))
        self.assertRaises(TalkError, list, loading.updates())

    def test_cancel(self) -> None:
        """What is cancelled is this load: its model, and its instance where one was named, and nothing else of the order."""
        for order, cancelled in (
            ({**ORDER, "ttlSeconds": 5, "activate": True}, ORDER),
            ({"modelKey": "qwen", "loadConfig": {}}, {"modelKey": "qwen"}),
        ):
            gateway = LittleGateway(self, {f"{LOAD}/cancel": [json200({"status": "cancelled"})]})
            self.assertEqual(Loading(Place(gateway.url), order).cancel(), {"status": "cancelled"})
            self.assertEqual(gateway.orders(), [(f"{LOAD}/cancel", cancelled)])


class ProgressTests(SynchronousTestCase):
    @given(
        st.fixed_dictionaries(
            {"modelKey": st.sampled_from(["qwen", "other"]) | VALUES, "progress": VALUES},
            optional={"instanceId": st.sampled_from(["mine", "other"]) | VALUES},
        )
        | VALUES,
        st.sampled_from([PROGRESS, "model_load_start"]),
    )
    def test_total(self, data: object, kind: str) -> None:
        """Whatever an event says, it is a percentage of our load or nothing."""
        percent = progressOf(StreamEvent(id="1", kind=kind, data=json.dumps(data)), ORDER)
        if percent is not None:
            self.assertTrue(0 <= percent <= 100)
            assert isinstance(data, dict)
            self.assertEqual((kind, data["modelKey"], data["instanceId"]), (PROGRESS, "qwen", "mine"))
