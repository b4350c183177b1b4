"""`wheelfarm fsck`: read every blob and every row, and say what is wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from store.access import Actor
from store.audit import Deed, audited
from store.errors import DONE, REFUSED
from store.fsck import Fault, check
from store.publish import Store
from workers.cli.asking import submitter
from workers.cli.options import open_store
from workers.text import printable


@click.command(short_help="Read every blob and row of the store, and mend what can be mended.")
@click.option("--repair", is_flag=True, help="Mend what can be mended.")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, one object for each line.")
@click.pass_context
def command(ctx: click.Context, folder: Path | None, *, repair: bool, as_json: bool) -> None:
    """Hash every blob, hold every row against what it was made of, and both against each other.

    Exit status: 0 nothing is wrong, or all of it was mended; 1 something is wrong; 3 the disk, the
    bucket or the database is in trouble. It may run while the store is in use.
    """
    with closing(open_store(folder)) as store:
        left = show_faults(store, repair=repair, as_json=as_json)
    ctx.exit(REFUSED if left else DONE)


def show_faults(store: Store, *, repair: bool = False, as_json: bool) -> int:
    """Print what is wrong with the store; how much of it is left to a person."""
    left = seen = 0
    for fault in _faults(store, repair=repair):
        seen += 1
        left += not (fault.harmless or fault.repaired)
        click.echo(json.dumps(fault.to_json()) if as_json else _line(fault))
    if not as_json:
        click.echo(f"{seen} found, {left} of them to be mended by a person")
    return left


def _faults(store: Store, *, repair: bool) -> Iterator[Fault]:
    if not repair:
        yield from check(store)
        return
    deed = Deed(actor=Actor(who=submitter()), action="fsck-repair", object="store")
    with audited(store.database, deed):
        yield from check(store, repair=True)


def _line(fault: Fault) -> str:
    kind = "mended" if fault.repaired else "note" if fault.harmless else "FAULT"
    line = f"{kind} {fault.code}: {fault.subject}: {fault.message}"
    hint = fault.hint and kind == "FAULT"
    return printable(line) + (f"\n  hint: {fault.hint}" if hint else "")
