"""One run on one machine: plan, build what is missing over the cores, tell of every end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

from store.disk import sweep
from store.errors import WheelfarmError
from store.publish import Store
from workers.job import run_job, scratch_of
from workers.matrix import Watcher
from workers.outcome import Outcome
from workers.plan import Call, Job, outcome_of, plan, status_of
from workers.pool import run_all
from workers.settings import Settings


def run(call: Call, settings: Settings, *, processes: int, watcher: Watcher) -> list[Outcome]:
    """The outcome of every wanted thing for every target, in the order in which they were asked.

    Raises StoreError when the store cannot be used at all, ConflictingSourcesError.
    """
    sweep(scratch_of(settings.cache))
    with closing(Store.open(settings.store, blobs=settings.blobs)) as store:
        planned = list(plan(call, store, settings))
    watcher.planned(list(dict.fromkeys(_label(item) for item in planned)))
    ends: dict[int, Outcome] = {}
    for place, item in enumerate(planned):
        if isinstance(item, Outcome):
            ends[place] = item
            watcher.ended(item)
    jobs = [(place, item) for place, item in enumerate(planned) if isinstance(item, Job)]
    for place, outcome in _built(jobs, processes, watcher):
        ends[place] = outcome
        watcher.ended(outcome)
    return [ends[place] for place in range(len(planned))]


def _built(
    jobs: list[tuple[int, Job]], processes: int, watcher: Watcher
) -> Iterator[tuple[int, Outcome]]:
    def started(numbered: tuple[int, Job]) -> None:
        job = numbered[1]
        watcher.started(job.package, job.target.name)

    for end in run_all(_run_numbered, jobs, processes=processes, started=started):
        place, job = end.job
        if isinstance(end.result, WheelfarmError):
            error = end.result
            yield place, outcome_of(job, status_of(error), error=error)
        else:
            yield place, end.result


def _label(item: Job | Outcome) -> str:
    return item.package if isinstance(item, Job) else item.label


def _run_numbered(numbered: tuple[int, Job]) -> Outcome:
    return run_job(numbered[1])
