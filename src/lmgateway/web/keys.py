# -*- test-case-name: tests.web.test_keys -*-
"""The keys over HTTP: ``/admin/keys``."""

from __future__ import annotations

from typing import Any

from klein import Klein

from lmgateway.errors import MethodNotAllowed, NotFound
from lmgateway.keydesk import KeyDesk, auditable
from lmgateway.policy.acts import ActDetails
from lmgateway.web.responses import answerErrors, requireJson, respondJson
from lmgateway.wire.request import GatewayRequest

CREATED = 201


class KeysApi:
    """
    ``/admin/keys`` and what is below it.

    :param desk: does what is asked.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, desk: KeyDesk) -> None:
        self._desk = desk

    @app.route("/admin/keys", methods=["GET"])
    def listAll(self, request: GatewayRequest) -> None:
        """Tell of every key."""
        respondJson(request, self._desk.listAll())

    @app.route("/admin/keys", methods=["POST"])
    async def mint(self, request: GatewayRequest) -> None:
        """Make a key, and show it this once."""
        requireJson(request)
        body = await request.body.read()
        answer = await self._desk.mint(request.asker, body)
        request.audited = ActDetails(answer["name"], after=auditable(answer))
        respondJson(request, answer, CREATED)

    @app.route("/admin/keys/<keyId>", methods=["GET"])
    def show(self, request: GatewayRequest, keyId: str) -> None:
        """Tell of one key."""
        respondJson(request, self._desk.show(keyId))

    @app.route("/admin/keys/<keyId>", methods=["PATCH"])
    async def edit(self, request: GatewayRequest, keyId: str) -> None:
        """Change what a key may do."""
        requireJson(request)
        body = await request.body.read()
        known = self._note(request, keyId)
        answer = await self._desk.edit(request.asker, keyId, body)
        request.audited = ActDetails(answer["name"], known, auditable(answer))
        respondJson(request, answer)

    @app.route("/admin/keys/<keyId>", methods=["DELETE"])
    async def revoke(self, request: GatewayRequest, keyId: str) -> None:
        """End a key, and what runs with it."""
        self._note(request, keyId)
        respondJson(request, await self._desk.revoke(keyId))

    @app.route("/admin/keys/<keyId>/rotate", methods=["POST"])
    async def rotate(self, request: GatewayRequest, keyId: str) -> None:
        """Give a key a new secret, and show it this once. The body may be empty."""
        body = await request.body.read()
        if body:
            requireJson(request)
        known = self._note(request, keyId)
        answer = await self._desk.rotate(request.asker, keyId, body)
        request.audited = ActDetails(answer["name"], known, auditable(answer))
        respondJson(request, answer)

    @app.route("/admin/keys/<keyId>", methods=["POST"])
    def noPost(self, request: GatewayRequest, keyId: str) -> None:
        """Say what can be done about one key."""
        raise MethodNotAllowed("A key is made by POST /admin/keys.", allow=(b"GET", b"HEAD", b"PATCH", b"DELETE"))

    @app.route("/admin/keys/<keyId>/rotate", methods=["GET", "PATCH", "DELETE"])
    def onlyPost(self, request: GatewayRequest, keyId: str) -> None:
        """Say how a key is rotated."""
        raise MethodNotAllowed("A key is rotated by POST.", allow=(b"POST",))

    def _note(self, request: GatewayRequest, keyId: str) -> dict[str, Any] | None:
        """Have the audit name the key that something is to be done about, and what is known of it before; None where there is none."""
        try:
            known = auditable(self._desk.show(keyId))
        except NotFound:
            return None
        request.audited = ActDetails(known["name"], known)
        return known
