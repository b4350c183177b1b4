"""The accounts: tokens as the catalogue keeps them. Of a token's text only the digest is kept."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import Connection, Row, delete, select, update

from store.access import Actor, ChannelPattern, Grant, Right
from store.audit import Deed, record
from store.database import Database, clock
from store.digest import JSON, sha256_of
from store.errors import (
    BadTokenError,
    MalformedError,
    NotFoundError,
    TokenExpiredError,
    TokenRevokedError,
)
from store.schema import tokens
from store.token import Token, TokenId, is_token_id, new_token, parse_token

LONGEST_LIFE: Final = timedelta(days=3_650)
MADE: Final = "made"
MINTED: Final = "minted"

_LONGEST_NAME: Final = 100
_KEPT_AFTER_MINTING: Final = timedelta(days=1)
"""How long a token that was minted for a CI job is still listed after its end."""
_NO_DIGEST: Final = sha256_of(b"")

Origin = Literal["made", "minted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token to be made: a name to know it by, what it gives, and how long it is good.

    `origin`: ``made`` by a person, or ``minted`` for a job of a trusted CI system.
    """

    name: str
    grant: Grant
    life: timedelta
    origin: Origin = "made"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A token that was made, without its secret. `created_by` is who made it."""

    id: TokenId
    name: str
    grant: Grant
    origin: Origin
    created_at: datetime
    created_by: str
    expires_at: datetime
    revoked_at: datetime | None

    def to_json(self) -> dict[str, JSON]:
        """The account as plain JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "scopes": sorted(self.grant.scopes),
            "channels": list(self.grant.channels),
            "origin": self.origin,
            "created_at": self.created_at.isoformat(),
            "created_by": self.created_by,
            "expires_at": self.expires_at.isoformat(),
            "revoked_at": None if self.revoked_at is None else self.revoked_at.isoformat(),
        }


class Accounts:
    """The tokens of one catalogue. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, new: NewToken, by: Actor) -> tuple[Account, Token]:
        """Make a token: its text is given here, once, and is nowhere afterwards.

        Raises MalformedError for a name or a life that cannot be, or a grant of nothing.
        """
        _check_new(new)
        token = new_token()
        with self._database.writing() as connection:
            _forget_minted(connection)
            connection.execute(tokens.insert().values(_row(connection, new, token, by)))
            record(connection, _deed(by, token.id, new))
            account = _find(connection, token.id)
        assert account is not None
        return account, token

    def all(self) -> list[Account]:
        """Every token, the oldest first."""
        query = select(tokens).order_by(tokens.c.created_at, tokens.c.id)
        with self._database.reading() as connection:
            return [_account(row) for row in connection.execute(query)]

    def revoke(self, token_id: str, by: Actor) -> Account:
        """End a token now; one that is revoked already stays so. Raises NotFoundError."""
        with self._database.writing() as connection:
            found = _find(connection, token_id) if is_token_id(token_id) else None
            if found is None:
                raise NotFoundError(
                    f"there is no token {token_id[:80]!a}", hint="`wheelfarm token list` has them"
                )
            _end(connection, found.id)
            record(connection, Deed(actor=by, action="token-revoke", object=f"token {found.id}"))
            ended = _find(connection, found.id)
        assert ended is not None
        return ended

    def known(self, text: str) -> Account:
        """The account behind a token that somebody sent.

        Raises BadTokenError when there is none, in the same words for a wrong secret and for an
        unknown id; TokenRevokedError and TokenExpiredError for who has the secret of one that was.
        """
        token = parse_token(text)
        query = select(tokens).where(tokens.c.id == token.id)
        with self._database.reading() as connection:
            row = connection.execute(query).first()
            now = clock(connection)
        kept = _NO_DIGEST if row is None else row.digest
        if not hmac.compare_digest(kept, token.digest) or row is None:
            raise BadTokenError(
                "this farm does not know the token", hint="`wheelfarm token create` makes one"
            )
        return _good(_account(row), now)

    def in_use(self) -> bool:
        """Whether any token was ever made; one that is revoked or over still counts."""
        with self._database.reading() as connection:
            return connection.execute(select(tokens.c.id).limit(1)).first() is not None


def _good(account: Account, now: datetime) -> Account:
    if account.revoked_at is not None:
        raise TokenRevokedError(f"the token {account.id} was revoked", hint="ask for a new one")
    if account.expires_at <= now:
        raise TokenExpiredError(
            f"the token {account.id} was good until {account.expires_at:%Y-%m-%d %H:%M} UTC",
            hint="ask for a new one",
        )
    return account


def _check_new(new: NewToken) -> None:
    name = new.name
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or name != name.strip():
        raise MalformedError(
            f"not a name for a token: {name[:_LONGEST_NAME]!a}",
            hint=f"1 to {_LONGEST_NAME} printable characters: who uses it, and where",
        )
    if not new.grant.scopes or not new.grant.channels:
        raise MalformedError("a token without a right or a channel is good for nothing")
    if not timedelta(0) < new.life <= LONGEST_LIFE:
        raise MalformedError(f"a token is good for 1 to {LONGEST_LIFE.days} days")


def _row(connection: Connection, new: NewToken, token: Token, by: Actor) -> dict[str, object]:
    now = clock(connection)
    return {
        "id": token.id,
        "name": new.name,
        "digest": token.digest,
        "scopes": sorted(new.grant.scopes),
        "channels": list(new.grant.channels),
        "origin": new.origin,
        "created_at": now,
        "created_by": by.who,
        "expires_at": now + new.life,
    }


def _deed(by: Actor, token_id: TokenId, new: NewToken) -> Deed:
    detail: dict[str, JSON] = {
        "name": new.name,
        "scopes": sorted(new.grant.scopes),
        "channels": list(new.grant.channels),
        "seconds": int(new.life.total_seconds()),
    }
    action = "token-create" if new.origin == MADE else "token-mint"
    return Deed(actor=by, action=action, object=f"token {token_id}", detail=detail)


def _forget_minted(connection: Connection) -> None:
    """Remove what was minted and is over: a token for each run of each CI job adds up. The audit
    log keeps that it was there."""
    over = clock(connection) - _KEPT_AFTER_MINTING
    old = (tokens.c.origin == MINTED, tokens.c.expires_at < over)
    connection.execute(delete(tokens).where(*old))


def _end(connection: Connection, token_id: TokenId) -> None:
    open_ = (tokens.c.id == token_id, tokens.c.revoked_at.is_(None))
    connection.execute(update(tokens).where(*open_).values(revoked_at=clock(connection)))


def _find(connection: Connection, token_id: str) -> Account | None:
    row = connection.execute(select(tokens).where(tokens.c.id == token_id)).first()
    return None if row is None else _account(row)


def _account(row: Row[Any]) -> Account:
    fields = dict(row._mapping)
    del fields["digest"]
    scopes: Iterable[Right] = fields.pop("scopes")
    channels: Iterable[ChannelPattern] = fields.pop("channels")
    grant = Grant(scopes=frozenset(scopes), channels=tuple(channels))
    return Account(grant=grant, **fields)
