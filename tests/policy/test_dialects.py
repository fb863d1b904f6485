"""What each API calls a parameter, and how it spells an error."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    GatewayError,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    TooManyRequests,
    Unauthenticated,
    UpstreamBroken,
    UpstreamSilent,
    UpstreamUnavailable,
)
from lmgateway.message import ActiveModel, Completion, Injection
from lmgateway.policy.dialects import (
    ANTHROPIC,
    DIALECTS,
    GATEWAY,
    NATIVE_V0,
    NATIVE_V1,
    OPENAI,
    RESPONSES,
    Defaults,
    Dialect,
)
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.routes import ROUTES
from twisted.trial.unittest import SynchronousTestCase

EVERYTHING = {
    "stream": True,
    "stopStrings": ["\n", "é"],
    "repeatPenalty": 1.1,
    "topK": 40,
    "topP": 0.95,
    "maxTokens": 512,
    "temperature": 1.5,
}
ACTIVE = ActiveModel("qwen/qwen3-8b", "qwen-1", EVERYTHING)
BROKEN = UpstreamBroken("LM Studio broke off. Ask again.")

DEFAULTS = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0, 2),
        "maxTokens": st.integers(1),
        "topP": st.floats(0, 1),
        "topK": st.integers(0),
        "repeatPenalty": st.floats(0, exclude_min=True, allow_infinity=False),
        "stopStrings": st.lists(st.text(st.characters(codec="utf-8"))),
        "stream": st.booleans(),
    },
)
ERRORS = st.builds(
    lambda kind, message, param, details: kind(message, param=param, details=details),
    st.sampled_from((BadRequest, NotFound, Conflict, UpstreamBroken, UpstreamSilent, InternalError)),
    st.text(),
    st.none() | st.text(),
    st.none() | st.just([{"path": ["a"], "message": "b"}]),
)
PROXIED = (OPENAI, RESPONSES, ANTHROPIC, NATIVE_V0, NATIVE_V1)


def injectionsOf(dialect: Dialect, active: ActiveModel | None, *, modelOnly: bool = False) -> tuple[Injection, ...]:
    """What a request in a dialect is given where a model is active."""
    if active is None:
        return dialect.injections(None, ())
    return dialect.injections(active.modelName, () if modelOnly else [Defaults("active", active.defaultInference)])


def written(dialect: Dialect, active: ActiveModel | None, *, modelOnly: bool = False) -> list[tuple[str, Any]]:
    """The members that a request in a dialect is given, in order, decoded."""
    return [(one.member, json.loads(one.value)) for one in injectionsOf(dialect, active, modelOnly=modelOnly)]


def eventOf(stream: bytes) -> tuple[str | None, Any]:
    """The one event of a stream: its name, and its data as JSON."""
    *lines, empty, end = stream.decode("ascii").split("\n")
    assert (empty, end) == ("", ""), stream
    fields = dict(line.split(": ", 1) for line in lines)
    assert len(fields) == len(lines)
    return fields.get("event"), json.loads(fields["data"])


class InjectionsTests(SynchronousTestCase):
    def test_chat(self) -> None:
        """Chats and completions take every default, in the order of the table, by OpenAI's names and LM Studio's own."""
        for dialect in (OPENAI, NATIVE_V0):
            self.assertEqual(
                written(dialect, ACTIVE),
                [
                    ("model", "qwen-1"),
                    ("temperature", 1.5),
                    ("max_tokens", 512),
                    ("top_p", 0.95),
                    ("top_k", 40),
                    ("repeat_penalty", 1.1),
                    ("stop", ["\n", "é"]),
                    ("stream", True),
                ],
            )

    def test_responses(self) -> None:
        """``/v1/responses`` has neither ``top_k`` nor a penalty nor stop strings, and a limit of its own name."""
        self.assertEqual(
            written(RESPONSES, ACTIVE),
            [("model", "qwen-1"), ("temperature", 1.5), ("max_output_tokens", 512), ("top_p", 0.95), ("stream", True)],
        )

    def test_anthropic(self) -> None:
        """``/v1/messages`` has no penalty, and no temperature above 1."""
        self.assertEqual(
            written(ANTHROPIC, ACTIVE),
            [
                ("model", "qwen-1"),
                ("temperature", 1),
                ("max_tokens", 512),
                ("top_p", 0.95),
                ("top_k", 40),
                ("stop_sequences", ["\n", "é"]),
                ("stream", True),
            ],
        )

    def test_native(self) -> None:
        """``/api/v1/chat`` has no stop strings, and no temperature above 1."""
        self.assertEqual(
            written(NATIVE_V1, ACTIVE),
            [
                ("model", "qwen-1"),
                ("temperature", 1),
                ("max_output_tokens", 512),
                ("top_p", 0.95),
                ("top_k", 40),
                ("repeat_penalty", 1.1),
                ("stream", True),
            ],
        )

    def test_names(self) -> None:
        """Events call a default what ``defaultInference`` calls it."""
        names = [one.name for one in injectionsOf(OPENAI, ACTIVE)]
        self.assertEqual(sorted(names), sorted(["model", *EVERYTHING]))

    def test_maxCompletionTokens(self) -> None:
        """A chat that limits itself by OpenAI's newer name is given no limit by the older; a message has no such name."""
        body = b'{"max_completion_tokens":7}'
        for dialect in PROXIED:
            given = Completion(injectionsOf(dialect, ACTIVE))
            result = MemberSplicer().rewrite(body, lambda _, given=given: given)
            self.assertEqual("maxTokens" in result.injected, dialect not in (OPENAI, NATIVE_V0), dialect.name)

    def test_modelOnly(self) -> None:
        """Embeddings are given the model and nothing else."""
        for dialect in PROXIED:
            self.assertEqual(written(dialect, ACTIVE, modelOnly=True), [("model", "qwen-1")])

    def test_modelKey(self) -> None:
        """A model without an instance is addressed by its key."""
        self.assertEqual(written(OPENAI, ActiveModel('a"b/é')), [("model", 'a"b/é')])

    def test_noneActive(self) -> None:
        """Where no model is active nothing is given."""
        for dialect in DIALECTS.values():
            self.assertEqual(injectionsOf(dialect, None), ())
            self.assertEqual(injectionsOf(dialect, None, modelOnly=True), ())

    def test_gateway(self) -> None:
        """The gateway's own API is given nothing."""
        self.assertEqual(injectionsOf(GATEWAY, ACTIVE), ())
        self.assertEqual(injectionsOf(GATEWAY, ACTIVE, modelOnly=True), ())

    @given(DEFAULTS)
    def test_capped(self, defaults: dict[str, Any]) -> None:
        """A temperature is never above what the dialect allows, and below that what the admin said."""
        for dialect, most in ((OPENAI, 2), (RESPONSES, 2), (NATIVE_V0, 2), (ANTHROPIC, 1), (NATIVE_V1, 1)):
            members = dict(written(dialect, ActiveModel("m", None, defaults)))
            self.assertEqual("temperature" in members, "temperature" in defaults)
            if "temperature" in defaults:
                self.assertEqual(members["temperature"], min(defaults["temperature"], most))

    @given(DEFAULTS)
    def test_encoded(self, defaults: dict[str, Any]) -> None:
        """Every default that a dialect has arrives as the very value that the admin said, whatever it is."""
        for dialect in PROXIED:
            for one in injectionsOf(dialect, ActiveModel("m", None, defaults))[1:]:
                if one.name != "temperature":
                    self.assertEqual(json.loads(one.value), defaults[one.name])


