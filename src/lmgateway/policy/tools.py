# -*- test-case-name: tests.policy.test_tools -*-
"""
Which requests have LM Studio run tools by itself.

A tool of the type ``function`` is run by the client. One of the type ``mcp`` in ``/v1/responses`` has LM Studio connect to a server of
the client's choice, from where LM Studio stands, and act on what that says. That is an administrator's right, as ``integrations``
are (:data:`lmgateway.policy.routes.INTEGRATIONS`).
"""

from __future__ import annotations

import json
from typing import Any

from lmgateway.policy.injection import readCarefully, readQuickly

TOOLS = frozenset({"tools"})
"""What the rewriter must watch for: it refuses a body that has it twice."""

_MCP = ("type", "mcp")


def namesServers(body: bytes) -> bool:
    """
    Whether a request names MCP servers for LM Studio to talk to.

    Of a repeated ``type`` any counts. What is nested too deeply to tell counts as if it did.

    :param body: a sound JSON object with the member ``tools``, once.
    """
    # Without an escaped letter the type has one spelling, and few requests have it.
    if b'"mcp"' not in body and b"\\u" not in body:
        return False
    values = readQuickly(body) or readCarefully(body)[0]
    try:
        # Numbers decide nothing here, and Python refuses to read one of some thousand digits.
        tools: Any = json.loads(bytes(values["tools"]), object_pairs_hook=tuple, parse_int=str)
    except RecursionError:
        return True
    # An object has become the tuple of its members; an array is a list.
    listed = tools if isinstance(tools, list) else [tools]
    return any(_MCP in tool for tool in listed if isinstance(tool, tuple))
