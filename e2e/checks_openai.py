"""
The OpenAI library for Python against the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time

import openai
from openai.types.chat import ChatCompletion
from report import PLACE, activate, ask, awaitSlots, busySlots, check, expect, run

MODEL = "gemma-3-270m"
ASK = [{"role": "user", "content": "Count from one to ten."}]
WRONG_KEY = "wrong-0123456789abcdef0123456789abcdef"
client = openai.OpenAI(base_url=f"{PLACE.base}/v1", api_key=PLACE.key, max_retries=PLACE.retries, timeout=120)


@check("lists the models")
def _models() -> None:
    assert MODEL in [model.id for model in client.models.list()]


@check("completes a chat")
def _chat() -> None:
    answer = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=12)
    assert answer.choices[0].message.content
    assert answer.usage
    assert 0 < answer.usage.completion_tokens <= 12


@check("streams a chat, each piece as it is made, with its usage")
def _chatStream() -> None:
    times, pieces, usage = [], [], None
    stream = client.chat.completions.create(
        model=MODEL, messages=ASK, max_tokens=40, stream=True, stream_options={"include_usage": True}
    )
    for chunk in stream:
        usage = chunk.usage or usage
        pieces += [choice.delta.content for choice in chunk.choices if choice.delta.content]
        times.append(time.monotonic())
    assert len(pieces) > 5, pieces
    assert usage is not None
    assert usage.completion_tokens <= 40
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert sum(gap > 0.002 for gap in gaps) > len(gaps) / 4, "the pieces came in heaps"


@check("completes a text")
def _completion() -> None:
    answer = client.completions.create(model=MODEL, prompt="One, two, three,", max_tokens=8)
    assert answer.choices[0].text


@check("embeds")
def _embeddings() -> None:
    answer = client.embeddings.create(model=MODEL, input=["a cat", "a dog"])
    assert [len(item.embedding) for item in answer.data] == [640, 640]


@check("creates a response")
def _response() -> None:
    answer = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=12)
    assert answer.status == "completed"
    assert answer.output_text


@check("streams a response through to its last event")
def _responseStream() -> None:
    stream = client.responses.create(model=MODEL, input="Say hello.", max_output_tokens=12, stream=True)
    kinds = [event.type for event in stream]
    assert "response.output_text.delta" in kinds
    assert kinds[-1] == "response.completed", kinds


@check("completes eight chats at once")
async def _parallel() -> None:
    async with openai.AsyncOpenAI(base_url=f"{PLACE.base}/v1", api_key=PLACE.key, max_retries=PLACE.retries) as several:
        chats = (several.chat.completions.create(model=MODEL, messages=ASK, max_tokens=6) for _ in range(8))
        answers = await asyncio.gather(*chats)
    assert all(answer.choices[0].message.content is not None for answer in answers)


@check("frees the model's slot when a stream is left half-way")
def _abortStream() -> None:
    stream = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1400, stream=True)
    for _ in zip(range(3), stream, strict=False):
        pass
    assert busySlots() == 1
    stream.close()
    awaitSlots(0)


@check("frees the model's slots when eight tasks are cancelled at once")
async def _abortTasks() -> None:
    async def generate() -> None:
        async for _ in await several.chat.completions.create(model=MODEL, messages=ASK, max_tokens=1400, stream=True):
            pass

    async with openai.AsyncOpenAI(base_url=f"{PLACE.base}/v1", api_key=PLACE.key, max_retries=PLACE.retries) as several:
        tasks = [asyncio.create_task(generate()) for _ in range(8)]
        await asyncio.to_thread(awaitSlots, 4)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(awaitSlots, 0)


@check("a wrong key is an AuthenticationError that does not repeat the key")
def _wrongKey() -> None:
    stranger = client.with_options(api_key=WRONG_KEY)
    error = expect(openai.AuthenticationError, stranger.models.list)
    assert WRONG_KEY not in str(error)


@check("the model server's 400 is a BadRequestError")
def _badField() -> None:
    expect(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=5))


@check("the model server's 400 is a BadRequestError where a stream was asked for")
def _badFieldStream() -> None:
    expect(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=5, stream=True))


@check("a prompt longer than the context is a BadRequestError that says so")
def _tooLong() -> None:
    long = [{"role": "user", "content": "one two three " * 2000}]
    error = expect(openai.BadRequestError, lambda: client.chat.completions.create(model=MODEL, messages=long))
    assert "context" in str(error)


@check("an unknown path is a NotFoundError")
def _unknownPath() -> None:
    expect(openai.NotFoundError, lambda: client.get("/no/such/thing", cast_to=object))


@check("a path that is not the gateway's is a NotFoundError with a message", gatewayOnly=True)
def _foreignPath() -> None:
    outside = client.with_options(base_url=f"{PLACE.base}/elsewhere")
    error = expect(openai.NotFoundError, outside.models.list)
    assert isinstance(error, openai.APIStatusError)
    assert isinstance(error.body, dict)
    assert error.body["message"]


@check("a body that is no JSON object is a BadRequestError", gatewayOnly=True)
def _noObject() -> None:
    expect(openai.BadRequestError, lambda: client.post("/chat/completions", body=[1, 2], cast_to=object))


@check("the paths without /v1 answer too", gatewayOnly=True)
def _shorthand() -> None:
    short = client.with_options(base_url=PLACE.base)
    assert MODEL in [model.id for model in short.models.list()]
    assert short.chat.completions.create(model=MODEL, messages=ASK, max_tokens=4).choices


@check("every answer has a request id, errors too", gatewayOnly=True)
def _requestId() -> None:
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=2)._request_id  # noqa: SLF001
    error = expect(openai.NotFoundError, lambda: client.get("/no/such/thing", cast_to=object))
    assert isinstance(error, openai.APIStatusError)
    assert error.request_id


@check("a request without model and max_tokens gets the active model and its defaults", gatewayOnly=True)
def _defaults() -> None:
    activate(MODEL, maxTokens=5, temperature=0)
    answer = client.post("/chat/completions", body={"messages": ASK}, cast_to=ChatCompletion)
    assert answer.model == MODEL
    assert answer.usage
    assert answer.usage.completion_tokens == 5
    assert answer.choices[0].finish_reason == "length"


@check("the client's own values win over the defaults", gatewayOnly=True)
def _clientWins() -> None:
    activate(MODEL, maxTokens=5)
    for name in ("max_tokens", "max_completion_tokens"):
        answer = client.post("/chat/completions", body={"messages": ASK, name: 9}, cast_to=ChatCompletion)
        assert answer.usage
        assert answer.usage.completion_tokens == 9, name


@check("a default response length reaches /v1/responses under its own name", gatewayOnly=True)
def _responseDefaults() -> None:
    activate(MODEL, maxTokens=5)
    answer = client.responses.create(input="Count from one to ten.")
    assert answer.usage
    assert answer.usage.output_tokens == 5


def _counted() -> int:
    """
    :return: how many answers the gateway has seen token counts in.
    """
    return ask(f"{PLACE.base}/debug/metrics", PLACE.key)["performance"]["requestsWithTokenData"]


@check("tokens are counted in chats and streams of all dialects", gatewayOnly=True)
def _usage() -> None:
    before = _counted()
    _chat()
    _chatStream()
    _response()
    _responseStream()
    assert _counted() == before + 4, f"{_counted() - before} of 4"


if __name__ == "__main__":
    sys.exit(asyncio.run(run(f"openai {openai.__version__}")))
