"""``wheelfarm key``: make, list, replace and hand out the keys that the store signs with."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from store.access import Actor
from store.audit import Deed, audited
from store.errors import NoSigningKeyError
from store.keyring import PublicKeys, public_pem, store_id_of
from store.release import timestamp
from store.signature import TrustedKey
from workers.cli.asking import submitter
from workers.cli.options import key_ring, open_store

_STORE = click.option(
    "--store", "folder", type=click.Path(path_type=Path), help="The store's folder."
)


@click.group(name="key")
def command() -> None:
    """Make, list, replace and hand out the keys that the store signs with.

    They are in keys/ of the store's folder, or where `keys` of the settings says.
    """


@command.command()
@_STORE
def create(folder: Path | None) -> None:
    """Make the first key, and print its id."""
    with closing(open_store(folder)) as store, audited(store.database, _deed("key-create")):
        key = key_ring(folder).create(store_id_of(store.root))
    click.echo(key.keyid)


@command.command(name="list")
@_STORE
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_keys(folder: Path | None, *, as_json: bool) -> None:
    """List the keys, the one in use last."""
    held = key_ring(folder).public()
    if as_json:
        click.echo(json.dumps(held.to_json()))
        return
    for key in held.keys:
        click.echo(f"{key.keyid}  {_period(key)}")


@command.command()
@_STORE
@click.option(
    "--distrust", is_flag=True, help="Drop the old key: nothing that it signed is believed again."
)
def rotate(folder: Path | None, *, distrust: bool) -> None:
    """Make a new key in place of the one in use, and print its id.

    The private half of the old one is removed. Its public half is kept with its end, so that
    statements that people hold can still be proved.
    """
    deed = _deed("key-rotate", distrust=distrust)
    with closing(open_store(folder)) as store, audited(store.database, deed):
        key = key_ring(folder).rotate(distrust=distrust)
    click.echo(key.keyid)


@command.command()
@click.argument("keyid", required=False)
@_STORE
@click.option("--pem", is_flag=True, help="One key in PEM: KEYID, or the one in use.")
def export(keyid: str | None, folder: Path | None, *, pem: bool) -> None:
    """Print the public keys, as `wheelfarm verify --key FILE` takes them; or one, KEYID."""
    held = key_ring(folder).public()
    chosen = [key for key in held.keys if keyid in {None, key.keyid}]
    if not chosen:
        raise NoSigningKeyError(f"no key is {keyid!r:.80}", hint="`wheelfarm key list` shows them")
    if pem:
        click.echo(public_pem(chosen[-1]), nl=False)
        return
    click.echo(json.dumps(PublicKeys(store=held.store, keys=tuple(chosen)).to_json(), indent=1))


def _deed(action: str, **detail: bool) -> Deed:
    return Deed(actor=Actor(who=submitter()), action=action, object="signing key", detail=detail)


def _period(key: TrustedKey) -> str:
    since = timestamp(key.since) if key.since else "?"
    return f"{since} to {timestamp(key.until)}" if key.until else f"in use since {since}"
