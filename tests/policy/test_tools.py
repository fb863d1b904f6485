"""Which tools need an administrator."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from lmgateway.policy.tools import namesServers
from twisted.trial.unittest import SynchronousTestCase

FUNCTION = {"type": "function", "function": {"name": "mcp", "parameters": {"type": "object"}}}
SERVER = {"type": "mcp", "server_label": "x", "server_url": "http://192.0.2.1/mcp"}

VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.sampled_from(("mcp", "type", "function", "\ud800"))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(("type", "x", "mcp")), inner, max_size=3)
    ),
    max_leaves=8,
)


def bodyOf(tools: Any) -> bytes:
    """A request with these tools."""
    return json.dumps({"input": "x", "tools": tools}).encode()


class NamesServersTests(SynchronousTestCase):
    def test_functions(self) -> None:
        """Functions, which the client runs, name no server, whatever is said in them of MCP."""
        for tools in (
            [],
            [FUNCTION],
            [{"type": "function", "default": SERVER}],
            [["type", "mcp"]],
            [{"mcp": "type"}],
            "mcp",
            None,
            [{"type": "MCP"}],
        ):
            self.assertFalse(namesServers(bodyOf(tools)), tools)

    def test_servers(self) -> None:
        """A server is seen among any number of functions, and where the array was forgotten."""
        for tools in ([SERVER], [FUNCTION, 1, SERVER], SERVER, [SERVER, FUNCTION]):
            self.assertTrue(namesServers(bodyOf(tools)), tools)

    def test_spellings(self) -> None:
        """It is seen in any spelling, and whichever of two types LM Studio might believe."""
        for tools in (
            rb'[{"type":"\u006dcp"}]',
            rb'[{"\u0074ype" : "mcp"}]',
            b'[ { "type"\n:\t"mcp" } ]',
            b'[{"type":"mcp","type":"function"}]',
            b'[{"type":"function","type":"mcp"}]',
            rb'[{"type":"mcp","x":"\ud83d"}]',
        ):
            self.assertTrue(namesServers(b'{"tools":' + tools + b"}"), tools)

    def test_deep(self) -> None:
        """A schema may be nested as deeply as the rewriter lets it, and the server behind it is seen."""
        deep = b"[" * 400 + b"]" * 400
        self.assertTrue(namesServers(b'{"tools":[{"x":' + deep + b'},{"type":"mcp"}]}'))
        self.assertFalse(namesServers(b'{"tools":[{"x":' + deep + b',"y":"mcp"}]}'))

    def test_longNumbers(self) -> None:
        """A number may have more digits than Python reads, and the server behind it is seen."""
        for number in (b"9" * 5000, b"-" + b"9" * 5000, b"1e999999", b"1" * 5000 + b".5"):
            self.assertTrue(namesServers(b'{"tools":[{"x":' + number + b'},{"type":"mcp"}]}'))
            self.assertFalse(namesServers(b'{"tools":[{"x":' + number + b',"y":"mcp"}]}'))

    @given(VALUES)
    def test_anyTools(self, tools: Any) -> None:
        """Of any value it tells whether one of its items, or it itself, is an object of that type."""
        listed = tools if isinstance(tools, list) else [tools]
        expected = any(isinstance(tool, dict) and tool.get("type") == "mcp" for tool in listed)
        self.assertEqual(namesServers(bodyOf(tools)), expected)
