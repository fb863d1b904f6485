"""
What the checks on a request cost: address, browser rules, route, key, scope, limits, size; all that
:meth:`lmgateway.web.tree.GatewayRoot.admit` does, and the release of what it took.

Run as ``python bench/checks.py``. It needs the gateway and nothing else, opens no socket, and ends with 1 where a request with
a stored key takes more than 30 microseconds on this machine.
"""

import sys
import time
from timeit import repeat

from lmgateway.message import Grant, Principal, RequestHead, Scope
from lmgateway.policy.authentication import digestOf, generateKey
from lmgateway.policy.limits import RequestLimits
from lmgateway.settings import loadSettings
from lmgateway.telemetry.journal import Journal
from lmgateway.web.limits import KeyRefusals
from lmgateway.web.responses import respondError
from lmgateway.web.rules import makeRules
from lmgateway.web.tree import GatewayRoot
from lmgateway.wire.body import IncomingBody
from lmgateway.wire.channel import GatewayChannel
from lmgateway.wire.request import GatewayRequest
from lmgateway.wire.site import GatewaySite
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.web.resource import Resource

MOST_MICROSECONDS = 30
KEYS = 1000
ROUNDS, REQUESTS = 7, 20_000
PEER = "192.168.1.77"

GRANTS = {
    "a key that is held to nothing": Grant(),
    "a key with every limit": Grant(
        expires=4e9,
        models=("qwen/*",),
        addresses=("10.0.0.0/8", "192.168.0.0/16", "fd00::/8"),
        requestsPerMinute=1_000_000_000,
        tokensPerDay=1_000_000_000,
        parallel=100,
    ),
}


def headOf(key: str) -> RequestHead:
    """A head such as OpenAI's Python client sends."""
    fields = {
        "Host": "gateway.lan:8001",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "Connection": "keep-alive",
        "User-Agent": "OpenAI/Python 2.8.0",
        "X-Stainless-Lang": "python",
        "X-Stainless-Package-Version": "2.8.0",
        "X-Stainless-OS": "Linux",
        "X-Stainless-Arch": "x64",
        "X-Stainless-Runtime": "CPython",
        "X-Stainless-Async": "false",
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Content-Length": "400",
    }
    pairs = tuple((name.encode(), value.encode()) for name, value in fields.items())
    return RequestHead.build(b"POST", b"/v1/chat/completions", pairs, peer=PEER)


def measure(grant: Grant, perAddress: int) -> float:
    """Microseconds per request, of the fastest round."""
    allow = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,fd00::/8"
    settings = loadSettings(environ={"GATEWAY_API_KEY": "an-admin's-key", "IP_ALLOWLIST": allow})
    key = generateKey()
    principals = {
        digestOf(generateKey()): Principal(f"key {number}", frozenset({Scope.INFERENCE})) for number in range(KEYS)
    }
    principals[digestOf(key)] = Principal("alice", frozenset({Scope.INFERENCE}), "k1", grant)
    clock = Clock()
    clock.advance(time.time())
    limits = RequestLimits(lambda _, __: 1000, perAddress)
    rules = makeRules(settings, principals, time.time)
    root = GatewayRoot(rules, Resource(), {}, {}, KeyRefusals(Journal(time.time, 1 << 20), clock), limits)
    site = GatewaySite(root, clock, settings.limits, respondError, root.ended)
    site.now = time.time
    channel = GatewayChannel(site)
    channel.makeConnection(StringTransport(peerAddress=IPv4Address("TCP", PEER, 50_000)))
    head = headOf(key)
    request = GatewayRequest(channel, head, IncomingBody(channel, 400, 1 << 20, expectsContinue=False), "req_1", 0.0)
    request.site = site

    def check() -> None:
        root.admit(request)
        root.ended(request)

    return min(repeat(check, number=REQUESTS, repeat=ROUNDS)) / REQUESTS * 1e6


def main() -> int:
    """Measure each kind of key, and say whether that is quick enough."""
    slowest = 0.0
    for name, grant in GRANTS.items():
        for perAddress in (0, 1_000_000_000):
            microseconds = measure(grant, perAddress)
            slowest = max(slowest, microseconds)
            address = "with" if perAddress else "without"
            print(f"{name}, {address} a limit of its address: {microseconds:.1f} µs")
    return int(slowest > MOST_MICROSECONDS)


if __name__ == "__main__":
    sys.exit(main())
