"""What LM Studio's SDKs can ask for: models listed and told of; texts predicted, counted and embedded."""

from __future__ import annotations

from lmgateway.studio.simulator.models import CATALOGUE

from tests.studio.simulator.sdk import NO_CONFIG, Namespaces, history, kinds, named, stack
from tests.studio.simulator.wire import GEMMA, NOMIC, QWEN, chat


class ListTests(Namespaces):
    def test_downloaded(self) -> None:
        """Everything that is downloaded, and nothing where that is nothing."""
        keys = [model["modelKey"] for model in self.system.call("listDownloadedModels")]
        self.assertEqual(keys, [model.key for model in CATALOGUE])
        self.begin(noModels=True)
        self.assertEqual((self.system.call("listDownloadedModels"), self.loaded()), ([], []))

    def test_loaded(self) -> None:
        """Each namespace tells of its own kind."""
        self.studio.ask("/v1/embeddings", {"model": NOMIC, "input": "x"})
        self.assertEqual([each["identifier"] for each in self.llm.call("listLoaded")], [QWEN])
        (nomic,) = self.embedding.call("listLoaded")
        self.assertEqual((nomic["identifier"], nomic["type"], nomic["ttlMs"]), (NOMIC, "embedding", 3_600_000))

    def test_system(self) -> None:
        """Who is asked."""
        self.assertEqual(self.system.call("version"), {"version": "0.4.25", "build": 1})
        self.assertEqual(self.system.call("info")["version"], "0.4.25")

    def test_info(self) -> None:
        """A loaded model is told of by its identifier, its key, its reference, or if it is any."""
        reference = self.llm.call("listLoaded")[0]["instanceReference"]
        for specifier in (
            named(QWEN),
            named("qwen3-8b"),
            {"type": "query", "query": {}},
            {"type": "query", "query": {"path": QWEN, "domain": "llm", "vision": False}},
            {"type": "instanceReference", "instanceReference": reference},
        ):
            info = self.llm.call("getModelInfo", {"specifier": specifier, "throwIfNotFound": True})
            self.assertEqual(info["identifier"], QWEN)

    def test_noInfo(self) -> None:
        """What is not loaded is nothing, or an error that names what is."""
        for query in ({"identifier": GEMMA}, {"vision": True}, {"domain": "embedding"}, {"path": "x"}):
            specifier = {"type": "query", "query": query}
            self.assertIsNone(self.llm.call("getModelInfo", {"specifier": specifier, "throwIfNotFound": False}))
            error = self.llm.call("getModelInfo", {"specifier": specifier, "throwIfNotFound": True})
            data = {"code": "generic.noModelMatchingQuery", "query": query, "loadedModelsSample": [QWEN]}
            self.assertEqual(error["displayData"], {**data, "totalLoadedModels": 1})
        gone = {"type": "instanceReference", "instanceReference": "x"}
        error = self.llm.call("getLoadConfig", {"specifier": gone})
        self.assertEqual(error["displayData"], {"code": "generic.specificModelUnloaded"})

    def test_config(self) -> None:
        """What a model was loaded with: what was asked for, and what was not; unknown fields are gone."""
        wanted = stack(llm_load_contextLength=100, llm_load_llama_acceleration_offloadRatio="max", llm_load_nope=1)
        self.load(GEMMA, loadConfigStack=wanted, identifier="mine")
        told = self.llm.call("getLoadConfig", {"specifier": named("mine")})
        fields = {field["key"]: field["value"] for field in told["fields"]}
        self.assertEqual(fields["llm.load.contextLength"], 100)
        self.assertEqual(fields["llm.load.llama.acceleration.offloadRatio"], 1)
        self.assertEqual(fields["llm.load.numParallelSessions"], 4)
        self.assertNotIn("llm.load.nope", fields)

    def test_state(self) -> None:
        """Idle, reading, or generating; with how many there are."""
        self.begin(prefill=5, tokensPerSecond=1, parallel=1)
        state = {"specifier": named(QWEN), "throwIfNotFound": True}
        self.assertEqual(self.llm.call("getInstanceProcessingState", state), {"status": "idle", "queued": 0})
        self.studio.connect().send("/v1/chat/completions", chat("count to 9", QWEN, stream=True))
        self.studio.connect().send("/v1/chat/completions", chat("count to 9", QWEN))
        expected = {"status": "processingPrompt", "queued": 2}
        self.assertEqual(self.llm.call("getInstanceProcessingState", state), expected)
        self.studio.clock.advance(6)
        self.assertEqual(self.llm.call("getInstanceProcessingState", state)["status"], "generating")
        self.studio.clock.pump([100] * 4)
        self.assertEqual(self.llm.call("getInstanceProcessingState", state)["status"], "idle")


