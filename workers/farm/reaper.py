"""What anybody on the farm may do, and everybody does from time to time: mend what was let lie.

Every step compares before it sets, so two reapers at once do no harm.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from store.digest import JSON
from workers.farm.farm import Farm
from workers.farm.jobs import JobRow
from workers.farm.registry import takers
from workers.farm.rules import Situation, decide
from workers.farm.settle import others_for
from workers.outcome import outcome_of

_LOG: Final = logging.getLogger("wheelfarm.worker")


def reap(farm: Farm) -> None:
    """Hand on the leases of the silent, bury the gone, end what nobody can or wants to do.

    Raises StoreError.
    """
    for worker in farm.registry.bury_silent():
        _LOG.warning("the worker %s was not heard of any more", worker)
    for row in farm.ledger.expired():
        _hand_on(farm, row)
    farm.submissions.cancel_lapsed()
    _forgive_the_only_ones(farm)
    _give_up_the_hopeless(farm)


def _hand_on(farm: Farm, row: JobRow) -> None:
    """Give a job whose worker went silent to others, unless that happened too often."""
    others = others_for(farm.registry.ready(), row.queue, row.owner)
    tries = {**row.tries, "lost": row.tries.get("lost", 0) + 1}
    decision = decide("lost", Situation(tries=tries, others=others))
    times = tries["lost"]
    outcome = _trouble(
        farm, row, "lost", f"its worker {row.owner} was lost while it built this ({times} times)"
    )
    if farm.ledger.expire(row, decision, outcome):
        _LOG.warning("job %d: the lease of %s has lapsed", row.id, row.owner)


def _forgive_the_only_ones(farm: Farm) -> None:
    """A job that waits for another worker than the one that failed it, where there is no other."""
    workers = farm.registry.ready()
    alone = [
        row.id for row in farm.ledger.avoiding() if others_for(workers, row.queue, row.avoid) == 0
    ]
    if alone:
        farm.ledger.forgive(alone)


def _give_up_the_hopeless(farm: Farm) -> None:
    """End the jobs that have waited too long for a worker that can do them."""
    workers = farm.registry.ready()
    patience = timedelta(seconds=farm.settings.farm.no_worker_seconds)
    for queue in farm.ledger.waiting():
        if takers(workers, queue):
            continue
        for row in farm.ledger.waiting_since(queue, patience):
            message = f"no worker that takes {queue} came for {patience}"
            farm.ledger.give_up(row.id, "no-worker", _trouble(farm, row, "no-worker", message))


def _trouble(farm: Farm, row: JobRow, code: str, message: str) -> dict[str, JSON]:
    outcome = outcome_of(farm.ledger.work(row.id), row.fingerprint, "trouble").to_json()
    return {**outcome, "code": code, "message": message}
