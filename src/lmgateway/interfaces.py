"""
Every interface of the gateway, each outcome of each method in its docstring.

An interface is here because it has a second implementation or a test needs one. All zope Interface classes are imported
from here, so that mypy-zope checks each implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import Attribute, Interface

from lmgateway.inventory import Inventory, LoadOrder, LoadOutcome, Management
from lmgateway.message import ActiveModel, Completing, HeaderPairs, Principal, RequestHead, Rewritten, Scope

if TYPE_CHECKING:
    from lmgateway.exchange import Exchange, TokenUsage


class IAddressPolicy(Interface):
    """Who may connect at all."""

    def permits(address: str) -> bool:
        """
        :param address: a textual IP address, IPv4, IPv6 (a zone id is ignored) or IPv4-mapped IPv6.
        :return: whether it may ask anything. What is no IP address may not.
        """


class IAuthenticator(Interface):
    """Who is asking."""

    realm: str = Attribute("The protection space, for the challenge of a 401 (RFC 9110 section 11.5).")

    def authenticate(head: RequestHead) -> Principal:
        """
        Pure and constant in time over which key it was.

        :return: the principal that the head's one credential names.
        :raise Unauthenticated: there is none, there are several, it is malformed, unknown or expired.
        :raise Forbidden: it is not to be used from the head's address.
        """


class IAuthorizer(Interface):
    """What a principal may do."""

    def permit(principal: Principal, scope: Scope) -> None:
        """
        :return: None when the principal may.
        :raise Forbidden: it lacks the scope; the message names the scope.
        """


class IRequestRewriter(Interface):
    """Complete a JSON request on its way to LM Studio."""

    def rewrite(body: bytes, complete: Completing, watch: frozenset[str] = frozenset()) -> Rewritten:
        """
        Add each injection whose member (and every ``unless``) the top-level object lacks, and write the model that an
        alias stands for in its place; change nothing else. Pure, and idempotent but for aliases.

        :param body: the request body, whole.
        :param complete: tells what to do, and is asked once, after the body was found to be sound.
        :param watch: further top-level names whose presence the caller wants told (``Rewritten.members``).
        :return: the body to send; the very same bytes when nothing was missing.
        :raise BadRequest: the body is no JSON object, is not UTF-8, is nested too deeply, or names twice a member that
            the gateway reads (``model``, ``stream``, an injection's or a watched one).
        :raise GatewayError: ``complete`` did.
        """


class IHeaderPolicy(Interface):
    """Which header fields cross the gateway. Both methods are total on arbitrary bytes."""

    def upstreamHeaders(head: RequestHead) -> HeaderPairs:
        """
        The client's end-to-end fields, spelled and ordered as they came; none that is hop-by-hop or named in
        ``Connection``, no credential of the client's, no framing (``Host``, ``Content-Length``, ``Expect``); LM Studio's
        own token where one is configured.
        """

    def downstreamHeaders(headers: HeaderPairs) -> HeaderPairs:
        """The upstream's end-to-end fields, spelled and ordered as they came; framing is the channel's business."""


class IActiveModel(Interface):
    """The active model, and that it survives a crash."""

    def current() -> ActiveModel | None:
        """The model that requests without one are given, from memory."""

    def activate(model: ActiveModel) -> Deferred[None]:
        """
        Make ``model`` the active one.

        :return: fires once a ``kill -9`` can no longer undo it, and only then does :meth:`current` tell it; fails with
            :class:`lmgateway.errors.Unavailable` when it could not be stored, and then nothing has changed.
        """

    def deactivate() -> Deferred[None]:
        """Have no active model; otherwise like :meth:`activate`."""


class IReplayable(IBodyProducer):
    """A body that can be produced again from its beginning, so that a request may be sent a second time."""


class IUpstream(Interface):
    """Where requests go."""

    def send(method: bytes, target: bytes, headers: HeaderPairs, body: IBodyProducer | None) -> Deferred[IResponse]:
        """
        Send one request.

        :param target: the request target in origin form, sent byte for byte.
        :param headers: end-to-end fields only; ``Host`` and framing are added.
        :return: fires with the response once its head is complete. Its ``headers`` are
            :class:`lmgateway.wire.agent.VerbatimHeaders`. Somebody must call ``deliverBody``. Fails with
            :class:`~lmgateway.errors.UpstreamUnavailable` (no connection), :class:`~lmgateway.errors.UpstreamBroken` (it
            broke off, or spoke no HTTP) or ``CancelledError``. Cancelling closes the connection at once.
        """

    def retire() -> None:
        """Close what is pooled, and let running requests finish: no others will come."""

    def close() -> Deferred[None]:
        """Close what is pooled, and what still runs. Fires when it is closed."""


class IModelManager(Interface):
    """
    Who loads and unloads LM Studio's models, one way or another.

    Each method fails with :class:`~lmgateway.errors.UpstreamUnavailable` (nobody there), ``UpstreamSilent`` (no answer in
    time), ``UpstreamBroken`` (it broke off, or what it said makes no sense) or :class:`~lmgateway.errors.Forbidden`
    (LM Studio's token lacks the permission), with what LM Studio said in the message, without any token that it quotes.
    """

    management: Management = Attribute("How it does it.")

    def inventory() -> Deferred[Inventory]:
        """Ask what there is. Cancelling ends the asking."""

    def load(order: LoadOrder, progress: Callable[[float], None]) -> Deferred[LoadOutcome]:
        """
        Load one more instance. It may take minutes.

        :param progress: told how far it is, from 0 to 1, where LM Studio tells; never again once the result is there.
        :return: fires when the instance can be asked. Fails besides with :class:`~lmgateway.errors.NotFound` (there is no
            such model), ``Conflict`` (the ``instanceId`` is taken) or ``UpstreamFailed`` (LM Studio could not load it).
            Cancelling cancels the load in LM Studio as far as it can be.
        """

    def unload(identifier: str) -> Deferred[None]:
        """
        Unload an instance, whoever it answers.

        :return: fires when it is gone; fails besides with :class:`~lmgateway.errors.NotFound` (there is none).
        """

    def close() -> Deferred[None]:
        """Let go of whatever is open. Nothing is asked of it any more."""


class IEventJournal(Interface):
    """What happened, for whoever follows it (contract, section 5)."""

    def record(kind: str, data: Mapping[str, object]) -> int:
        """
        Add an event. Never waits, never fails; a ``timestamp`` is added.

        :param kind: the event's type, one of the contract's table.
        :param data: what it says beside the timestamp: JSON values, no secret, no body.
        :return: the event's id, one more than that of the event before.
        """


class IExchangeListener(Interface):
    """Who is told of each inference request as it goes. None of these may fail or take long."""

    def exchangeBegun(exchange: Exchange) -> None:
        """Its body is read, and it goes to LM Studio."""

    def firstTokenPassed(exchange: Exchange) -> None:
        """The first piece of generated text passes."""

    def exchangeEnded(exchange: Exchange) -> None:
        """It is over: answered, cancelled, cut off or failed."""


class IAnswerReader(Interface):
    """Reads an answer as it passes. It is fed every byte, in any chunking, and never delays or changes one."""

    def feed(data: bytes) -> bool:
        """
        Look at a piece of the answer's body.

        :return: whether this piece held the first generated text.
        """

    def finish() -> None:
        """That was all of it."""

    usage: TokenUsage | None = Attribute("The tokens, once they are known.")
    tokensPerSecond: float | None = Attribute("As LM Studio told, where it did.")
    finishReason: str | None = Attribute("Why generation ended, where it was told.")
