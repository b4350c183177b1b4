"""`wheelfarm restore`: make a store of a backup."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from store.access import Actor
from store.backup import read_backup
from store.errors import DONE, REFUSED
from store.restore import check_form, restore
from workers.cli.asking import store_options, submitter
from workers.cli.fsck import show_faults
from workers.cli.options import keys_of
from workers.farm.farm import store_of
from workers.settings import load_settings


@click.command(short_help="Make a store of a backup.")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--without-keys", is_flag=True, help="Leave the keys in the backup.")
@store_options
@click.pass_context
def command(
    ctx: click.Context,
    folder: Path,
    settings_file: Path | None,
    store_option: Path | None,
    *,
    without_keys: bool,
    as_json: bool,
) -> None:
    """Put the backup in FOLDER into the store that the settings name, which is empty or new.

    Its catalogue may be in SQLite or PostgreSQL, its blobs in a folder or a bucket, whatever they
    were in before: this is also the way to move a store. At the end every blob and row is read, as
    `wheelfarm fsck` does.

    Exit status: 0 all is there; 1 something is wrong with what was backed up; 2 the store is not
    empty, or FOLDER is no whole backup; 3 trouble, and the store is still empty.
    """
    settings = load_settings(file=settings_file, store=store_option)
    backup = read_backup(folder)
    check_form(backup)
    keys = None if without_keys else keys_of(settings)
    with closing(store_of(settings)) as store:
        restore(backup, store, keys, Actor(who=submitter()))
        left = show_faults(store, as_json=as_json)
    ctx.exit(REFUSED if left else DONE)
