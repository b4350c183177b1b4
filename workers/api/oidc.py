"""Tokens for the jobs of CI systems: an identity token in, a short-lived token of the farm out.

An identity token (OpenID Connect Core 1.0, section 2) is a JWT that a CI system signs for one job.
Only issuers of the settings are ever asked for their keys; what comes from them is bounded in size
and time, and remembered. What the claims must say is in `workers.trust`.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

import jwt
import requests
from jwt.types import Options

from store.access import Actor
from store.accounts import Account, Accounts, NewToken
from store.database import Database, clock
from store.token import Token
from workers.errors import IssuerUnreachableError, UntrustedError
from workers.trust import LIFE, Trust, subject_of, trust_for

_ALGORITHMS: Final = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"}
)
"""Signatures whose key the issuer alone has. None of HMAC's, whose key would be a public one."""

_SIGNATURE_ALONE: Final[Options] = {
    "verify_signature": True,
    "enforce_minimum_key_length": True,
    "verify_aud": False,
    "verify_iss": False,
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_sub": False,
    "verify_jti": False,
}
_CONNECT_SECONDS: Final = 5
_WHOLE_SECONDS: Final = 10
_LARGEST_ANSWER: Final = 256 << 10
_KEYS_SECONDS: Final = 3_600.0
_AGAIN_SECONDS: Final = 60.0
"""How soon keys are fetched again for a key that is not among them, or after a failure."""


class Minter:
    """Gives tokens to jobs that one of `trusts` trusts."""

    def __init__(self, database: Database, trusts: Sequence[Trust]) -> None:
        self._database = database
        self._accounts = Accounts(database)
        self._trusts = trusts
        self._issuers = {trust.issuer: _Issuer(trust.issuer) for trust in trusts}

    def mint(self, identity: str, address: str | None) -> tuple[Account, Token]:
        """A token for the job that the identity token `identity` is of.

        Raises UntrustedError; IssuerUnreachableError when the issuer's keys cannot be had.
        """
        claims = self._verified(identity)
        with self._database.reading() as connection:
            now = clock(connection)
        own = [trust for trust in self._trusts if trust.issuer == claims["iss"]]
        grant = trust_for(own, claims, now).grant
        who = subject_of(claims)
        return self._accounts.create(
            NewToken(name=who, grant=grant, life=LIFE, origin="minted"),
            Actor(who=who, address=address),
        )

    def _verified(self, identity: str) -> Mapping[str, Any]:
        """The claims of `identity`, its signature held against its issuer's key; no more."""
        try:
            unverified = jwt.decode_complete(identity, options={"verify_signature": False})
            issuer = self._issuers.get(unverified["payload"].get("iss"))
            kid = unverified["header"].get("kid")
        except (jwt.PyJWTError, TypeError, ValueError, RecursionError) as error:
            raise UntrustedError("what was sent is no identity token (a signed JWT)") from error
        if issuer is None or not isinstance(kid, str):
            raise UntrustedError(
                "the identity token is of an issuer that nobody here trusts, or names no key",
                hint="[[trust]] in the server's wheelfarm.toml names issuers",
            )
        return _claims(identity, issuer.key(kid))


@dataclass(slots=True)
class _Issuer:
    """The keys of one issuer, fetched when they are needed. Made to be used by many threads."""

    url: str
    _keys: Mapping[str, jwt.PyJWK] = field(default_factory=dict)
    _good_until: float = float("-inf")
    _not_before: float = float("-inf")
    _failure: IssuerUnreachableError | None = None
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def key(self, kid: str) -> jwt.PyJWK:
        """The key of that id. Raises UntrustedError, IssuerUnreachableError."""
        with self._guard:
            if self._known(kid) is None and time.monotonic() > self._not_before:
                self._fetch()
            if found := self._known(kid):
                return found
            if self._failure is not None:
                raise self._failure
        raise UntrustedError(f"{self.url} has no key of the id that the identity token names")

    def _known(self, kid: str) -> jwt.PyJWK | None:
        return self._keys.get(kid) if time.monotonic() < self._good_until else None

    def _fetch(self) -> None:
        """Fetch the keys anew. Those of a while ago stay good for their time when that fails."""
        try:
            self._keys, self._failure = _fetch_keys(self.url), None
            self._good_until = time.monotonic() + _KEYS_SECONDS
        except IssuerUnreachableError as error:
            self._failure = error
        self._not_before = time.monotonic() + _AGAIN_SECONDS


def _claims(identity: str, key: jwt.PyJWK) -> Mapping[str, Any]:
    """The claims, if the signature is the key's. Times and claims are for `workers.trust`."""
    try:
        return jwt.decode(identity, key, algorithms=[key.algorithm_name], options=_SIGNATURE_ALONE)
    except jwt.PyJWTError as error:
        raise UntrustedError("the signature of the identity token is not its issuer's") from error


def _fetch_keys(issuer: str) -> Mapping[str, jwt.PyJWK]:
    """The signing keys of an issuer by their ids (OpenID Connect Discovery 1.0, section 4)."""
    about = _fetch_json(issuer.rstrip("/") + "/.well-known/openid-configuration")
    place = about.get("jwks_uri")
    if about.get("issuer") != issuer or not isinstance(place, str) or not _as_safe(place, issuer):
        raise IssuerUnreachableError(
            f"the openid-configuration of {issuer} is another issuer's, or names no place of keys",
            hint="issuer must be written as it stands there, with or without a slash at its end",
        )
    try:
        found = jwt.PyJWKSet.from_dict(_fetch_json(place))
    except (jwt.PyJWTError, TypeError, ValueError, KeyError) as error:
        raise IssuerUnreachableError(f"{place} holds no keys (RFC 7517)") from error
    signing = [key for key in found.keys if key.public_key_use in {None, "sig"}]
    return {key.key_id: key for key in signing if key.key_id and key.algorithm_name in _ALGORITHMS}


def _as_safe(place: str, issuer: str) -> bool:
    """Whether the keys come by a way that is no less safe than the issuer's own."""
    if place.startswith("https://"):
        return True
    return place.startswith("http://") and urlsplit(place).netloc == urlsplit(issuer).netloc


def _fetch_json(url: str) -> dict[str, Any]:
    try:
        found = json.loads(_fetch(url))
    except requests.RequestException as error:
        raise _unreachable(url, "does not answer") from error
    except (ValueError, RecursionError) as error:
        raise _unreachable(url, "gives no JSON") from error
    if not isinstance(found, dict):
        raise _unreachable(url, "gives no JSON object")
    return found


def _fetch(url: str) -> bytes:
    """What is at `url`, without following it elsewhere; bounded in size and time."""
    until, body = time.monotonic() + _WHOLE_SECONDS, bytearray()
    timeout = (_CONNECT_SECONDS, _CONNECT_SECONDS)
    with requests.get(
        url, stream=True, timeout=timeout, allow_redirects=False, auth=_no_credentials
    ) as answer:
        if answer.status_code != 200:
            raise _unreachable(url, f"answers with status {answer.status_code}")
        for piece in answer.iter_content(8 << 10):
            body += piece
            if len(body) > _LARGEST_ANSWER or time.monotonic() > until:
                raise _unreachable(url, "gives too much, or too slowly")
    return bytes(body)


def _no_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Else what ~/.netrc has for that host would be sent along."""
    return request


def _unreachable(url: str, how: str) -> IssuerUnreachableError:
    return IssuerUnreachableError(f"{url} {how}", hint="is the issuer of [[trust]] right, and up?")