class TableTests(SynchronousTestCase):
    def test_routes(self) -> None:
        """Every route's dialect is one."""
        self.assertEqual({route.dialect for route in ROUTES}, set(DIALECTS))


class ErrorBodyTests(SynchronousTestCase):
    def test_openai(self) -> None:
        """OpenAI's shape has its four members, ``null`` among them, on every path but Anthropic's and the gateway's."""
        error = BadRequest("Send one.", param="model", details=[{"path": ["model"], "message": "x"}])
        expected = {"message": "Send one.", "type": "invalid_request_error", "param": "model", "code": "bad_request"}
        for dialect in (OPENAI, RESPONSES, NATIVE_V0, NATIVE_V1):
            self.assertEqual(json.loads(dialect.errorBody(error)), {"error": expected})
        self.assertIsNone(json.loads(OPENAI.errorBody(BROKEN))["error"]["param"])

    def test_anthropic(self) -> None:
        """Anthropic's shape has Anthropic's own type for each status."""
        limited = TooManyRequests("m", retryAfter=1)
        for error, kind in (
            (BadRequest("m"), "invalid_request_error"),
            (Unauthenticated("m"), "authentication_error"),
            (Forbidden("m"), "permission_error"),
            (NotFound("m"), "not_found_error"),
            (MethodNotAllowed("m", allow=(b"GET",)), "invalid_request_error"),
            (RequestTimeout("m"), "invalid_request_error"),
            (PayloadTooLarge("m"), "request_too_large"),
            (limited, "rate_limit_error"),
            (InternalError("m"), "api_error"),
            (UpstreamBroken("m"), "api_error"),
            (UpstreamUnavailable("m"), "overloaded_error"),
            (UpstreamSilent("m"), "timeout_error"),
        ):
            self.assertEqual(
                json.loads(ANTHROPIC.errorBody(error)), {"type": "error", "error": {"type": kind, "message": "m"}}
            )

    def test_gateway(self) -> None:
        """The gateway's own shape has ``details`` only where there are any."""
        details: list[dict[str, object]] = [{"path": ["modelKey"], "message": "Is required."}]
        self.assertEqual(GATEWAY.errorBody(NotFound("Not here.")), b'{"error":"Not here."}')
        self.assertEqual(
            json.loads(GATEWAY.errorBody(BadRequest("Validation failed", details=details))),
            {"error": "Validation failed", "details": details},
        )

    @given(ERRORS)
    def test_total(self, error: GatewayError) -> None:
        """Every error is JSON in ASCII on one line in every dialect, and tells its message."""
        for dialect in DIALECTS.values():
            body = dialect.errorBody(error)
            self.assertTrue(body.isascii())
            self.assertNotIn(b"\n", body)
            told = json.loads(body)["error"]
            self.assertEqual(told if isinstance(told, str) else told["message"], error.message)


