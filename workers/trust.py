"""Trusted publishing: which jobs of which CI system get a token of their own, and for what. Pure.

A ``[[trust]]`` table of the settings names an issuer of OpenID Connect, the audience that its
identity tokens must be made for, and the claims that they must hold, word for word. What verifies
the signature, and fetches the keys for it, is `workers/api/oidc.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

from store.access import Grant, is_loopback, parse_pattern, parse_right
from store.errors import MalformedError
from workers.errors import UntrustedError

LIFE: Final = timedelta(minutes=15)
"""How long a token is good that a job gets."""

_LEEWAY: Final = 30
"""Seconds by which the clocks of issuer and farm may differ."""
_KNOWN: Final = frozenset({"issuer", "audience", "claims", "scopes", "channels"})
_GENERAL: Final = frozenset({"iss", "aud", "exp", "nbf", "iat", "jti"})
"""Claims that say nothing of who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """One ``[[trust]]`` table. `claims` is never empty: an issuer serves everybody."""

    issuer: str
    audience: str
    claims: Mapping[str, str]
    grant: Grant


def parse_trust(row: object) -> Trust:
    """A table of the settings. Raises MalformedError with the path of what is wrong in it."""
    if not isinstance(row, dict):
        raise MalformedError("must be a table")
    for key in row:
        if key not in _KNOWN:
            known = ", ".join(sorted(_KNOWN))
            raise MalformedError("unknown key", path=str(key), hint=f"known: {known}")
    scopes, channels = _words(row, "scopes"), _words(row, "channels")
    return Trust(
        issuer=_issuer(row),
        audience=_text(row, "audience"),
        claims=_claims(row),
        grant=Grant(
            scopes=frozenset(_each(scopes, "scopes", parse_right)),
            channels=tuple(_each(channels, "channels", parse_pattern)),
        ),
    )


def trust_for(trusts: Iterable[Trust], claims: Mapping[str, Any], now: datetime) -> Trust:
    """The first of `trusts` that all `claims` of a verified identity token meet.

    Raises UntrustedError, which names the claim that differs where there is only one trust.
    """
    _check_times(claims, now)
    misses = []
    for trust in trusts:
        missed = _missed(trust, claims)
        if missed is None:
            return trust
        misses.append(missed)
    told = misses[0] if len(misses) == 1 else "none of the [[trust]] tables of its issuer fits"
    raise UntrustedError(
        f"the identity token is good, and not trusted: {told}",
        hint="issuer, audience and claims must be those of a [[trust]] table, word for word",
    )


def subject_of(claims: Mapping[str, Any]) -> str:
    """Whose identity token it is, for people and the audit log."""
    subject = claims.get("sub")
    words = subject if isinstance(subject, str) else ""
    shown = "".join(each if each.isprintable() else "?" for each in words)
    return f"oidc {shown}"[:100].strip()


def _missed(trust: Trust, claims: Mapping[str, Any]) -> str | None:
    """What `claims` lack of `trust`; None when nothing."""
    if claims.get("iss") != trust.issuer:
        return "iss is another"
    audience = claims.get("aud")
    if trust.audience not in (audience if isinstance(audience, list) else [audience]):
        return "aud is another"
    for name, wanted in trust.claims.items():
        if claims.get(name) != wanted:
            return f"{name} is another"
    return None


def _check_times(claims: Mapping[str, Any], now: datetime) -> None:
    """Hold exp, nbf and iat against the clock (RFC 7519, section 4.1); exp must be there."""
    moment = now.timestamp()
    expires = _seconds(claims, "exp")
    if expires is None or expires <= moment - _LEEWAY:
        raise UntrustedError("the identity token is over", hint="ask the CI system for a new one")
    for name in ("nbf", "iat"):
        begins = _seconds(claims, name)
        if begins is not None and begins > moment + _LEEWAY:
            raise UntrustedError(
                f"the identity token is not good yet ({name})", hint="do the clocks agree?"
            )


def _seconds(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise UntrustedError(f"{name} of the identity token is no time")
    return value


def _issuer(row: Mapping[str, object]) -> str:
    """The issuer's URL. Over plain HTTP its keys could be anybody's, but on this machine."""
    issuer = _text(row, "issuer")
    try:
        parts = urlsplit(issuer)
        host = parts.hostname or ""
    except ValueError as error:
        raise MalformedError("is no URL", path="issuer") from error
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))
    if not safe or not host or parts.query or parts.fragment or parts.username:
        raise MalformedError(
            f"must be an https URL, not {issuer[:80]!a}",
            path="issuer",
            hint="as it stands in `iss` of the identity tokens",
        )
    return issuer


def _claims(row: Mapping[str, object]) -> Mapping[str, str]:
    claims = row.get("claims")
    if not isinstance(claims, dict) or not all(
        isinstance(value, str) and value for value in claims.values()
    ):
        raise MalformedError("must be a table of strings", path="claims")
    if not claims.keys() - _GENERAL:
        raise MalformedError(
            "must name at least one claim that says whose job it is",
            path="claims",
            hint='an issuer serves everybody: claims = { repository = "me/mine" }',
        )
    return claims


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value:
        raise MalformedError("must be a string", path=key)
    return value


def _words(row: Mapping[str, object], key: str) -> list[str]:
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(w, str) for w in value):
        raise MalformedError("must be a list of strings, and not empty", path=key)
    return value


def _each(words: Iterable[str], key: str, parse: Any) -> list[Any]:
    found = []
    for number, word in enumerate(words):
        try:
            found.append(parse(word))
        except MalformedError as error:
            raise error.under(f"{key}[{number}]") from error
    return found
