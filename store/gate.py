"""The gate of the server: who asks, by the token that came along, and whether they may.

A token is taken as pip, uv and twine send it (HTTP basic: any user, the token as password; or the
token as user without a password) and as ``Authorization: Bearer``. What is sent and is no good
token is refused, also where no token is needed: a client would not see that it was ignored.

Routes are made by `gated_route`, or ask `Gate.admit` themselves (`workers/api/access.py`).
"""

from __future__ import annotations

import base64
import binascii
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route

from store.access import (
    NOTHING,
    Actor,
    Anonymous,
    Caller,
    Rule,
    anonymous_grant,
    check,
    check_everywhere,
    check_gives,
    is_loopback,
    rule_of,
)
from store.accounts import Accounts
from store.channel import RELEASE, parse_channel
from store.errors import BadTokenError, NotAllowedError, UnauthorizedError, WheelfarmError

CHALLENGE: Final = 'Basic realm="wheelfarm", charset="UTF-8"'
"""What makes pip and uv offer credentials (RFC 7617)."""

_LOG: Final = logging.getLogger("wheelfarm.serve")
_LONGEST_CREDENTIALS: Final = 2_048
_FORWARDED: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")

Handler = Callable[[Request], Response] | Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Who may pass. `anonymous` is what is set for those without a token, None for the rule of
    `anonymous_grant`; `loopback` says that the server listens to its own machine alone, `trusts`
    that tokens are minted for some CI system."""

    accounts: Accounts
    anonymous: Anonymous | None = None
    loopback: bool = False
    trusts: bool = False

    def admit(self, connection: HTTPConnection, rule: Rule) -> Caller:
        """The caller, who has the right of `rule` where the path alone says where.

        What depends on a job, a submission or a body is for the route to check by `store.access`.
        Raises UnauthorizedError, NotAllowedError; MalformedError for no channel.
        """
        try:
            return self._admit(connection, rule)
        except (UnauthorizedError, NotAllowedError) as error:
            log_refusal(connection, error)
            raise

    def _admit(self, connection: HTTPConnection, rule: Rule) -> Caller:
        if rule.place == "public":
            return Caller(actor=Actor(who="anonymous", address=_address(connection)), grant=NOTHING)
        caller = self._caller(connection, rule)
        if rule.changes:
            _refuse_other_sites(connection)
        if rule.place == "channel":
            named = connection.path_params.get("channel", RELEASE)
            check(caller, rule.right, [parse_channel(named)])
        elif rule.place == "everywhere":
            check_everywhere(caller, rule.right)
        else:
            check_gives(caller, rule.right)
        return caller

    def _caller(self, connection: HTTPConnection, rule: Rule) -> Caller:
        address = _address(connection)
        sent = credentials(connection)
        if sent is None:
            return Caller(
                actor=Actor(who="anonymous", address=address),
                grant=anonymous_grant(
                    self.anonymous,
                    alone=rule.changes and self.loopback and _is_local(connection),
                    in_use=self.trusts or self._in_use(rule),
                ),
            )
        account = self.accounts.known(sent)
        actor = Actor(who=account.name, token=account.id, address=address)
        return Caller(actor=actor, grant=account.grant)

    def _in_use(self, rule: Rule) -> bool:
        """Whether there are accounts; asked only where it decides, so that pages cost no query."""
        decides = self.anonymous is None and self.loopback and rule.changes
        return decides and self.accounts.in_use()


def gated_route(path: str, handler: Handler, *, method: str = "GET") -> Route:
    """A route whose handler is called for whom its rule lets in, with ``request.state.caller``.

    Raises LookupError when there is no rule for it.
    """
    rule = rule_of(method, path)
    if inspect.iscoroutinefunction(handler):

        async def answer_later(request: Request) -> Response:
            await run_in_threadpool(_let_in, request, rule)
            later: Response = await handler(request)
            return later

        return Route(path, answer_later, methods=[method], name=handler.__name__)

    def answer(request: Request) -> Any:
        _let_in(request, rule)
        return handler(request)

    return Route(path, answer, methods=[method], name=handler.__name__)


def caller_of(request: HTTPConnection) -> Caller:
    """Who was let in."""
    caller = request.state.caller
    assert isinstance(caller, Caller)
    return caller


def gate_of(request: HTTPConnection) -> Gate:
    """The gate of the application that answers."""
    gate = request.app.state.gate
    assert isinstance(gate, Gate)
    return gate


def credentials(connection: HTTPConnection) -> str | None:
    """The token that came along, unchecked; None when none did. Raises BadTokenError."""
    sent = connection.headers.getlist("authorization")
    if not sent:
        return None
    scheme, _, rest = sent[0].partition(" ")
    if len(sent) > 1 or len(rest) > _LONGEST_CREDENTIALS:
        raise BadTokenError("more than one token was sent, or one that is too long")
    if scheme.lower() == "bearer":
        return rest.strip()
    if scheme.lower() == "basic":
        return _password(rest.strip())
    raise BadTokenError(
        f"no way to send a token: {scheme[:20]!a}", hint="HTTP basic or Authorization: Bearer"
    )


def challenge(error: WheelfarmError) -> dict[str, str]:
    """The header that goes with an error of a client that may ask again with a token."""
    return {"www-authenticate": CHALLENGE} if isinstance(error, UnauthorizedError) else {}


def log_refusal(connection: HTTPConnection, error: WheelfarmError) -> None:
    """A line in the log, without the token."""
    method = str(connection.scope.get("method", ""))[:20]
    path = ascii(connection.url.path[:200])
    _LOG.warning("%s %s from %s: %s", method, path, _address(connection), error.code)


def _password(encoded: str) -> str:
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise BadTokenError("the credentials are not those of HTTP basic (RFC 7617)") from error
    return password or user


def _let_in(request: Request, rule: Rule) -> None:
    request.state.caller = gate_of(request).admit(request, rule)


def _address(connection: HTTPConnection) -> str | None:
    return connection.client.host if connection.client else None


def _is_local(connection: HTTPConnection) -> bool:
    """Whether a program of this machine asks itself, and not by a proxy's or a page's word.

    The name in Host is held against a page whose name was made to lead here (DNS rebinding).
    """
    if any(header in connection.headers for header in _FORWARDED):
        return False
    return is_loopback(_hostname(f"//{connection.headers.get('host', '')}"))


def _refuse_other_sites(connection: HTTPConnection) -> None:
    """Raise NotAllowedError for what a page of another site has a browser send: it may bring
    credentials along that the person behind it never meant to use there."""
    origin = connection.headers.get("origin")
    if origin is None:
        return
    if _hostname(origin) != _hostname(f"//{connection.headers.get('host', '')}"):
        raise NotAllowedError("a page of another site asks for it", hint="ask without a browser")


def _hostname(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
