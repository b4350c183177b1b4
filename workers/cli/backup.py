"""`wheelfarm backup`: copy rows, blobs and keys of a store into a folder."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from store.access import Actor
from store.audit import Deed, record
from store.backup import Done, back_up
from store.errors import DONE, REFUSED
from workers.cli.asking import store_options, submitter
from workers.cli.options import keys_of
from workers.farm.farm import store_of
from workers.settings import load_settings

_MOST_SHOWN = 20


@click.command(short_help="Copy rows, blobs and keys of a store into a folder.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--without-keys", is_flag=True, help="Leave the keys out that the store signs with.")
@click.option("--reread", is_flag=True, help="Hash what earlier backups copied, too.")
@click.option("--prune", is_flag=True, help="Remove the blobs that only earlier backups had.")
@store_options
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    settings_file: Path | None,
    store_option: Path | None,
    *,
    without_keys: bool,
    reread: bool,
    prune: bool,
    as_json: bool,
) -> None:
    """Back the store up into FOLDER, which is new, or has earlier backups of the same store.

    Only what is new is copied. It may run while the store is in use. One that was
    interrupted goes on when it is run again. `wheelfarm restore FOLDER` makes a store of it.

    Exit status: 0 all of it is there; 1 the backup is whole but for blobs that the store itself has
    lost; 3 a disk, the bucket or the database is in trouble.
    """
    settings = load_settings(file=settings_file, store=store_option)
    keys = None if without_keys else keys_of(settings)
    with closing(store_of(settings, create=False)) as store:
        done = back_up(store, folder, keys, reread=reread, prune=prune)
        deed = Deed(actor=Actor(who=submitter()), action="backup", object="store")
        with store.database.writing() as connection:
            record(connection, deed)
    click.echo(json.dumps(_to_json(done)) if as_json else _text(done))
    ctx.exit(REFUSED if done.backup.manifest.lost else DONE)


def _to_json(done: Done) -> dict[str, object]:
    return {
        "manifest": done.backup.manifest.to_json(),
        "copied": done.copied,
        "bytes": done.bytes,
        "there": done.there,
        "removed": done.removed,
    }


def _text(done: Done) -> str:
    manifest = done.backup.manifest
    rows = sum(each.rows for each in manifest.tables)
    lines = [
        f"{rows} rows of {len(manifest.tables)} tables; "
        f"{done.copied} blobs copied ({done.bytes} bytes), {done.there} there already",
        "the keys are in it: keep it as safe as they are" if manifest.has_keys else "without keys",
    ]
    if done.removed:
        lines.append(f"{done.removed} blobs of earlier backups removed")
    lines += [
        f"LOST {digest}: `wheelfarm fsck` says more" for digest in manifest.lost[:_MOST_SHOWN]
    ]
    return "\n".join(lines)
