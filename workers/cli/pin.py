"""`wheelfarm pin`: keep wheels from the garbage collection, whatever the rules say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import click

from store.errors import UsageError
from store.release import timestamp
from store.retention import Pinned, Pins
from workers.cli.asking import show_table, submitter
from workers.cli.options import open_store


@click.command(short_help="Keep wheels from the garbage collection; list the pins.")
@click.argument("subjects", nargs=-1, metavar="[FILE|SHA256|NAME|NAME==VERSION]...")
@click.option("--reason", metavar="TEXT", help="Why they are kept.")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    subjects: tuple[str, ...], reason: str | None, folder: Path | None, *, as_json: bool
) -> None:
    """Pin wheels by file name, digest, project or version: `wheelfarm gc` keeps them.

    Also those that are published later. Without arguments it lists the pins.
    """
    if subjects and not reason:
        raise UsageError("no reason is given", hint="--reason TEXT, for who cleans up later")
    with closing(open_store(folder)) as store:
        pins = Pins(store.database)
        for subject in subjects:
            pins.pin(subject, reason=str(reason), by=submitter())
        show_pins(pins.all(), as_json=as_json)


def show_pins(pins: Iterable[Pinned], *, as_json: bool) -> None:
    """Every pin, as a table or as JSON."""
    if as_json:
        rows = [
            {"subject": e.subject, "reason": e.reason, "by": e.by, "at": timestamp(e.at)}
            for e in pins
        ]
        click.echo(json.dumps({"pins": rows}))
    else:
        shown = ((e.subject, e.reason, e.by, f"{e.at:%Y-%m-%d}") for e in pins)
        show_table(("pinned", "reason", "by", "since"), shown)
