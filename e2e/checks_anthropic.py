"""
The Anthropic library for Python against the gateway.
"""

from __future__ import annotations

import asyncio
import sys

import anthropic
from anthropic.types import Message
from report import PLACE, activate, awaitSlots, busySlots, check, expect, run

MODEL = "gemma-3-270m"
ASK = [{"role": "user", "content": "Count from one to ten."}]
WRONG_KEY = "wrong-0123456789abcdef0123456789abcdef"
client = anthropic.Anthropic(base_url=PLACE.base, api_key=PLACE.key, max_retries=PLACE.retries, timeout=120)


@check("creates a message")
def _message() -> None:
    answer = client.messages.create(model=MODEL, messages=ASK, max_tokens=12)
    assert answer.content[0].type == "text"
    assert 0 < answer.usage.output_tokens <= 12


@check("streams a message and ends with the whole of it")
def _stream() -> None:
    with client.messages.stream(model=MODEL, messages=ASK, max_tokens=30) as stream:
        pieces = list(stream.text_stream)
        whole = stream.get_final_message()
    assert len(pieces) > 3
    assert whole.stop_reason == "max_tokens"
    assert "".join(pieces) == whole.content[0].text


@check("counts tokens, where the model server does")
def _countTokens() -> None:
    assert client.messages.count_tokens(model=MODEL, messages=ASK).input_tokens > 5


@check("is let in by a bearer token as well")
def _bearer() -> None:
    with anthropic.Anthropic(
        base_url=PLACE.base, api_key=None, auth_token=PLACE.key, max_retries=PLACE.retries
    ) as bearer:
        assert bearer.messages.create(model=MODEL, messages=ASK, max_tokens=3).content


@check("frees the model's slot when a stream is left half-way")
def _abort() -> None:
    with client.messages.stream(model=MODEL, messages=ASK, max_tokens=1400) as stream:
        for _ in zip(range(3), stream.text_stream, strict=False):
            pass
        assert busySlots() == 1
    awaitSlots(0)


@check("a wrong key is an AuthenticationError")
def _wrongKey() -> None:
    stranger = client.with_options(api_key=WRONG_KEY)
    create = stranger.messages.create
    error = expect(anthropic.AuthenticationError, lambda: create(model=MODEL, messages=ASK, max_tokens=3))
    assert WRONG_KEY not in str(error)


@check("a wrong key is told in Anthropic's dialect", gatewayOnly=True)
def _dialect() -> None:
    stranger = client.with_options(api_key=WRONG_KEY)
    create = stranger.messages.create
    error = expect(anthropic.AuthenticationError, lambda: create(model=MODEL, messages=ASK, max_tokens=3))
    assert isinstance(error, anthropic.APIStatusError)
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"
    assert error.body["error"]["type"] == "authentication_error"


@check("the model server's 400 is a BadRequestError")
def _badField() -> None:
    expect(
        anthropic.BadRequestError,
        lambda: client.messages.create(model=MODEL, messages=[{"role": "user", "content": 5}], max_tokens=3),
    )


@check("an unknown path is a NotFoundError")
def _unknownPath() -> None:
    expect(anthropic.NotFoundError, lambda: client.get("/v1/no/such/thing", cast_to=object))


@check("a body that is no JSON object is a BadRequestError in Anthropic's dialect", gatewayOnly=True)
def _noObject() -> None:
    post = client.post
    error = expect(anthropic.BadRequestError, lambda: post("/v1/messages", body=[1], cast_to=object))
    assert isinstance(error, anthropic.APIStatusError)
    assert isinstance(error.body, dict)
    assert error.body["error"]["type"] == "invalid_request_error"


@check("a request without model and max_tokens gets the active model and its defaults", gatewayOnly=True)
def _defaults() -> None:
    activate(MODEL, maxTokens=5, temperature=1.7)
    answer = client.post("/v1/messages", body={"messages": ASK}, cast_to=Message)
    assert answer.model == MODEL
    assert answer.usage.output_tokens == 5


if __name__ == "__main__":
    sys.exit(asyncio.run(run(f"anthropic {anthropic.__version__}")))
