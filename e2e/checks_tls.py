"""
The OpenAI library for Python against the gateway's TLS: with its authority trusted by ``SSL_CERT_FILE``, and without.
"""

from __future__ import annotations

import os
import ssl
import sys

import openai

BASE, KEY = os.environ["E2E_BASE"], os.environ["E2E_KEY"]
MODEL = "qwen/qwen3-8b"
ASK = [{"role": "user", "content": "Count from one to ten."}]


def trusted() -> None:
    """With nothing but the variable set, lists, completes and streams."""
    client = openai.OpenAI(base_url=f"{BASE}/v1", api_key=KEY, max_retries=0)
    assert MODEL in [model.id for model in client.models.list()]
    assert client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=60).choices[0].message.content
    stream = client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=60, stream=True)
    assert sum(bool(chunk.choices and chunk.choices[0].delta.content) for chunk in stream) > 1


def untrusted() -> None:
    """With the platform's authorities alone, is turned away by its own check of the certificate."""
    platform = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = openai.OpenAI(
        base_url=f"{BASE}/v1", api_key=KEY, max_retries=0, http_client=openai.DefaultHttpxClient(verify=platform)
    )
    try:
        client.models.list()
    except openai.APIConnectionError as error:
        cause = str(error.__cause__)
    else:
        cause = "nothing"
    assert "CERTIFICATE_VERIFY_FAILED" in cause, f"{cause} stood in its way"


def main() -> int:
    """
    :return: 0 if all holds, else 1.
    """
    failed = 0
    for sentence, check in (
        ("lists, completes and streams over TLS, with SSL_CERT_FILE", trusted),
        ("trusts nobody without it", untrusted),
    ):
        try:
            check()
        except Exception as error:  # noqa: BLE001 - reported, whatever it is
            failed = 1
            print(f"FAIL  openai {openai.__version__}: {sentence}\n      {error!r}", flush=True)
        else:
            print(f"ok    openai {openai.__version__}: {sentence}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
