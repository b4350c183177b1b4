"""``wheelfarm export``: one index as a folder."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from store.channel import RELEASE, parse_channel
from store.errors import NoSigningKeyError
from store.export import export
from store.fingerprint import parse_fingerprint
from store.keyring import KeyRing
from workers.cli.options import key_ring, open_store


@click.command(name="export")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--fingerprint", required=True, metavar="F", help="Whose wheels to write.")
@click.option("--channel", default=RELEASE, show_default=True, help="Of which channel.")
@click.option("--store", "place", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    folder: Path, fingerprint: str, channel: str, place: Path | None, as_json: bool
) -> None:
    """Write one fingerprint's wheels to DIR, for --find-links or nginx as it is.

    DIR holds the wheels with their .metadata, bills of materials and signed statements, a links
    page and the simple API, all by relative links. It is made anew or brought up to date; a folder
    of something else is left alone.
    """
    names = parse_channel(channel), parse_fingerprint(fingerprint)
    keys = _signing(key_ring(place))
    with closing(open_store(place)) as store:
        done = export(store, *names, folder, keys)
    files = [release.filename for release in done.releases]
    if as_json:
        said = {"folder": str(done.folder), "files": files, "signed": keys is not None}
        click.echo(json.dumps(said))
    else:
        click.echo(f"{len(files)} wheels of {fingerprint} in {done.folder}")
        if keys is None:
            click.echo("no signed statements: there is no key (`wheelfarm key create`)")


def _signing(ring: KeyRing) -> KeyRing | None:
    """The keys, if there is one to sign with here."""
    try:
        ring.signer()
    except NoSigningKeyError:
        return None
    return ring
