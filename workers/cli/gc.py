"""`wheelfarm gc`: drop what nothing keeps, free what nothing names."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click

from store.garbage import Collection, Heap, collect, look
from store.retention import Unkept
from workers.cli.asking import show_table
from workers.farm.farm import store_of
from workers.keeping import policy_of
from workers.settings import load_settings

_MOST_ROWS = 50


@click.command(short_help="Drop what nothing keeps, free what nothing names.")
@click.option("--dry-run", is_flag=True, help="Say what would go, in real bytes; change nothing.")
@click.option(
    "--lock",
    "locks",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A pylock.toml or a requirements file whose wheels are kept. Repeatable.",
)
@click.option(
    "--grace-hours",
    type=click.IntRange(0, 24 * 365),
    help="How long nothing is touched, instead of what is set.",
)
@click.option("--settings", "settings_file", type=click.Path(path_type=Path, dir_okay=False),
              help="Another wheelfarm.toml.")  # fmt: skip
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(  # noqa: PLR0917  # click hands every option over by name
    dry_run: bool,
    locks: tuple[Path, ...],
    grace_hours: int | None,
    settings_file: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Drop the releases that no rule, pin or lock keeps, then free the blobs that nothing names.

    What is kept is set by channel ([channels.NAME] in wheelfarm.toml); without a rule it is
    everything. A blob that lost its last name stays for the grace, so that running downloads end;
    the collection after that frees it. It may run at any time, and be killed at any time.
    """
    settings = load_settings(file=settings_file, store=folder)
    policy = policy_of(settings, locks, grace_hours)
    with closing(store_of(settings, create=False)) as store:
        done = look(store, policy) if dry_run else collect(store, policy)
    if as_json:
        click.echo(json.dumps(_to_json(done, dry_run=dry_run)))
    else:
        _show(done, dry_run=dry_run)


def _to_json(done: Collection, *, dry_run: bool) -> dict[str, object]:
    return {
        "dry_run": dry_run,
        "releases": [_release(each) for each in done.releases],
        "swept": done.swept.to_json(),
        "condemned": done.condemned.to_json(),
    }


def _release(each: Unkept) -> dict[str, object]:
    return {
        "channel": each.channel,
        "fingerprint": each.fingerprint,
        "filename": each.filename,
        "size": each.size,
    }


def _show(done: Collection, *, dry_run: bool) -> None:
    would = "would be " if dry_run else ""
    click.echo(f"releases {would}dropped: {len(done.releases)}")
    if done.releases:
        rows = [(e.filename, f"{e.channel} {e.fingerprint}", e.size) for e in done.releases]
        show_table(("file", "where", "bytes"), rows[:_MOST_ROWS])
    if len(done.releases) > _MOST_ROWS:
        click.echo(f"… and {len(done.releases) - _MOST_ROWS} more: --json lists them")
    click.echo(f"{would}freed: {_heap(done.swept)}")
    click.echo(f"{would}freed once the grace is over: {_heap(done.condemned)}")


def _heap(heap: Heap) -> str:
    return f"{heap.bytes} bytes in {heap.blobs} blobs"
