"""`wheelfarm jobs`: what a farm has built, builds and will build."""

from __future__ import annotations

from pathlib import Path
from typing import cast, get_args

import click

from workers.cli.asking import asking_options, desk, show_json, show_table
from workers.farm.answers import Job
from workers.farm.listing import Filter
from workers.farm.states import State


@click.command(short_help="List the jobs of a farm.")
@click.argument("label", required=False, metavar="[NAME | NAME==VERSION]")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(get_args(State)),
    help="Only jobs in this state. Repeatable.",
)
@click.option("--submitter", help="Only jobs that this submitter asked for first.")
@click.option("--before", type=click.IntRange(1), help="Only jobs with a lower number than this.")
@asking_options
def command(
    *,
    label: str | None,
    states: tuple[str, ...],
    submitter: str | None,
    before: int | None,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """List the jobs of a farm, newest first, a hundred at a time."""
    chosen = Filter(
        states=tuple(cast("State", state) for state in states),
        label=label,
        submitter=submitter,
        before=before,
    )
    with desk(farm_url, settings_file, store_option) as asked:
        found = asked.jobs(chosen)
    if as_json:
        show_json(found)
        return
    show_table(("job", "state", "package", "for", "worker", "note"), map(_row, found.jobs))
    if found.next:
        click.echo(f"older ones: wheelfarm jobs --before {found.next}")


def _row(job: Job) -> tuple[object, ...]:
    note = job.failure or (job.end.filename if job.end else "") or ""
    return (job.id, job.state, job.label, job.fingerprint, job.owner or "", note)
