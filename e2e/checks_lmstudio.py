"""
LM Studio's library for Python, its synchronous and its asynchronous half, against the simulator.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from importlib.metadata import version

import lmstudio
from report import PLACE, check, expect, run

QWEN, GEMMA, NOMIC = "qwen/qwen3-8b", "google/gemma-3-4b", "text-embedding-nomic-embed-text-v1.5"

client = lmstudio.Client(PLACE.base)


def loaded() -> list[str]:
    """The identifiers of what is loaded."""
    return [model.identifier for model in client.list_loaded_models()]


@check("lists what is downloaded, with its details")
def _downloaded() -> None:
    models = {model.model_key: model for model in client.list_downloaded_models()}
    assert {QWEN, GEMMA, NOMIC} <= set(models), models
    assert models[GEMMA].info.vision is True
    assert models[QWEN].info.trained_for_tool_use is True
    assert [model.model_key for model in client.list_downloaded_models("embedding")] == [NOMIC]


@check("lists what is loaded")
def _loaded() -> None:
    assert loaded() == [QWEN], loaded()


@check("loads a model with its progress, under an identifier, with a configuration that it reads back")
def _load() -> None:
    seen: list[float] = []
    began = time.monotonic()
    config = {"contextLength": 4096, "gpu": {"ratio": 0.5}, "flashAttention": False}
    model = client.llm.load_new_instance(GEMMA, "mine", ttl=60, config=config, on_load_progress=seen.append)
    assert 0.5 < time.monotonic() - began < 20
    assert seen[0] == 0, seen
    assert seen[-1] == 1, seen
    assert seen == sorted(seen), seen
    assert len(seen) > 5, seen
    assert model.identifier == "mine"
    assert model.get_context_length() == 4096
    told = model.get_load_config()
    assert (told.context_length, told.gpu.ratio, told.flash_attention) == (4096, 0.5, False), told
    assert loaded() == [QWEN, "mine"], loaded()


@check("an identifier that is taken, a model that is not there or of the other kind is an LMStudioServerError")
def _refused() -> None:
    load = client.llm.load_new_instance
    assert "mine" in str(expect(lmstudio.LMStudioServerError, lambda: load(GEMMA, "mine")))
    assert "nope/nope" in str(expect(lmstudio.LMStudioServerError, lambda: load("nope/nope")))
    assert "generic.domainMismatch" in str(expect(lmstudio.LMStudioServerError, lambda: load(NOMIC)))
    assert loaded() == [QWEN, "mine"], loaded()


@check("chats, and is told how it went")
def _respond() -> None:
    result = client.llm.model("mine").respond("hello")
    assert result.content.endswith("You said: hello"), result.content
    assert result.stats.stop_reason == "eosFound"
    assert result.stats.predicted_tokens_count > 3
    assert result.model_info.model_key == GEMMA
    assert result.load_config.context_length == 4096


@check("streams a chat, with the progress of the prompt before it")
def _stream() -> None:
    progress: list[float] = []
    stream = client.llm.model("mine").respond_stream("count to 20", on_prompt_processing_progress=progress.append)
    pieces = [fragment.content for fragment in stream]
    assert "".join(pieces).split() == [str(number) for number in range(1, 21)], pieces
    assert len(pieces) == 20, pieces
    assert progress[-1] == 1, progress


@check("keeps to a limit and to stop strings")
def _limited() -> None:
    model = client.llm.model("mine")
    assert model.respond("count to 20", config={"maxTokens": 5}).stats.stop_reason == "maxPredictedTokensReached"
    result = model.respond("count to 20", config={"stopStrings": ["7"]})
    assert (result.content, result.stats.stop_reason) == ("1 2 3 4 5 6 ", "stopStringFound"), result.content


@check("cancels a stream, which ends with userStopped")
def _cancel() -> None:
    stream = client.llm.model("mine").respond_stream("count to 5000")
    for count, _ in enumerate(stream):
        if count == 5:
            stream.cancel()
    assert stream.result().stats.stop_reason == "userStopped"


@check("completes a text, without thoughts")
def _complete() -> None:
    assert "<think>" not in client.llm.model(QWEN).complete("once upon a time").content


@check("has tools called")
def _act() -> None:
    def add(a: int, b: int) -> int:
        """Add."""
        return a + b

    said: list[str] = []
    client.llm.model(QWEN).act(
        'tool: add {"a": 20, "b": 22}', [add], on_message=lambda message: said.append(str(message))
    )
    assert "42" in said[-1], said


@check("gets a structured answer")
def _structured() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    assert client.llm.model("mine").respond("x", response_format=schema).parsed == {"n": 1}


@check("embeds, one text and several, by a model that is loaded for it")
def _embed() -> None:
    model = client.embedding.model(NOMIC)
    one = model.embed("a cat")
    both = model.embed(["a cat", "a dog"])
    assert len(one) == 768
    assert list(both[0]) == list(one)
    assert NOMIC in loaded(), loaded()


@check("counts tokens and applies the template")
def _tokens() -> None:
    model = client.llm.model("mine")
    assert len(model.tokenize("one two three")) == model.count_tokens("one two three") == 3
    assert "hello" in model.apply_prompt_template("hello")


@check("unloads, and a model that is gone is an LMStudioModelNotFoundError")
def _unload() -> None:
    model = client.llm.model("mine")
    model.unload()
    assert "mine" not in loaded(), loaded()
    error = expect(lmstudio.LMStudioModelNotFoundError, lambda: model.respond("hello"))
    assert "generic.noModelMatchingQuery" in str(error), error


@check("a load that fails says why")
def _failing() -> None:
    with lmstudio.Client(os.environ["E2E_FAILING"]) as failing:
        error = expect(lmstudio.LMStudioServerError, lambda: failing.llm.load_new_instance(GEMMA))
        assert os.environ["E2E_CAUSE"] in str(error), error
        assert [model.identifier for model in failing.list_loaded_models()] == [QWEN]


@check("asynchronously: lists, loads, streams, cancels, embeds and unloads")
async def _async() -> None:
    async with lmstudio.AsyncClient(PLACE.base) as other:
        assert len(await other.list_downloaded_models()) > 3
        seen: list[float] = []
        model = await other.llm.load_new_instance(GEMMA, "theirs", on_load_progress=seen.append)
        assert seen[-1] == 1, seen
        stream = await model.respond_stream("count to 10")
        assert len([fragment async for fragment in stream]) == 10
        stream = await model.respond_stream("count to 5000")
        count = 0
        async for _ in stream:
            count += 1
            if count == 5:
                await stream.cancel()
        assert stream.result().stats.stop_reason == "userStopped"
        embedding = await other.embedding.model(NOMIC)
        assert len(await embedding.embed("a cat")) == 768
        await model.unload()
        assert "theirs" not in [each.identifier for each in await other.list_loaded_models()]


if __name__ == "__main__":
    sys.exit(asyncio.run(run(f"lmstudio {version('lmstudio')}")))
