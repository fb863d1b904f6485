# -*- test-case-name: tests.studio.sdk.test_namespace -*-
"""One namespace, connected to when it is needed: once, and again after a loss."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed

from lmgateway.errors import UpstreamUnavailable
from lmgateway.studio.sdk.connection import Connection, Credentials
from lmgateway.studio.sharing import Shared


class Namespace:
    """
    Gives the connection to use. Nothing is done between two uses.

    :param make: makes a connection that is not open yet.
    :param credentials: who connects.
    """

    def __init__(self, make: Callable[[], Connection], credentials: Credentials) -> None:
        self._make = make
        self._credentials = credentials
        self._connection: Connection | None = None
        self._opening: Shared[Connection] | None = None
        self._isClosed = False

    def use(self) -> Deferred[Connection]:
        """
        Give the connection, made if it must be.

        :return: fails as :meth:`~lmgateway.studio.sdk.connection.Connection.open` does. Cancelling ends the waiting only.
        """
        if self._connection is not None and self._connection.isOpen:
            return succeed(self._connection)
        if self._opening is None or self._opening.isOver:
            self._opening = Shared()
            self._opening.run(self._open())
        return self._opening.wait()

    def close(self) -> Deferred[None]:
        """Close what there is, for good."""
        self._isClosed = True
        return succeed(None) if self._connection is None else self._connection.close()

    async def _open(self) -> Connection:
        if self._isClosed:
            raise UpstreamUnavailable(
                "LM Studio is no longer asked: this gateway is stopping, or was told another address."
            )
        connection = self._connection = self._make()
        await connection.open(self._credentials)
        return connection
