"""Models managed by REST: the answers, their errors, and what is loaded afterwards."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.studio.simulator.wire import GEMMA, GPT_OSS, NOMIC, QWEN, Answer, Connection, Studio, chat

LOAD = "/api/v1/models/load"
UNLOAD = "/api/v1/models/unload"
DOWNLOAD = "/api/v1/models/download"


class Managed(SynchronousTestCase):
    """With a simulator whose models can be managed."""

    def setUp(self) -> None:
        self.studio = Studio()

    def loaded(self) -> list[str]:
        """The ids of what is loaded, as the list tells them."""
        models = self.studio.ask("/api/v1/models").json["models"]
        return [instance["id"] for model in models for instance in model["loaded_instances"]]

    def refused(self, path: str, body: object, **fields: str) -> tuple[int, dict[str, Any]]:
        """Status and error."""
        answer = self.studio.ask(path, body, **fields)
        return answer.status, answer.json["error"]


class LoadTests(Managed):
    def test_answer(self) -> None:
        """The answer tells the instance and the time, and no configuration unless asked."""
        answer = self.studio.ask(LOAD, {"model": GEMMA})
        expected = {"type": "llm", "instance_id": GEMMA, "load_time_seconds": 0, "status": "loaded"}
        self.assertEqual((answer.status, list(answer.json.items())), (200, list(expected.items())))
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_echo(self) -> None:
        """The configuration that was applied comes back when asked for, and stands in the list."""
        body = {"model": GPT_OSS, "context_length": 16384, "flash_attention": False, "echo_load_config": True}
        config = self.studio.ask(LOAD, body).json["load_config"]
        self.assertEqual(
            config,
            {
                "context_length": 16384,
                "eval_batch_size": 512,
                "parallel": 4,
                "flash_attention": False,
                "num_experts": 4,
                "offload_kv_cache_to_gpu": True,
            },
        )
        (instance,) = self.studio.ask("/api/v1/models").json["models"][2]["loaded_instances"]
        self.assertEqual(instance, {"id": GPT_OSS, "config": config})

    def test_embedding(self) -> None:
        """An embedding model is of another type, and has a context only."""
        answer = self.studio.ask(LOAD, {"model": NOMIC, "echo_load_config": True}).json
        self.assertEqual((answer["type"], answer["load_config"]), ("embedding", {"context_length": 2048}))

    def test_again(self) -> None:
        """Loading again makes a second instance, which a request may name; a third takes the first free number."""
        self.assertEqual(self.studio.ask(LOAD, {"model": QWEN}).json["instance_id"], f"{QWEN}:2")
        self.assertEqual(self.studio.ask(LOAD, {"model": QWEN}).json["instance_id"], f"{QWEN}:3")
        self.studio.ask(UNLOAD, {"instance_id": f"{QWEN}:2"})
        self.assertEqual(self.studio.ask(LOAD, {"model": QWEN}).json["instance_id"], f"{QWEN}:2")
        self.assertEqual(self.studio.ask("/v1/chat/completions", chat("hi", f"{QWEN}:3")).json["model"], f"{QWEN}:3")

    def test_slow(self) -> None:
        """The answer waits for the load, and the instance is listed when it is there."""
        self.studio.simulator.behaviour.loadTime = 6
        connection = self.studio.connect()
        connection.send(LOAD, {"model": GEMMA})
        self.studio.clock.pump([1] * 5)
        self.assertEqual((connection.received, self.loaded()), (b"", [QWEN]))
        self.studio.clock.advance(1)
        self.assertEqual(connection.answer.json["load_time_seconds"], 6)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_clientLeaves(self) -> None:
        """The load goes on although the client has left."""
        self.studio.simulator.behaviour.loadTime = 6
        connection = self.studio.connect()
        connection.send(LOAD, {"model": GEMMA})
        connection.leave()
        self.studio.clock.pump([1] * 7)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])
        self.assertIn(f"POST {LOAD} -, 6.000 s, the client left", self.studio.lines)

    def test_stays(self) -> None:
        """What was loaded so has no time to live, and no model that is loaded just in time evicts it."""
        self.studio.ask(LOAD, {"model": GEMMA})
        self.studio.ask("/v1/chat/completions", chat("hi", GPT_OSS))
        (gemma,) = self.studio.ask("/api/v1/models").json["models"][1]["loaded_instances"]
        self.assertNotIn("remaining_ttl_seconds", gemma)
        self.studio.clock.advance(100_000)
        self.assertEqual(self.loaded(), [QWEN, GEMMA])

    def test_unknown(self) -> None:
        """Only a key loads, not a variant, nor half of it."""
        for name in ("nope", f"{QWEN}@q4_k_m", "qwen3-8b", ""):
            expected = {"type": "model_not_found", "message": f"Model {name} not found in downloaded models"}
            self.assertEqual(self.refused(LOAD, {"model": name}), (404, expected))
        self.studio.simulator.behaviour.noModels = True
        self.assertEqual(self.refused(LOAD, {"model": QWEN})[0], 404)

    def test_badBody(self) -> None:
        """What REST does not know is refused by name, and so are values of the wrong type."""
        status, error = self.refused(LOAD, {"model": QWEN, "ttl": 3, "parallel": 2})
        self.assertEqual((status, error["code"]), (400, "unrecognized_keys"))
        self.assertEqual(error["message"], "Unrecognized key(s) in object: 'ttl', 'parallel'")
        self.assertEqual(self.refused(LOAD, {})[1]["message"], '"model" is required')
        for field, value in (
            ("model", 5), ("context_length", "x"), ("context_length", 0), ("num_experts", 1.5), ("flash_attention", 1),
            ("echo_load_config", "yes"), ("offload_kv_cache_to_gpu", 0),
        ):  # fmt: skip
            status, error = self.refused(LOAD, {"model": QWEN, field: value})
            self.assertEqual((status, error["param"]), (400, field))
        self.assertEqual(self.refused(LOAD, b"{")[1]["code"], "invalid_json")
        self.assertEqual(self.loaded(), [QWEN])

    def test_failure(self) -> None:
        """A load may fail, after its time; nothing is left of it. A completion that would load tells the same."""
        switches = "load-time=2; fail-load=(Exit code: 1)"
        message = f'Failed to load model "{GEMMA}". Error: Error loading model. (Exit code: 1)'
        connections: list[Connection] = []
        for path, body in ((LOAD, {"model": GEMMA}), ("/v1/chat/completions", chat("hi", GEMMA))):
            connections.append(self.studio.connect())
            connections[-1].send(path, body, X_Simulate=switches)
            self.studio.clock.pump([0.5] * 4)
        load, completion = connections[0].answer, connections[1].answer
        self.assertEqual((load.status, load.json["error"]), (500, {"type": "internal_error", "message": message}))
        self.assertEqual((completion.status, completion.json["error"]["message"]), (400, message))
        self.assertEqual(self.loaded(), [QWEN])

    def test_unloadedMeanwhile(self) -> None:
        """A load that somebody takes back has failed."""
        self.studio.simulator.behaviour.loadTime = 6
        connection = self.studio.connect()
        connection.send(LOAD, {"model": GEMMA})
        self.assertEqual(self.studio.ask(UNLOAD, {"instance_id": GEMMA}).status, 200)
        self.assertEqual(connection.answer.status, 500)
        self.assertIn("Model unloaded.", connection.answer.json["error"]["message"])


class UnloadTests(Managed):
    def test_unload(self) -> None:
        """An instance is unloaded by its id."""
        answer = self.studio.ask(UNLOAD, {"instance_id": QWEN})
        self.assertEqual((answer.status, answer.json), (200, {"instance_id": QWEN}))
        self.assertEqual(self.loaded(), [])

    def test_inUse(self) -> None:
        """Whoever the instance was answering is told."""
        connection = self.studio.connect()
        body = chat("count to 9", QWEN, stream=True)
        connection.send("/v1/chat/completions", body, X_Simulate="tokens-per-second=1")
        self.studio.ask(UNLOAD, {"instance_id": QWEN})
        self.assertEqual(connection.answer.events[-1][0], "error")
        self.assertEqual(connection.answer.data[-1]["message"], "Model unloaded.")

    def test_unknown(self) -> None:
        """What is not loaded cannot be."""
        expected = {"type": "model_not_found", "message": f"Model with instance identifier '{GEMMA}' is not loaded."}
        self.assertEqual(self.refused(UNLOAD, {"instance_id": GEMMA}), (404, expected))

    def test_badBody(self) -> None:
        """Clients that name the model instead are told."""
        self.assertEqual(self.refused(UNLOAD, {"model": QWEN})[1]["code"], "unrecognized_keys")
        self.assertEqual(self.refused(UNLOAD, {})[1]["param"], "instance_id")
        self.assertEqual(self.loaded(), [QWEN])


class DownloadTests(Managed):
    def status(self, job: str) -> Answer:
        """How far it is."""
        return self.studio.ask(f"{DOWNLOAD}/status/{job}")

    def test_life(self) -> None:
        """A download runs by the clock, and then the model can be loaded."""
        job = self.studio.ask(DOWNLOAD, {"model": "org/new-model", "quantization": "Q8_0"}).json
        self.assertEqual(job["status"], "downloading")
        self.studio.clock.advance(2)
        self.assertEqual(self.refused(LOAD, {"model": "org/new-model"})[0], 404)
        self.studio.clock.advance(3)
        self.assertEqual(self.status(job["job_id"]).json["status"], "completed")
        self.assertEqual(self.studio.ask(LOAD, {"model": "org/new-model"}).status, 200)
        self.assertIn("org/new-model", self.loaded())

    def test_errors(self) -> None:
        """Unknown jobs, wrong names and wrong bodies are told."""
        self.assertEqual(
            (self.status("job_x").status, self.status("job_x").json["error"]["type"]), (404, "job_not_found")
        )
        self.assertEqual(
            self.refused(DOWNLOAD, {"model": "A B"})[1]["message"], "Invalid artifact name. Must be in kebab-case"
        )
        self.assertEqual(self.refused(DOWNLOAD, {})[1]["code"], "missing_required_parameter")
        self.assertEqual(self.refused(DOWNLOAD, {"model": "a", "x": 1})[1]["code"], "unrecognized_keys")


class FaultTests(Managed):
    REQUESTS = ((LOAD, {"model": GEMMA}), (UNLOAD, {"instance_id": QWEN}), (DOWNLOAD, {"model": "a"}))

    def test_absent(self) -> None:
        """Before 0.4 there is none of it: 200, and not done."""
        self.studio.simulator.behaviour.apiV1 = False
        for path, body in (*self.REQUESTS, (f"{DOWNLOAD}/status/job_1", None)):
            answer = self.studio.ask(path, body)
            self.assertEqual(answer.status, 200)
            self.assertTrue(answer.json["error"].startswith("Unexpected endpoint or method. ("), path)
        self.studio.simulator.behaviour.apiV1 = True
        self.assertEqual(self.loaded(), [QWEN])

    def test_mute(self) -> None:
        """Nothing is answered, and nothing done; the rest is as always."""
        for path, body in self.REQUESTS:
            connection = self.studio.connect()
            connection.send(path, body, X_Simulate="mute-management")
            self.studio.clock.advance(1000)
            self.assertEqual((connection.received, connection.closed), (b"", False))
            connection.leave()
        self.assertEqual(self.loaded(), [QWEN])

    def test_forbidden(self) -> None:
        """A token without the permission gets a 403, and nothing is done."""
        for path, body in self.REQUESTS:
            status, error = self.refused(path, body, X_Simulate="forbid-management")
            self.assertEqual((status, error["code"]), (403, "permission_denied"))
        self.assertEqual(self.loaded(), [QWEN])

    def test_token(self) -> None:
        """The token is demanded here, too."""
        for path, body in self.REQUESTS:
            self.assertEqual(self.studio.ask(path, body, X_Simulate="require-token=t").status, 401)