class ErrorEventTests(SynchronousTestCase):
    def test_openai(self) -> None:
        """A chat ends with an event without a name whose data is the error's body: what OpenAI's SDKs raise at."""
        for dialect in (OPENAI, NATIVE_V0):
            self.assertEqual(dialect.errorEvent(BROKEN), b"data: " + dialect.errorBody(BROKEN) + b"\n\n")

    def test_responses(self) -> None:
        """A response ends with OpenAI's documented ``error`` event, and the ``error`` in it that its SDKs raise at."""
        name, data = eventOf(RESPONSES.errorEvent(BROKEN))
        error = {"message": BROKEN.message, "type": "api_error", "param": None, "code": "upstream_broken"}
        self.assertEqual(name, "error")
        self.assertEqual(
            data,
            {
                "type": "error",
                "sequence_number": 0,
                "message": BROKEN.message,
                "code": "upstream_broken",
                "param": None,
                "error": error,
            },
        )

    def test_anthropic(self) -> None:
        """A message ends with an ``error`` event whose data is the error's body."""
        self.assertEqual(eventOf(ANTHROPIC.errorEvent(BROKEN)), ("error", json.loads(ANTHROPIC.errorBody(BROKEN))))

    def test_native(self) -> None:
        """LM Studio's own chat ends with its own ``error`` event."""
        name, data = eventOf(NATIVE_V1.errorEvent(BROKEN))
        self.assertEqual((name, data["type"], data["error"]["message"]), ("error", "error", BROKEN.message))

    @given(ERRORS)
    def test_total(self, error: GatewayError) -> None:
        """Every error is exactly one event in every dialect, whatever line breaks its message has, and never ``[DONE]``."""
        for dialect in DIALECTS.values():
            name, data = eventOf(dialect.errorEvent(error))
            self.assertEqual(name, dialect.eventName)
            self.assertIn("error", data)
