"""What anybody on the farm may do, and everybody does from time to time: mend what was let lie.

Every step compares before it sets, so two reapers at once do no harm.

An outage of the database silences every worker at once. Whoever comes back first must not take
from the others what they could not renew: a reaper that did not reach the database for half a lease
gives them half a lease to say that they are there, and only then takes what has lapsed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from store.digest import JSON
from workers.farm.farm import Farm
from workers.farm.jobs import JobRow
from workers.farm.listing import moment
from workers.farm.registry import takers
from workers.farm.rules import Situation, decide
from workers.farm.settle import others_for
from workers.outcome import outcome_of

_LOG: Final = logging.getLogger("wheelfarm.worker")
_MOST_GRACES: Final = 3
"""How often in a row the silent are spared: a database that comes and goes saves nobody."""


class Reaper:
    """Reaps for one worker, round by round."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._half_a_lease = timedelta(seconds=farm.settings.farm.lease_seconds / 2)
        self._seen: datetime | None = None
        self._spares_until: datetime | None = None
        self._graces = 0

    def round(self) -> None:
        """Hand on what the silent had, unless they are to be spared; mend all else.

        Raises StoreError.
        """
        lapsed = self._farm.ledger.expired()
        now = moment(self._farm.store.database)  # after the look, so that no outage is between
        if self._spares(now):
            mend(self._farm)
        else:
            self._graces = 0
            reap(self._farm, lapsed)

    def _spares(self, now: datetime) -> bool:
        if self._was_away(now) and self._graces < _MOST_GRACES:
            self._graces += 1
            self._spares_until = now + self._half_a_lease
        self._seen = now
        return self._spares_until is not None and now < self._spares_until

    def _was_away(self, now: datetime) -> bool:
        """Whether the database may have been away for so long. A file never is."""
        if self._seen is None:
            return self._farm.store.database.in_postgresql
        return now - self._seen > self._half_a_lease


def reap(farm: Farm, lapsed: Iterable[JobRow]) -> None:
    """Hand on the `lapsed` leases, bury the silent, and mend. Raises StoreError."""
    for worker in farm.registry.bury_silent():
        _LOG.warning("the worker %s was not heard of any more", worker)
    for row in lapsed:
        _hand_on(farm, row)
    farm.submissions.cancel_lapsed()
    mend(farm)


def mend(farm: Farm) -> None:
    """End what nobody can do, and forget who is gone since long. Raises StoreError."""
    farm.registry.prune()
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
