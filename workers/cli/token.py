"""`wheelfarm token`: who may do what at a server, for whoever can reach the catalogue itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from store.access import RIGHTS, Actor, Grant, parse_pattern, parse_right
from store.accounts import LONGEST_LIFE, Account, Accounts, NewToken
from workers.cli.asking import show_table, store_options, submitter
from workers.farm.farm import store_of
from workers.settings import load_settings


@click.group(name="token")
def command() -> None:
    """Make, list and revoke tokens. It takes access to the catalogue: there is no way by HTTP."""


@command.command(name="create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    type=click.Choice(RIGHTS),
    help="A right that it gives; each also gives read, admin gives all. Repeatable.",
)
@click.option(
    "--channel",
    "channels",
    multiple=True,
    required=True,
    metavar="CHANNEL",
    help="Where: release, dev/NAME, dev/PREFIX* or *. Repeatable.",
)
@click.option(
    "--days",
    type=click.IntRange(1, LONGEST_LIFE.days),
    default=90,
    show_default=True,
    help="How long it is good.",
)
@store_options
def create(
    *,
    name: str,
    scopes: tuple[str, ...],
    channels: tuple[str, ...],
    days: int,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """Make a token for NAME, and print it once; nobody can see it again.

    NAME says who uses it and where, and is what the audit log calls them.
    """
    grant = Grant(
        scopes=frozenset(map(parse_right, scopes)),
        channels=tuple(dict.fromkeys(map(parse_pattern, channels))),
    )
    new = NewToken(name=name, grant=grant, life=timedelta(days=days))
    with _accounts(settings_file, store_option) as accounts:
        account, token = accounts.create(new, _me())
    if as_json:
        click.echo(json.dumps({"token": token.text, **account.to_json()}))
        return
    click.echo(token.text)
    click.echo(f"token {account.id}, good until {account.expires_at:%Y-%m-%d}", err=True)


@command.command(name="list")
@store_options
def list_(*, settings_file: Path | None, store_option: Path | None, as_json: bool) -> None:
    """List the tokens, the oldest first; none of their secrets."""
    with _accounts(settings_file, store_option) as accounts:
        found = accounts.all()
    if as_json:
        click.echo(json.dumps({"tokens": [account.to_json() for account in found]}))
        return
    names = ("id", "name", "scopes", "channels", "good until", "made by")
    show_table(names, map(_row, found))


@command.command(name="revoke")
@click.argument("token_id", metavar="ID")
@store_options
def revoke(
    *, token_id: str, settings_file: Path | None, store_option: Path | None, as_json: bool
) -> None:
    """End the token ID (its 12 characters after wfm_) now, for every server at once."""
    with _accounts(settings_file, store_option) as accounts:
        account = accounts.revoke(token_id, _me())
    if as_json:
        click.echo(json.dumps(account.to_json()))
        return
    click.echo(f"token {account.id} ({account.name}) is revoked")


@contextmanager
def _accounts(settings_file: Path | None, store: Path | None) -> Iterator[Accounts]:
    settings = load_settings(file=settings_file, store=store)
    with closing(store_of(settings, create=False)) as opened:
        yield Accounts(opened.database)


def _me() -> Actor:
    return Actor(who=submitter())


def _row(account: Account) -> tuple[object, ...]:
    return (
        account.id,
        account.name,
        ", ".join(sorted(account.grant.scopes)),
        ", ".join(account.grant.channels),
        _until(account),
        account.created_by,
    )


def _until(account: Account) -> str:
    if account.revoked_at is not None:
        return "revoked"
    over = account.expires_at <= datetime.now(UTC)
    return "over" if over else f"{account.expires_at:%Y-%m-%d %H:%M}"
