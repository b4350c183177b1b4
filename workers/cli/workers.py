"""`wheelfarm workers`: who builds, with what, and in what they differ."""

from __future__ import annotations

from pathlib import Path

import click

from workers.cli.asking import asking_options, desk, show_json, show_table
from workers.farm.answers import Worker, Workers
from workers.farm.desk import Desk
from workers.text import printable


@click.command(short_help="List workers, drain or readmit one.")
@click.argument(
    "order", required=False, type=click.Choice(["drain", "readmit"]), metavar="[drain|readmit]"
)
@click.argument("worker_id", required=False, metavar="[ID]")
@click.option("--gone", is_flag=True, help="Also those that are gone.")
@asking_options
def command(
    *,
    order: str | None,
    worker_id: str | None,
    gone: bool,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """List the workers of a farm, and in what they differ: version, toolchain, clock.

    drain ID: that worker finishes what it has and takes no more. readmit ID: it takes jobs again,
    also when it was set aside for failing what others built.
    """
    if order and not worker_id:
        raise click.UsageError(f"{order} which worker?")
    with desk(farm_url, settings_file, store_option) as asked:
        found = _ask(asked, order, worker_id or "", gone=gone)
    if as_json:
        show_json(found)
        return
    names = ("worker", "state", "version", "busy", "builds for", "note")
    show_table(names, map(_row, found.workers))
    for worker in found.workers:
        for skew in worker.skews:
            click.echo(f"{printable(worker.id)}: {printable(skew)}")


def _ask(asked: Desk, order: str | None, worker_id: str, *, gone: bool) -> Workers:
    if order == "drain":
        return asked.drain(worker_id)
    if order == "readmit":
        return asked.readmit(worker_id)
    found = asked.workers().workers
    return Workers(workers=[each for each in found if gone or each.state != "gone"])


def _row(worker: Worker) -> tuple[object, ...]:
    busy = f"{worker.running}/{worker.slots}"
    queues = "\n".join(worker.queues)
    return (worker.id, worker.state, worker.version, busy, queues, worker.reason or "")
