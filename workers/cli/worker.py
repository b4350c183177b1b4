"""`wheelfarm worker`: takes the jobs of a farm that this machine can do."""

from __future__ import annotations

import dataclasses
import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from workers.cli.broker import celery_app, pokes
from workers.farm.abilities import Abilities, find_abilities
from workers.farm.farm import open_farm
from workers.farm.rights import check_rights
from workers.farm.station import Shift, Station
from workers.settings import Settings, WorkerRules, load_settings

if TYPE_CHECKING:
    from celery import Celery

_LOG: Final = logging.getLogger("wheelfarm.worker")
_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)
_POLL_SECONDS: Final = 0.05
_POLL_SECONDS_BESIDE_POKES: Final = 3.0
_SECONDS_BETWEEN_LOOKS: Final = 0.2


@click.command(name="worker")
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    help="What to offer: all, native, native:/path/to/python, cross-macos, or a name from "
    "wheelfarm.toml. Repeatable.  [default: all that is found]",
)
@click.option("--slots", type=click.IntRange(1, 256), help="How many builds at a time.")
@click.option("--memory-class", type=click.IntRange(1, 3), help="The largest class it takes.")
@click.option(
    "--grace",
    "grace_seconds",
    type=click.IntRange(0, 86_400),
    metavar="SECONDS",
    help="How long builds may go on when it stops.",
)
@click.option(
    "--min-free",
    "min_free_mib",
    type=click.IntRange(0),
    metavar="MIB",
    help="Take no job while less of the disk is free.",
)
@click.option("--settings", "settings_file", type=_FILE, help="Another wheelfarm.toml.")
@click.option("--store", "store_option", type=_FOLDER, help="The store's folder.")
def command(*, settings_file: Path | None, store_option: Path | None, **options: Any) -> None:
    """Build what the farm's jobs ask for and this machine can, until SIGTERM or Ctrl-C.

    Then running builds may finish for the time of grace, and are handed back to the farm after it;
    a second signal hands them back at once. It ends by itself when the farm drains it.

    One line on standard output says what it offers, once it takes jobs; the log goes to standard
    error. Exit status: 0 it was stopped or drained; 2 wrong usage; 3 trouble with the farm, also
    when a newer wheelfarm has migrated the catalogue meanwhile.
    """
    _log_to_stderr()
    settings = _with_options(load_settings(file=settings_file, store=store_option), options)
    abilities = find_abilities(settings.worker.targets, settings)
    _work(settings, abilities, celery_app(settings))


def _log_to_stderr() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for name in ("celery", "kombu", "alembic"):  # what matters of them, `workers.app` says
        logging.getLogger(name).setLevel(logging.ERROR)


def _with_options(settings: Settings, options: dict[str, Any]) -> Settings:
    """The settings, with the options that are given in their places."""
    given = {name: value for name, value in options.items() if value not in {None, ()}}
    rules = dataclasses.replace(settings.worker, **given)
    return dataclasses.replace(settings, worker=rules)


def _work(settings: Settings, abilities: Abilities, app: Celery | None) -> None:
    with pokes(app) as poker, open_farm(settings, poker) as farm:
        check_rights(farm.store)
        shift = _shift(settings.worker, has_broker=app is not None)
        station = Station(farm, abilities, shift)
        with _signals(station) as signals:
            station.start()
            with _hearing(app, station, shift.slots):
                click.echo(_offer(station, abilities))
                _wait(station, signals)
                station.stop()
                station.check()


def _shift(rules: WorkerRules, *, has_broker: bool) -> Shift:
    return Shift(
        slots=rules.slots or os.cpu_count() or 1,
        memory_class=rules.memory_class,
        poll_seconds=_POLL_SECONDS_BESIDE_POKES if has_broker else _POLL_SECONDS,
        grace_seconds=rules.grace_seconds,
        min_free_mib=rules.min_free_mib,
    )


@dataclass(slots=True)
class _Signals:
    """How often it was asked to stop. No Event: a handler may interrupt its own waiter."""

    count: int = 0


@contextmanager
def _signals(station: Station) -> Iterator[_Signals]:
    """Counts SIGTERM and SIGINT; the second one hurries the station."""
    signals = _Signals()

    def heed(_number: int, _frame: FrameType | None) -> None:
        signals.count += 1
        if signals.count > 1:
            station.hurry()

    before = {number: signal.signal(number, heed) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield signals
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _hearing(app: Celery | None, station: Station, slots: int) -> AbstractContextManager[None]:
    if app is None:
        return nullcontext()
    from workers.app import listening  # noqa: PLC0415  only a farm with a broker needs Celery

    return listening(app, station, slots)


def _offer(station: Station, abilities: Abilities) -> str:
    return f"{station.id} takes jobs for {', '.join(abilities.capabilities())}"


def _wait(station: Station, signals: _Signals) -> None:
    """Until a signal comes, or the farm has drained the station and its builds have ended."""
    while not signals.count and (station.busy or not station.stopping):
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    _LOG.info("stopping: what runs may finish for a while; a second signal hands it back at once")