class PredictTests(Namespaces):
    def test_answer(self) -> None:
        """Progress of the prompt, fragments, the end."""
        self.predict("hi")
        said = self.llm.messages(9)
        self.assertEqual(kinds(said), ["promptProcessingProgress", "fragment", "success", "channelClose"])
        self.assertEqual([message["progress"] for message in said[:2]], [0, 1])
        text = "".join(each["fragment"]["content"] for each in said if each["type"] == "fragment")
        self.assertTrue(text.startswith("<think>"))
        self.assertTrue(text.endswith("You said: hi"))

    def test_pace(self) -> None:
        """Tokens come at the speed that was set, and the answer counts as one that is generated."""
        self.begin(tokensPerSecond=10)
        self.predict("count to 20", QWEN)
        self.llm.messages(9)
        self.assertEqual(self.studio.simulator.generating, 1)
        self.studio.clock.advance(0.3)
        self.assertEqual(len(self.llm.messages(9)), 3)
        self.studio.clock.advance(100)
        self.assertEqual(self.llm.messages(9)[-1]["type"], "channelClose")
        self.assertEqual(self.studio.simulator.generating, 0)

    def test_queue(self) -> None:
        """A prediction waits for a slot like any request."""
        self.begin(tokensPerSecond=10, parallel=1)
        self.studio.connect().send("/v1/chat/completions", chat("count to 5", QWEN, stream=True))
        self.predict("hi")
        self.assertEqual(self.llm.messages(9), [])
        self.assertEqual(self.studio.simulator.queued, 1)
        self.studio.clock.pump([100] * 4)
        self.assertEqual(kinds(self.llm.messages(9))[-1], "channelClose")

    def test_cancel(self) -> None:
        """A prediction that is taken back ends with what was said, by the user's will, and its slot is free."""
        self.begin(tokensPerSecond=10)
        self.predict("count to 100", GEMMA)
        self.assertEqual(self.llm.messages(9)[-1]["type"], "channelError")
        self.load(GEMMA)
        self.predict("count to 100", GEMMA)
        self.studio.clock.advance(0.35)
        self.llm.cancel(9)
        *_, success, close = self.llm.messages(9)
        self.assertEqual((success["type"], close["type"]), ("success", "channelClose"))
        self.assertEqual(success["stats"]["stopReason"], "userStopped")
        self.assertEqual(success["stats"]["predictedTokensCount"], 4)
        self.assertEqual((self.studio.simulator.generating, self.studio.clock.getDelayedCalls()), (0, []))

    def test_cancelEarly(self) -> None:
        """In the queue it ends at once; while the prompt is read, when it is read."""
        self.begin(prefill=10, parallel=1)
        self.studio.connect().send("/v1/chat/completions", chat("hi", QWEN))
        self.predict("hi")
        self.llm.cancel(9)
        self.assertEqual(self.llm.messages(9)[0]["stats"]["stopReason"], "userStopped")
        self.studio.clock.advance(10)
        self.llm.take()
        self.predict("hi")
        self.llm.cancel(9)
        self.assertEqual(kinds(self.llm.messages(9)), ["promptProcessingProgress"])
        self.studio.clock.advance(10)
        self.assertEqual(kinds(self.llm.messages(9)), ["success", "channelClose"])

    def test_connectionLost(self) -> None:
        """A client that leaves frees its slot."""
        self.begin(tokensPerSecond=10)
        self.predict("count to 100", QWEN)
        self.llm.connection.leave()
        self.assertEqual(self.studio.simulator.generating, 0)

    def test_unloaded(self) -> None:
        """A model that is unloaded meanwhile is an error; so is one that is not loaded, and a fault of the model's."""
        self.begin(tokensPerSecond=1)
        self.predict("count to 100", QWEN)
        self.studio.ask("/api/v1/models/unload", {"instance_id": QWEN})
        error = self.llm.messages(9)[-1]["error"]
        self.assertEqual(error["displayData"]["code"], "generic.specificModelUnloaded")
        self.predict("hi")
        self.assertEqual(self.llm.messages(9)[-1]["error"]["displayData"]["code"], "generic.noModelMatchingQuery")
        self.begin(errorInsideStream=0)
        self.predict("hi")
        self.assertIn("Input does not fit in context length", self.llm.messages(9)[-1]["error"]["title"])

    def test_slowReader(self) -> None:
        """While the client does not read, nothing is generated for it; when it reads again nothing is lost."""
        self.begin(tokensPerSecond=10)
        self.load(GEMMA)
        self.predict("count to 100", GEMMA)
        self.llm.connection.channel.pauseProducing()
        self.llm.messages(9)
        self.studio.clock.advance(60)
        self.assertLessEqual(len(self.llm.messages(9)), 1)
        self.llm.connection.channel.resumeProducing()
        self.studio.clock.pump([60] * 3)
        said = self.llm.messages(9)
        self.assertEqual(said[-2]["stats"]["predictedTokensCount"], 100)

    def test_slowReaderCancels(self) -> None:
        """Of two predictions for a client that does not read, one can be cancelled, and the other goes on."""
        self.predict("hi")
        self.llm.take()
        self.llm.connection.channel.pauseProducing()
        parameter = {"modelSpecifier": named(QWEN), "history": history("hi"), "predictionConfigStack": NO_CONFIG}
        for channelId in (1, 2):
            self.llm.create("predict", parameter, channelId)
        self.llm.cancel(1)
        self.assertEqual(self.studio.simulator.generating, 1)
        self.llm.connection.channel.resumeProducing()
        ends = [packet["channelId"] for packet in self.llm.take() if packet["type"] == "channelClose"]
        self.assertEqual(ends, [1, 2])


