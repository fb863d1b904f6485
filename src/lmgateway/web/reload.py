# -*- test-case-name: tests.web.test_reload -*-
"""``POST /admin/reload``: have the configuration, the keys and the certificates read again, and be told what came of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from klein import Klein

from lmgateway.changes import Changes
from lmgateway.errors import Conflict
from lmgateway.policy.acts import ActDetails
from lmgateway.settings import SettingsError
from lmgateway.web.responses import answerErrors, requireJson, respondJson
from lmgateway.wire.request import GatewayRequest

_FOLDERS = re.compile(r"""(?<![\w/.])(?:[A-Za-z]:\\(?:[^\s:,"'\\]+\\)*|/(?!/)(?:[^\s/:,"']+/)+)""")
"""What stands before the name of a file in an absolute path. A CIDR and a URL have no such thing."""


class ReloadApi:
    """
    Reads everything again.

    :param reload: does so, as SIGHUP does; fails with SettingsError where something is bad, and then nothing has changed.
    """

    app = Klein()
    answerErrors(app)

    def __init__(self, reload: Callable[[], Awaitable[Changes]]) -> None:
        self._reload = reload

    @app.route("/admin/reload", methods=["POST"])
    async def reload(self, request: GatewayRequest) -> None:
        """Read again, and tell what has changed. The body may be empty."""
        if await request.body.read():
            requireJson(request)
        request.audited = ActDetails("configuration")
        try:
            changes = await self._reload()
        except SettingsError as error:
            raise Conflict(
                f"The configuration was not read again; the old one stays: {withoutFolders(str(error))}"
            ) from None
        told = {"changed": changes.changed, "needsRestart": changes.needsRestart}
        request.audited = ActDetails("configuration", after=told)
        respondJson(request, {"status": "reloaded", **told})


def withoutFolders(text: str) -> str:
    """The text with files by their names alone: where they are on this machine is not for clients."""
    return _FOLDERS.sub("", text)
