"""Tokens in the catalogue, over both engines: made, known, over, revoked; and what is kept."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from store.access import EVERY_CHANNEL, Actor, ChannelPattern, Grant
from store.accounts import LONGEST_LIFE, Account, Accounts, NewToken
from store.audit import AuditFilter, audit_rows
from store.errors import (
    BadTokenError,
    MalformedError,
    NotFoundError,
    TokenExpiredError,
    TokenRevokedError,
)
from store.publish import Store
from store.schema import metadata, tokens
from store.token import Token, new_token

ME = Actor(who="ann@here")
GRANT = Grant(
    scopes=frozenset({"submit", "publish"}), channels=(ChannelPattern("dev/*"), EVERY_CHANNEL)
)
NEW = NewToken(name="ci of wheaty", grant=GRANT, life=timedelta(days=2))


@pytest.fixture
def accounts(store: Store) -> Accounts:
    return Accounts(store.database)


@pytest.fixture
def made(accounts: Accounts) -> tuple[Account, Token]:
    return accounts.create(NEW, ME)


def _expire(store: Store, account: Account, *, ago: timedelta = timedelta(seconds=1)) -> None:
    over = datetime.now(UTC) - ago
    with store.database.writing() as connection:
        connection.execute(update(tokens).where(tokens.c.id == account.id).values(expires_at=over))


def test_a_token_is_known_by_its_text(accounts: Accounts, made: tuple[Account, Token]) -> None:
    account, token = made
    assert accounts.known(token.text) == account
    assert (account.name, account.grant, account.created_by) == ("ci of wheaty", GRANT, "ann@here")
    assert account.expires_at - account.created_at == NEW.life
    assert accounts.all() == [account]


def test_nothing_in_the_catalogue_is_the_secret(store: Store, made: tuple[Account, Token]) -> None:
    _, token = made
    secret = token.text[16:]
    with store.database.reading() as connection:
        for table in metadata.sorted_tables:
            for row in connection.execute(table.select()):
                assert secret not in repr(tuple(row)), table.name
        kept = connection.execute(tokens.select()).one()
    assert kept.digest == token.digest


def test_a_wrong_secret_and_an_unknown_id_get_the_same_answer(
    accounts: Accounts, made: tuple[Account, Token]
) -> None:
    other = new_token()
    forged = _with_id(other, made[1])
    said = []
    for text in (other.text, forged):
        with pytest.raises(BadTokenError) as caught:
            accounts.known(text)
        said.append(caught.value.message)
    assert said[0] == said[1]
    assert forged not in said[0]


def _with_id(secret: Token, known: Token) -> str:
    """The id of one token with the secret of another, and a right checksum."""
    import zlib

    body = known.text[:16] + secret.text[16:-6]
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    rest, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        rest, digit = divmod(rest, 62)
        digits = letters[digit] + digits
    return body + digits


def test_a_token_that_is_over_is_refused_and_says_since_when(
    store: Store, accounts: Accounts, made: tuple[Account, Token]
) -> None:
    account, token = made
    _expire(store, account)
    with pytest.raises(TokenExpiredError, match="good until"):
        accounts.known(token.text)


def test_a_revoked_token_is_refused_at_once_and_stays_so(
    accounts: Accounts, made: tuple[Account, Token]
) -> None:
    account, token = made
    first = accounts.revoke(account.id, ME)
    assert first.revoked_at is not None
    assert accounts.revoke(account.id, ME) == first
    with pytest.raises(TokenRevokedError):
        accounts.known(token.text)


@pytest.mark.parametrize("word", ["a" * 12, "", "a\0", "' or 1=1", "\udcff" * 12, "x" * 5_000])
def test_what_is_not_there_cannot_be_revoked(accounts: Accounts, word: str) -> None:
    with pytest.raises(NotFoundError, match="no token"):
        accounts.revoke(word, ME)


def test_accounts_are_in_use_from_the_first_token_on_for_ever(
    store: Store, accounts: Accounts
) -> None:
    assert not accounts.in_use()
    account, _ = accounts.create(NEW, ME)
    accounts.revoke(account.id, ME)
    _expire(store, account)
    assert accounts.in_use()


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": " x"},
        {"name": "a\nb"},
        {"name": "a\0b"},
        {"name": "x" * 101},
        {"grant": Grant(scopes=frozenset(), channels=(EVERY_CHANNEL,))},
        {"grant": Grant(scopes=frozenset({"read"}), channels=())},
        {"life": timedelta(0)},
        {"life": LONGEST_LIFE + timedelta(seconds=1)},
    ],
)
def test_a_token_that_cannot_be_is_not_made(accounts: Accounts, change: dict[str, object]) -> None:
    from dataclasses import replace

    with pytest.raises(MalformedError):
        accounts.create(replace(NEW, **change), ME)  # type: ignore[arg-type]
    assert accounts.all() == []


def test_making_and_revoking_are_in_the_log(
    store: Store, accounts: Accounts, made: tuple[Account, Token]
) -> None:
    account, _ = made
    accounts.revoke(account.id, Actor(who="bob", address="10.0.0.9"))
    revoked, created = audit_rows(store.database, AuditFilter(), 10)
    assert (created.action, created.object, created.who) == (
        "token-create", f"token {account.id}", "ann@here",
    )  # fmt: skip
    assert created.detail == {
        "name": "ci of wheaty", "scopes": ["publish", "submit"], "channels": ["dev/*", "*"],
        "seconds": 172_800,
    }  # fmt: skip
    assert (revoked.action, revoked.who, revoked.address) == ("token-revoke", "bob", "10.0.0.9")


def test_minted_tokens_are_forgotten_a_day_after_their_end_and_made_ones_never(
    store: Store, accounts: Accounts
) -> None:
    from dataclasses import replace

    minted = replace(NEW, origin="minted")
    old, young, kept = (accounts.create(new, ME)[0] for new in (minted, minted, NEW))
    for account, hours in ((old, 25), (young, 23), (kept, 25)):
        _expire(store, account, ago=timedelta(hours=hours))
    last, _ = accounts.create(NEW, ME)
    assert {account.id for account in accounts.all()} == {young.id, kept.id, last.id}