class TextTests(Namespaces):
    def test_tokens(self) -> None:
        """As many tokens as are counted, the same for the same text."""
        text = {"specifier": named(QWEN), "inputString": "one two one"}
        tokens = self.llm.call("tokenize", text)["tokens"]
        self.assertEqual(self.llm.call("countTokens", text), {"tokenCount": len(tokens)})
        self.assertEqual(self.llm.call("tokenize", text)["tokens"], tokens)

    def test_embed(self) -> None:
        """A text becomes the vector that REST gives for it."""
        self.embedding.create("getOrLoad", {"identifier": NOMIC, "loadConfigStack": NO_CONFIG})
        self.embedding.take()
        vector = self.embedding.call("embedString", {"modelSpecifier": named(NOMIC), "inputString": "x"})["embedding"]
        answer = self.studio.ask("/v1/embeddings", {"model": NOMIC, "input": "x"})
        self.assertEqual(vector, answer.json["data"][0]["embedding"])

    def test_template(self) -> None:
        """A conversation becomes one text."""
        parameter = {"specifier": named(QWEN), "history": history("hi"), "predictionConfigStack": NO_CONFIG, "opts": {}}
        self.assertEqual(
            self.llm.call("applyPromptTemplate", parameter)["formatted"], "<|im_start|>user\nhi<|im_end|>\n"
        )

    def test_apart(self) -> None:
        """What belongs to the other namespace is not there: a warning, and no answer."""
        for sdk, endpoint in (
            (self.llm, "embedString"),
            (self.embedding, "applyPromptTemplate"),
            (self.system, "listLoaded"),
        ):
            sdk.say(type="rpcCall", endpoint=endpoint, callId=1)
            (packet,) = sdk.take()
            self.assertEqual(packet["type"], "communicationWarning")
