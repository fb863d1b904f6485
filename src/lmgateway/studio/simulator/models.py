# -*- test-case-name: tests.studio.simulator.test_models -*-
"""The models that are downloaded. Pure."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["llm", "vlm", "embeddings"]

LANGUAGE: frozenset[Kind] = frozenset({"llm", "vlm"})
"""The kinds of model that generate text."""

EMBEDDING: frozenset[Kind] = frozenset({"embeddings"})


class Model(Struct, frozen=True, kw_only=True):
    """
    A downloaded model.

    :param key: the name that requests use.
    :param kind: as ``/api/v0`` names it.
    :param reasoningField: where its thoughts go in a chat completion, or None if it has none. gpt-oss has one of its own.
    :param reasoningOptions: what ``reasoning`` of ``/api/v1/chat`` may be.
    :param reasoningDefault: what it is when nothing is said.
    :param dimensions: how many numbers its embeddings have.
    :param experts: how many experts it uses at once, or 0 if it is no mixture of them.
    """

    key: str
    kind: Kind
    publisher: str
    displayName: str
    architecture: str
    quantization: str
    bits: int
    sizeBytes: int
    maxContextLength: int
    params: str | None = None
    format: Literal["gguf", "mlx"] = "gguf"
    toolUse: bool = False
    reasoningField: Literal["reasoning_content", "reasoning"] | None = None
    reasoningOptions: tuple[str, ...] = ()
    reasoningDefault: str = ""
    dimensions: int = 0
    experts: int = 0

    @property
    def generates(self) -> bool:
        """Whether it makes text, not vectors."""
        return self.kind in LANGUAGE

    @property
    def variant(self) -> str:
        """The key with the quantization, as LM Studio writes it when it matters."""
        return f"{self.key}@{self.quantization.lower()}"

    @property
    def names(self) -> tuple[str, ...]:
        """The names it answers to: the variant, the key, the key without its publisher."""
        return (self.variant, self.key, self.key.rpartition("/")[2])


CATALOGUE: tuple[Model, ...] = (
    Model(
        key="qwen/qwen3-8b",
        kind="llm",
        publisher="qwen",
        displayName="Qwen3 8B",
        architecture="qwen3",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=5027783808,
        params="8B",
        maxContextLength=40960,
        toolUse=True,
        reasoningField="reasoning_content",
        reasoningOptions=("off", "on"),
        reasoningDefault="on",
    ),
    Model(
        key="google/gemma-3-4b",
        kind="vlm",
        publisher="google",
        displayName="Gemma 3 4B",
        architecture="gemma3",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=3341142368,
        params="4B",
        maxContextLength=131072,
    ),
    Model(
        key="openai/gpt-oss-20b",
        kind="llm",
        publisher="openai",
        displayName="gpt-oss 20B",
        architecture="gpt-oss",
        quantization="MXFP4",
        bits=4,
        sizeBytes=12109566560,
        params="20B",
        maxContextLength=131072,
        toolUse=True,
        reasoningField="reasoning",
        reasoningOptions=("low", "medium", "high"),
        reasoningDefault="low",
        experts=4,
    ),
    Model(
        key="text-embedding-nomic-embed-text-v1.5",
        kind="embeddings",
        publisher="nomic-ai",
        displayName="Nomic Embed Text v1.5",
        architecture="nomic-bert",
        quantization="Q4_K_M",
        bits=4,
        sizeBytes=84106624,
        maxContextLength=2048,
        dimensions=768,
    ),
)
"""What is downloaded unless somebody says otherwise: a model that thinks, one that sees, gpt-oss and one for embeddings."""
