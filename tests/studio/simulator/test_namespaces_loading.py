"""Models loaded and unloaded over the WebSockets of the SDKs: progress, errors, and every way it can end."""

from __future__ import annotations

from lmgateway.studio.simulator.loading import STEPS

from tests.studio.simulator.sdk import NO_CONFIG, Namespaces, Sdk, kinds, stack
from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, chat


class LoadTests(Namespaces):
    def test_progress(self) -> None:
        """First what will be loaded, then how far it is, then the instance, then the end; by the clock."""
        self.begin(loadTime=10)
        resolved, first = self.load(GEMMA, identifier="mine", ttlMs=5000)
        self.assertEqual((resolved["type"], resolved["info"]["modelKey"]), ("resolved", GEMMA))
        self.assertEqual(first, {"type": "progress", "progress": 0})
        self.studio.clock.advance(5)
        self.assertEqual(self.llm.messages()[-1]["progress"], 0.5)
        self.assertEqual(self.loaded(), [QWEN])
        self.studio.clock.pump([0.5] * 10)
        *progress, success, close = self.llm.messages()
        self.assertEqual(progress[-1], {"type": "progress", "progress": 1})
        self.assertEqual(len(progress), STEPS // 2)
        self.assertEqual((success["type"], success["info"]["identifier"]), ("success", "mine"))
        self.assertEqual((success["info"]["ttlMs"], close["type"]), (5000, "channelClose"))
        self.assertEqual(self.loaded(), [QWEN, "mine"])
        self.studio.clock.advance(5)
        self.assertEqual(self.loaded(), [QWEN])

    def test_again(self) -> None:
        """Without an identifier a second instance gets a number; one that is taken is an error."""
        self.assertEqual(self.load(QWEN)[-2]["info"]["identifier"], f"{QWEN}:2")
        error = self.load(QWEN, identifier=QWEN)[-1]["error"]
        self.assertIn(QWEN, error["title"])
        self.assertEqual(self.loaded(), [QWEN, f"{QWEN}:2"])

    def test_rest(self) -> None:
        """What an SDK loads is there for REST, with its own name and its own slots."""
        self.load(GEMMA, identifier="mine", loadConfigStack=stack(llm_load_numParallelSessions=1))
        model = self.studio.ask("/api/v1/models").json["models"][1]
        (instance,) = model["loaded_instances"]
        self.assertEqual((instance["id"], instance["config"]["parallel"]), ("mine", 1))
        self.assertEqual(self.studio.ask("/v1/chat/completions", chat("hi", "mine")).json["model"], "mine")

    def test_unknown(self) -> None:
        """Only a key or a variant loads; half of a name does not, nor a model of the other kind."""
        self.assertEqual(self.load(f"{QWEN}@q4_k_m")[-1]["type"], "channelClose")
        for key in ("nope", "qwen3-8b"):
            error = self.load(key)[-1]["error"]
            self.assertEqual(
                (error["displayData"]["code"], error["displayData"]["path"]), ("generic.pathNotFound", key)
            )
        data = self.load(NOMIC)[-1]["error"]["displayData"]
        self.assertEqual((data["actualDomain"], data["expectedDomain"]), ("embedding", "llm"))

    def test_cancel(self) -> None:
        """A load that is taken back ends, and leaves nothing."""
        self.begin(loadTime=10)
        self.load(GEMMA)
        self.studio.clock.advance(2)
        self.llm.cancel()
        self.assertEqual(self.llm.messages()[-1]["type"], "channelError")
        self.studio.clock.advance(20)
        self.assertEqual(self.loaded(), [QWEN])
        self.assertEqual(self.studio.simulator.shelf.instances(20), self.studio.simulator.shelf.instances(0))

    def test_failure(self) -> None:
        """A load that fails says why, after its time."""
        self.begin(loadTime=2, failLoad="no memory")
        self.load(GEMMA)
        self.studio.clock.pump([0.1] * 21)
        error = self.llm.messages()[-1]["error"]
        self.assertEqual((error["title"], error["cause"]), ("Error loading model.", "no memory"))
        self.assertEqual(self.loaded(), [QWEN])

    def test_connectionLost(self) -> None:
        """A load goes on although the connection is lost."""
        self.begin(loadTime=2)
        self.load(GEMMA)
        self.llm.connection.leave()
        self.studio.clock.pump([0.1] * 21)
        self.llm = Sdk.authenticated(self.studio)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_dropped(self) -> None:
        """The connection is cut in the middle of the progress, and the model loaded all the same."""
        self.begin(loadTime=2, dropSocket=0.5)
        self.load(GEMMA)
        self.studio.clock.pump([0.1] * 8)
        self.assertFalse(self.llm.closed)
        self.studio.clock.pump([0.1] * 13)
        self.assertTrue(self.llm.closed)
        self.llm = Sdk.authenticated(self.studio)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_unload(self) -> None:
        """An instance is unloaded by its identifier; whoever waits for it is told; an unknown one is an error."""
        self.assertIsNone(self.llm.call("unloadModel", {"identifier": QWEN}))
        self.assertEqual(self.loaded(), [])
        error = self.llm.call("unloadModel", {"identifier": QWEN})
        self.assertEqual(error["displayData"]["code"], "generic.identifierNotFound")

    def test_unloadLoading(self) -> None:
        """What is still loading can be unloaded, which ends the load."""
        self.begin(loadTime=5)
        self.load(GEMMA)
        self.llm.say(type="rpcCall", endpoint="unloadModel", callId=1, parameter={"identifier": GEMMA})
        packets = self.llm.take()
        self.assertEqual([packet["type"] for packet in packets], ["channelError", "rpcResult"])
        self.assertEqual(packets[0]["error"]["cause"], "Model unloaded.")

    def test_forbidden(self) -> None:
        """Without the permission nothing is loaded and nothing unloaded; what is there can be got."""
        self.begin(forbidManagement=True)
        errors = [self.load(GEMMA)[-1], self.obtain(GEMMA)[-1]]
        self.assertEqual({each["error"]["title"] for each in errors}, {"Permission denied"})
        self.assertEqual(self.llm.call("unloadModel", {"identifier": QWEN})["title"], "Permission denied")
        self.assertEqual(kinds(self.obtain(QWEN)), ["alreadyLoaded", "channelClose"])
        self.assertEqual(self.loaded(), [QWEN])


class GetOrLoadTests(Namespaces):
    def test_loaded(self) -> None:
        """What is loaded is got, by its identifier or its key."""
        for name in (QWEN, "qwen3-8b"):
            found, close = self.obtain(name)
            self.assertEqual((found["type"], found["info"]["identifier"]), ("alreadyLoaded", QWEN))
            self.assertEqual(close["type"], "channelClose")

    def test_justInTime(self) -> None:
        """What is not is loaded just in time, for an hour or as long as is said, and evicts what was loaded so."""
        said = self.obtain(GEMMA)
        self.assertEqual(kinds(said), ["startLoading", "loadProgress", "loadSuccess", "channelClose"])
        self.assertEqual((said[0]["identifier"], said[0]["info"]["modelKey"]), (GEMMA, GEMMA))
        self.assertEqual(said[-2]["info"]["ttlMs"], 3_600_000)
        said = self.obtain(GPT_OSS, loadTtlMs=1500)
        self.assertEqual(said[1]["type"], "unloadingOtherJITModel")
        self.assertEqual(said[1]["info"]["identifier"], GEMMA)
        self.assertEqual(said[-2]["info"]["ttlMs"], 1500)
        self.assertEqual(self.loaded(), [QWEN, GPT_OSS])

    def test_cancel(self) -> None:
        """It can be taken back."""
        self.begin(loadTime=5)
        self.obtain(GEMMA)
        self.llm.cancel()
        self.assertEqual(self.llm.messages()[-1]["type"], "channelError")
        self.assertEqual(self.loaded(), [QWEN])

    def test_together(self) -> None:
        """Two who want the same wait for the same load; one who gives up does not take it from the other."""
        self.begin(loadTime=5)
        self.obtain(GEMMA)
        self.studio.clock.advance(1)
        self.llm.create("getOrLoad", {"identifier": GEMMA, "loadConfigStack": NO_CONFIG}, channelId=5)
        self.llm.cancel(0)
        self.llm.take()
        self.studio.clock.pump([1] * 4)
        said = self.llm.messages(5)
        self.assertEqual((said[-2]["type"], said[-2]["info"]["identifier"]), ("loadSuccess", GEMMA))
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_unknown(self) -> None:
        """What is not downloaded cannot be got."""
        self.assertEqual(self.obtain("nope")[-1]["error"]["displayData"]["code"], "generic.pathNotFound")
