# -*- test-case-name: tests.telemetry.test_usage -*-
"""
Token counts and rates, found in an answer as it passes.
"""

from __future__ import annotations

from lmgateway.telemetry.usage_figures import Figures
from lmgateway.telemetry.usage_json import JsonReader
from lmgateway.telemetry.usage_stream import (
    ChatStream,
    CompletionStream,
    MessageStream,
    ResponsesStream,
    StreamReader,
)

_STREAMS: dict[str, type[StreamReader]] = {
    "openai": CompletionStream,
    "native_v0": CompletionStream,
    "responses": ResponsesStream,
    "anthropic": MessageStream,
    "native_v1": ChatStream,
}


def readerFor(dialect: str, isStream: bool) -> Figures:  # noqa: FBT001 - as IReaderMaker has it
    """
    Make what reads one answer.

    :param dialect: of its route; one of those that go to LM Studio.
    :param isStream: whether it is an event stream.
    :return: a reader of an answer whose content is not encoded.
    """
    return _STREAMS[dialect]() if isStream else JsonReader()
