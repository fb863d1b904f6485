"""The errors in the words and with the indentation that were recorded from LM Studio."""

from __future__ import annotations

from lmgateway.studio.simulator.encoding import Reply, render
from lmgateway.studio.simulator.errors import (
    NO_TOKEN,
    FieldError,
    ModelError,
    NoModelsLoaded,
    PredictionError,
    StudioError,
    anthropicRefusal,
    invalidModel,
    nativeRefusal,
    openAIRefusal,
    responsesRefusal,
    tokenRefusal,
    unexpectedEndpoint,
)
from twisted.trial.unittest import SynchronousTestCase

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"


class OpenAIRefusalTests(SynchronousTestCase):
    def test_field(self) -> None:
        """A bad field of a chat completion is told by a bare string, on one line."""
        reply = openAIRefusal(FieldError("'messages' field is required", param="messages", code="x"))
        self.assertEqual(reply, Reply(400, {"error": "'messages' field is required"}))

    def test_model(self) -> None:
        """A model that is not there is told by an object, indented by 4."""
        reply = openAIRefusal(ModelError("No."))
        expected = '{"error": {"message": "No.", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}}'
        self.assertEqual(reply.indent, 4)
        self.assertEqual(render(reply.value), expected.replace(": ", ":").replace(", ", ",").encode())

    def test_noModelsLoaded(self) -> None:
        """That no model is loaded has the code null."""
        value = openAIRefusal(NoModelsLoaded()).value
        assert isinstance(value, dict)
        self.assertIn("code", value["error"])
        self.assertIsNone(value["error"]["code"])
        self.assertTrue(value["error"]["message"].startswith("No models loaded."))


class ResponsesRefusalTests(SynchronousTestCase):
    def test_field(self) -> None:
        """A bad field of a response is told by an object, indented by 2."""
        reply = responsesRefusal(FieldError("Required", param="text.format", code="missing_required_parameter"))
        members = {
            "message": "Required",
            "type": "invalid_request_error",
            "param": "text.format",
            "code": "missing_required_parameter",
        }
        self.assertEqual(reply, Reply(400, {"error": members}, 2))
        assert isinstance(reply.value, dict)
        self.assertEqual(list(reply.value["error"]), list(members))


class AnthropicRefusalTests(SynchronousTestCase):
    def test_types(self) -> None:
        """What the client did wrong is an invalid request, what the model did an error of the API."""
        for error, kind in ((FieldError("a"), "invalid_request_error"), (PredictionError("a"), "api_error")):
            expected = {"type": "error", "error": {"type": kind, "message": "a"}}
            self.assertEqual(anthropicRefusal(error), Reply(400, expected))


class NativeRefusalTests(SynchronousTestCase):
    def test_order(self) -> None:
        """Only members that there are; of a field the code first, of a model the parameter, as recorded."""
        field = nativeRefusal(FieldError("a", param="input", code="invalid_union"))
        model = nativeRefusal(ModelError("a"))
        bare = nativeRefusal(FieldError("a", code="unrecognized_keys"))
        orders = [list(reply.value["error"]) for reply in (field, model, bare) if isinstance(reply.value, dict)]
        self.assertEqual(
            orders,
            [["message", "type", "code", "param"], ["message", "type", "param", "code"], ["message", "type", "code"]],
        )
        self.assertEqual(field.indent, 2)

    def test_status(self) -> None:
        """An error may have a status and a type of its own."""
        reply = nativeRefusal(StudioError("a", status=403, kind="plugin_connection_error"))
        self.assertEqual(reply, Reply(403, {"error": {"message": "a", "type": "plugin_connection_error"}}, 2))


class TokenRefusalTests(SynchronousTestCase):
    def message(self, authorization: str | None) -> str:
        """What is said to these credentials, after seeing that it is a 401 in the recorded form."""
        reply = tokenRefusal(authorization, TOKEN)
        assert reply is not None
        assert isinstance(reply.value, dict)
        error = reply.value["error"]
        self.assertEqual((reply.status, list(error)), (401, ["type", "code", "message"]))
        self.assertEqual((error["type"], error["code"]), ("invalid_request", "invalid_api_key"))
        message = error["message"]
        assert isinstance(message, str)
        return message

    def test_right(self) -> None:
        """The right token is no reason to refuse; the scheme's name may be in any case."""
        self.assertIsNone(tokenRefusal(f"Bearer {TOKEN}", TOKEN))
        self.assertIsNone(tokenRefusal(f"bearer  {TOKEN}", TOKEN))

    def test_none(self) -> None:
        """Without a bearer token the message is the one that was recorded."""
        for authorization in (None, "", "Bearer", f"Basic {TOKEN}", TOKEN):
            self.assertEqual(self.message(authorization), NO_TOKEN)

    def test_malformed(self) -> None:
        """A token of another form is quoted: ten characters, and an asterisk for each of the rest."""
        self.assertEqual(
            self.message("Bearer sk-bogus-EXAMPLEEXAMPLE1"),
            "Malformed LM Studio API token provided: sk-bogus-E**************. Ensure you are using a valid token.",
        )

    def test_unknown(self) -> None:
        """A token of the right form that is not the one is not called malformed."""
        self.assertIn("was not recognized: sk-lm-abcd", self.message(f"Bearer {TOKEN[:-1]}x"))


class UnexpectedEndpointTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The method and the whole target, in a bare string."""
        reply = unexpectedEndpoint("GET", "/a?b=c", 200)
        self.assertEqual(reply, Reply(200, {"error": "Unexpected endpoint or method. (GET /a?b=c)"}))


class InvalidModelTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """At most three names that would do are shown."""
        self.assertEqual(
            invalidModel("x", ["a", "b", "c", "d"]).message,
            'Invalid model identifier "x". Please specify a valid downloaded model (e.g., a, b, c).',
        )

    def test_noExamples(self) -> None:
        """Where nothing would do, that is what is said."""
        self.assertIsInstance(invalidModel("x", []), NoModelsLoaded)
