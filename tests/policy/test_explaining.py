"""What would become of a request, whatever it is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.errors import GatewayError
from lmgateway.message import ActiveModel, Principal, Scope
from lmgateway.policy.completion import Alias, Completions
from lmgateway.policy.explaining import Explainer, decodeQuestion
from lmgateway.policy.injection import MemberSplicer
from lmgateway.policy.routes import ROUTES, Route
from lmgateway.policy.stream_options import WATCHED
from twisted.trial.unittest import SynchronousTestCase

from tests.strategies import jsonObjects, mutations

ACTIVE = ActiveModel("m", None, {"temperature": 0.5, "topK": 3, "stopStrings": ["x"]})
ANYBODY = Principal("alice", frozenset({Scope.INFERENCE}))
BODIES = jsonObjects("model", "temperature", "max_tokens", "stream", "stop", "stream_options", "x")
PROXIED = [route for route in ROUTES if route.kind == "proxy"]


class ExplainTests(SynchronousTestCase):
    @given(st.one_of(st.binary(), BODIES, mutations(BODIES)), st.sampled_from(PROXIED))
    def test_faithful(self, body: bytes, route: Route) -> None:
        """Whatever the body, nothing raises; what is told is what the proxy would send, or why it would send nothing."""
        completions = Completions({"a": Alias("b")})
        explainer = Explainer(MemberSplicer(), completions)
        told = explainer.explain(route, body, ACTIVE, ANYBODY, asksForUsage=False)
        if route.inject == "none":
            self.assertEqual(told["upstreamBody"], body.decode("utf-8", "replace"))
            return
        completing = completions.completing(route.dialect, route.inject, ACTIVE, ANYBODY)
        try:
            rewritten = MemberSplicer().rewrite(body, completing, WATCHED)
        except GatewayError as error:
            self.assertEqual(told["refused"]["code"], error.code)
        else:
            self.assertEqual(told["upstreamBody"].encode(), rewritten.body)
            self.assertEqual([each["name"] for each in told["injected"]], list(rewritten.injected))


class DecodeTests(SynchronousTestCase):
    @given(st.one_of(st.binary(), mutations(st.just(b'{"path":"/v1/x","body":{"a":1.50},"key":"k"}'))))
    def test_total(self, body: bytes) -> None:
        """Any bytes are a question, or refused as a bad request."""
        try:
            question = decodeQuestion(body)
        except GatewayError as error:
            self.assertEqual(error.status, 400)
        else:
            self.assertIsInstance(question.body, bytes)

    def test_letter(self) -> None:
        """The body of the request stays as it is written; one in a string is taken out of it."""
        self.assertEqual(decodeQuestion(b'{"path":"/x","body":{ "a":1.50}}').body, b'{ "a":1.50}')
        self.assertEqual(decodeQuestion(b'{"path":"/x","body":"{\\"a\\":1,\\"a\\":2}"}').body, b'{"a":1,"a":2}')
