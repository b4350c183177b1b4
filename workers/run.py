"""One run on one machine: submit, build what is missing over the cores, tell of every end.

It is the farm in small: the same jobs in the same database, with a worker in this process that
does only what this run asked for. What another run on the machine builds already is waited for.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from builder.stages import Sdist
from workers.farm.abilities import Abilities, abilities_of
from workers.farm.answers import Forecast
from workers.farm.farm import Farm, open_farm
from workers.farm.follow import follow
from workers.farm.forecast import forecasts
from workers.farm.planning import kept_alive
from workers.farm.poke import Bell
from workers.farm.station import Shift, Station
from workers.matrix import Watcher
from workers.outcome import Outcome
from workers.plan import Call, Planner, Toolchains
from workers.settings import Settings
from workers.sources import keep_by_digest
from workers.targets import BuildTarget

_ME: Final = f"run-{os.getpid()}"


def run(
    call: Call,
    targets: tuple[BuildTarget, ...],
    settings: Settings,
    *,
    processes: int,
    watcher: Watcher,
) -> list[Outcome]:
    """The outcome of every wanted thing for every target, in the order in which they were asked.

    Raises StoreError when the store cannot be used at all, ConflictingSourcesError.
    """
    abilities = abilities_of(targets, settings.cache)
    bell = Bell()
    with open_farm(settings, bell) as farm, _submission(farm, call, abilities) as submission:
        station = Station(farm, abilities, Shift(slots=processes, submission=submission))
        bell.wakes(station.nudge)
        station.start()
        try:
            return follow(farm.submissions, submission, watcher)
        finally:
            station.stop()


def forecast(
    call: Call, targets: tuple[BuildTarget, ...], settings: Settings
) -> Iterator[Forecast]:
    """What `run` would do, item by item; nothing is built. Raises what `run` raises."""
    abilities = abilities_of(targets, settings.cache)
    with open_farm(settings) as farm:
        for items in _planner(farm, abilities).plan(call):
            yield from forecasts(items, lambda _queue, _order: None)


@contextmanager
def _submission(farm: Farm, call: Call, abilities: Abilities) -> Iterator[str]:
    """A planned submission of this run's own; cancelled when the run does not come to its end."""
    submissions = farm.submissions
    submission = submissions.create(call.submitter, {"local": True}, planner=_ME)
    with kept_alive(farm, submission, _ME):
        try:
            _plan(farm, submission, call, abilities)
            yield submission
        except BaseException:
            submissions.cancel(submission, "its run was stopped")
            raise
        submissions.planned(submission)


def _plan(farm: Farm, submission: str, call: Call, abilities: Abilities) -> None:
    place = 0
    for items in _planner(farm, abilities).plan(call):
        farm.submissions.add(submission, place, items)
        place += len(items)
    farm.submissions.planned(submission, stays=False)


def _planner(farm: Farm, abilities: Abilities) -> Planner:
    known: Toolchains = {each.fingerprint: [each] for each in abilities.all_facts()}

    def keep(sdist: Sdist) -> None:
        keep_by_digest(sdist, farm.settings.cache)

    return Planner(
        store=farm.store,
        failures=farm.failures,
        settings=farm.settings,
        toolchains=lambda _: known,
        keep=keep,
    )
