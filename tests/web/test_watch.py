"""Watching inference requests: events, usage, and the usage chunk that no client asked for."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from lmgateway.interfaces import IAnswerReader
from lmgateway.studio.simulator.behaviour import Behaviour
from lmgateway.web.watch import Unread
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.web.support import MemoryGateway, ScriptedUpstreams, requestBytes, settingsOf
from tests.web.test_proxy import SSE_HEAD, chunk

CHAT = {"model": "qwen/qwen3-8b", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5}


def eventsOf(gateway: MemoryGateway) -> list[tuple[str, Any]]:
    """Every event there was."""
    return [(event.kind, json.loads(event.data)) for event in gateway.journal.read(0).events]


class EventTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.gateway = MemoryGateway()

    def test_unread(self) -> None:
        """What reads nothing is a reader all the same."""
        verifyObject(IAnswerReader, Unread())

    def test_stream(self) -> None:
        """A stream is start, first token and complete, with its tokens; and upstream_up comes of the first answer."""
        self.gateway.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True})
        events = eventsOf(self.gateway)
        self.assertEqual(
            [kind for kind, _ in events],
            ["inference_start", "upstream_up", "inference_first_token", "inference_complete"],
        )
        start, complete = events[0][1], events[-1][1]
        self.assertEqual((start["model"], start["stream"], start["injected"]), ("qwen/qwen3-8b", True, []))
        self.assertEqual(
            (start["key"], start["client"], start["path"]), ("GATEWAY_API_KEY", "127.0.0.1", "/v1/chat/completions")
        )
        self.assertEqual(complete["status"], 200)
        usage = complete["tokenUsage"]
        self.assertEqual(usage["totalTokens"], usage["promptTokens"] + usage["completionTokens"])
        self.assertNotIn("estimated", usage)

    def test_everyDialect(self) -> None:
        """Tokens are counted in every dialect, streamed or not."""
        for path, body in (
            ("/v1/chat/completions", CHAT),
            ("/v1/completions", {"model": "qwen/qwen3-8b", "prompt": "x", "max_tokens": 5}),
            ("/v1/responses", {"model": "qwen/qwen3-8b", "input": "x"}),
            ("/v1/messages", CHAT),
            ("/api/v0/chat/completions", CHAT),
            ("/api/v1/chat", {"model": "qwen/qwen3-8b", "input": "x"}),
        ):
            for stream in (False, True):
                gateway = MemoryGateway()
                self.assertEqual(gateway.ask("POST", path, {**body, "stream": stream}).status, 200, path)
                kind, told = eventsOf(gateway)[-1]
                self.assertEqual(kind, "inference_complete", path)
                self.assertGreater(told["tokenUsage"]["completionTokens"], 0, (path, stream))
                self.assertGreater(told["tokenUsage"]["promptTokens"], 0, (path, stream))

    def test_failures(self) -> None:
        """LM Studio that is not there, or breaks off, is an error event; a 400 of its own is a complete answer."""
        self.gateway.ask("POST", "/v1/chat/completions", {"model": "qwen/qwen3-8b"})
        self.assertEqual(
            (eventsOf(self.gateway)[-1][0], eventsOf(self.gateway)[-1][1]["status"]), ("inference_complete", 400)
        )
        self.gateway.simulator.behaviour = Behaviour(dieAfterChunks=1)
        client = self.gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        self.gateway.network.advance(1)
        kind, told = eventsOf(self.gateway)[-1]
        self.assertEqual((kind, told["operation"]), ("error", "inference"))
        self.assertIn("broke off", told["error"])

    def test_cancelled(self) -> None:
        """A client that leaves is told with the phase in which it left."""
        for answer, phase in ((b"", "waiting"), (SSE_HEAD + chunk(b"data: {}\n\n"), "answering")):
            upstreams = ScriptedUpstreams()
            gateway = MemoryGateway(listen=upstreams)
            client = gateway.connect()
            client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
            upstreams.made[0].transport.write(answer)
            gateway.network.flush()
            client.leave()
            kind, told = eventsOf(gateway)[-1]
            self.assertEqual(kind, "inference_cancelled")
            self.assertIn(phase[:5], told["phase"])

    def test_badBodyIsNoInference(self) -> None:
        """What never goes to LM Studio is no inference."""
        self.gateway.ask("POST", "/v1/chat/completions", b"[")
        self.assertEqual(eventsOf(self.gateway), [])
        self.assertEqual(self.gateway.metrics.total, 0)


class UsageAskingTests(SynchronousTestCase):
    def streamed(self, gateway: MemoryGateway, **members: object) -> bytes:
        return gateway.ask("POST", "/v1/chat/completions", {**CHAT, "stream": True, **members}).body

    def test_clientSeesWhatItAskedFor(self) -> None:
        """LM Studio is asked for the usage, and the client that did not ask does not see it; one that did does."""
        gateway = MemoryGateway()
        body = self.streamed(gateway)
        self.assertEqual(json.loads(gateway.simulator.received[-1].body)["stream_options"], {"include_usage": True})
        self.assertNotIn(b'"usage"', body)
        self.assertTrue(body.endswith(b"data: [DONE]\n\n"))
        self.assertIn(b'"usage"', self.streamed(gateway, stream_options={"include_usage": True}))
        self.assertNotIn(b'"usage"', self.streamed(gateway, stream_options={"include_usage": False}))

    def test_switchedOff(self) -> None:
        """A setting leaves streams as they are; tokens are then counted, and marked so."""
        gateway = MemoryGateway()
        gateway.proxy.asking.isWanted = False
        self.streamed(gateway)
        self.assertNotIn(b"stream_options", gateway.simulator.received[-1].body)
        self.assertTrue(eventsOf(gateway)[-1][1]["tokenUsage"]["estimated"])

    def test_refused(self) -> None:
        """An upstream that refuses to be asked gets the client's own request instead, and is never asked again."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        refusal = b'{"error":"Unknown parameter: stream_options"}'
        first = upstreams.made[0]
        first.transport.write(
            b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(refusal), refusal)
        )
        gateway.network.flush()
        self.assertEqual(client.answers, [])
        self.assertEqual(first.data.count(b"POST "), 2)
        self.assertNotIn(b"stream_options", first.data.partition(b"POST ")[2].partition(b"POST ")[2])
        first.transport.write(SSE_HEAD + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
        gateway.network.flush()
        self.assertEqual((client.answers[0].status, client.answers[0].body), (200, b"data: [DONE]\n\n"))
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        self.assertNotIn(b"stream_options", first.data.rpartition(b"POST ")[2])

    def test_silentRefusal(self) -> None:
        """An error that never ends is a 504 like any other silence, where silence has a limit."""
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(settingsOf({"PROXY_STREAM_TIMEOUT": "3000"}), listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        upstreams.made[0].transport.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 100\r\n\r\n{")
        gateway.network.advance(5)
        self.assertEqual(client.answers[0].status, 504)
        self.assertTrue(upstreams.made[0].ended)

    def test_otherErrorsPass(self) -> None:
        """Any other 400 is the client's, as it came, and the request is not sent twice."""
        gateway = MemoryGateway()
        answer = gateway.ask("POST", "/v1/chat/completions", {"model": "qwen/qwen3-8b", "stream": True})
        self.assertEqual(answer.status, 400)
        self.assertIn(b"messages", answer.body)
        self.assertEqual(len(gateway.simulator.received), 1)

    @settings(max_examples=25)
    @given(st.lists(st.integers(1, 400), max_size=12))
    def test_anyChunking(self, sizes: list[int]) -> None:
        """However LM Studio's stream is cut, the client gets it whole but for the usage chunk."""
        text = b'data: {"id":"a","choices":[{"delta":{"content":"hi"}}]}\n\n'
        usage = b'data: {"id":"a","choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\n'
        stream = text + usage + b"data: [DONE]\n\n"
        upstreams = ScriptedUpstreams()
        gateway = MemoryGateway(listen=upstreams)
        client = gateway.connect()
        client.send(requestBytes("POST", "/v1/chat/completions", {**CHAT, "stream": True}))
        upstreams.made[0].transport.write(SSE_HEAD)
        start = 0
        for size in [*sizes, len(stream)]:
            piece = stream[start : start + size]
            start += size
            if piece:
                upstreams.made[0].transport.write(chunk(piece))
                gateway.network.flush()
        upstreams.made[0].transport.write(b"0\r\n\r\n")
        gateway.network.flush()
        (answer,) = client.answers
        self.assertEqual((answer.body, answer.whole), (text + b"data: [DONE]\n\n", True))
        self.assertEqual(eventsOf(gateway)[-1][1]["tokenUsage"]["totalTokens"], 3)
