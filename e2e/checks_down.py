"""
What the clients are told when the model server has gone.
"""

from __future__ import annotations

import asyncio
import sys

import anthropic
import openai
from report import PLACE, check, expect, run

ASK = [{"role": "user", "content": "Count from one to ten."}]


@check("with the model server gone, a chat is an InternalServerError, 503, that says what to do")
def _openai() -> None:
    client = openai.OpenAI(base_url=f"{PLACE.base}/v1", api_key=PLACE.key, max_retries=0, timeout=30)
    create = client.chat.completions.create
    error = expect(openai.InternalServerError, lambda: create(model="any", messages=ASK))
    assert isinstance(error, openai.APIStatusError)
    assert error.status_code == 503, error.status_code
    assert "LM Studio" in error.message


@check("with the model server gone, a message is a ServiceUnavailableError in Anthropic's dialect")
def _anthropic() -> None:
    client = anthropic.Anthropic(base_url=PLACE.base, api_key=PLACE.key, max_retries=0, timeout=30)
    create = client.messages.create
    error = expect(anthropic.ServiceUnavailableError, lambda: create(model="any", messages=ASK, max_tokens=3))
    assert isinstance(error, anthropic.APIStatusError)
    assert isinstance(error.body, dict)
    assert error.body["type"] == "error"


if __name__ == "__main__":
    sys.exit(asyncio.run(run("model server gone")))
