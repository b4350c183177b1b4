"""`wheelfarm unpin`: leave wheels to the rules of their channel again."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from store.retention import Pins
from workers.cli.options import open_store
from workers.cli.pin import show_pins


@click.command(short_help="Leave pinned wheels to the rules of their channel again.")
@click.argument("subjects", nargs=-1, required=True, metavar="FILE|SHA256|NAME|NAME==VERSION...")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(subjects: tuple[str, ...], folder: Path | None, *, as_json: bool) -> None:
    """Take pins away, by the words that `wheelfarm pin` lists; then list what is left."""
    with closing(open_store(folder)) as store:
        pins = Pins(store.database)
        for subject in subjects:
            pins.unpin(subject)
        show_pins(pins.all(), as_json=as_json)
