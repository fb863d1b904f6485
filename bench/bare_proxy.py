"""
What the tutorials of Klein and treq lead to: the baseline that the figures of the gateway are divided by.

Stock ``twisted.web`` on both sides, no keys, no limits, no deadlines, no events: it injects three members and relays.

Run as ``python bench/bare_proxy.py PORT http://127.0.0.1:UPSTREAM``.
"""

import json
import sys

import treq
from klein import Klein
from twisted.internet import reactor
from twisted.internet.endpoints import serverFromString
from twisted.web.client import HTTPConnectionPool
from twisted.web.iweb import IRequest
from twisted.web.server import Site

INJECTED = {"model": "bench/model", "temperature": 0.5, "max_tokens": 64}
app = Klein()
pool = HTTPConnectionPool(reactor)
pool.maxPersistentPerHost = 64  # its default of 2 would flatter whatever it is compared with


@app.route("/v1/<path:path>", methods=["POST"])
async def proxy(request: IRequest, path: str) -> None:  # noqa: ARG001 - Klein passes it
    """Inject, ask, relay."""
    body = json.loads(request.content.read())
    for name, value in INJECTED.items():
        body.setdefault(name, value)
    response = await treq.request(
        "POST",
        sys.argv[2] + request.uri.decode("ascii"),
        headers={"Content-Type": "application/json"},
        data=json.dumps(body).encode("utf-8"),
        unbuffered=True,
        pool=pool,
    )
    request.setResponseCode(response.code)
    request.setHeader("Content-Type", response.headers.getRawHeaders("Content-Type")[0])
    await treq.collect(response, request.write)


if __name__ == "__main__":
    serverFromString(reactor, f"tcp:{sys.argv[1]}:interface=127.0.0.1:backlog=1024").listen(Site(app.resource()))
    reactor.run()
