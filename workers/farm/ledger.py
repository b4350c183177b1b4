"""The ledger of jobs: who has which one, and how it went on. The database owns the truth.

Every method is one transaction. All times are the database's, so that a worker with a wrong clock
can hold no lease too long.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, and_, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from store.database import Database, clock
from store.digest import JSON, Sha256
from store.schema import jobs, log_pieces
from workers.errors import TransitionError, UnknownJobError
from workers.farm.jobs import (
    ROW,
    UNOWNED,
    Change,
    Claim,
    JobRow,
    finish,
    held,
    held_row,
    job_row,
    move,
    must_move,
    note,
    release,
    rows,
)
from workers.farm.line import Ask, Order, enqueue, next_job, open_job, pokes_for
from workers.farm.poke import SILENT, Poke, Poker
from workers.farm.rules import Decision, JobFailure
from workers.farm.states import Event, after
from workers.farm.work import Queue, Work, parts_of, queue_of, work_from_json

LEASE_SECONDS: Final = 60
"""How long a worker may be silent before its jobs are given to others."""

_MOST_AT_ONCE: Final = 1_000


class Ledger:
    """Jobs over one database. Every method raises StoreError when the database cannot be used.

    `poker` is told, after the commit, of each job that waits from then on and may be had at once.
    """

    def __init__(
        self, database: Database, *, lease_seconds: int = LEASE_SECONDS, poker: Poker = SILENT
    ) -> None:
        self._database = database
        self._poker = poker
        self._lease = timedelta(seconds=lease_seconds)

    def enqueue(self, orders: Sequence[Order]) -> list[int]:
        """The job of each order, in order: one that is open already, or a new one."""
        with self._database.transaction() as connection:
            made = enqueue(connection, orders)
        self._poker.poke(pokes_for(orders, made))
        return made

    def claim(self, ask: Ask) -> Claim | None:
        """Lease the job that is next for `ask` to its worker; None when there is none."""
        with self._database.transaction() as connection:
            now = clock(connection)
            found = next_job(connection, ask, now)
            return None if found is None else self._lease_out(connection, found, ask.worker, now)

    def beat(self, claims: Iterable[Claim]) -> list[Claim]:
        """Renew the leases of running jobs; give those that are lost."""
        with self._database.transaction() as connection:
            now = clock(connection)
            fresh = {"heartbeat_at": now, "lease_until": now + self._lease}
            renewed = [(c, connection.execute(held(c).values(fresh)).rowcount) for c in claims]
        return [claim for claim, count in renewed if count == 0]

    def succeed(self, claim: Claim, outcome: Mapping[str, JSON], build_key: str | None) -> None:
        """The wheel of `claim` is in the store. Raises LeaseLostError."""
        values = {"outcome": outcome, "build_key": build_key, "failure": None}
        with self._database.transaction() as connection:
            change = Change(event="succeed", at=clock(connection), values=values)
            finish(connection, claim, change)

    def fail(
        self, claim: Claim, kind: JobFailure, decision: Decision, told: Mapping[str, object]
    ) -> None:
        """It failed by `kind`, and `decision` says what becomes of it. Raises LeaseLostError.

        `told` sets columns of the row: `outcome`, `build_key`, `log_sha256`.
        """
        with self._database.transaction() as connection:
            row = held_row(connection, claim)
            counted = {**row.tries, kind: row.tries.get(kind, 0) + 1}
            values = {**told, "tries": counted, "failure": kind}
            now = clock(connection)
            if not decision.again:
                change = Change(event="fail", at=now, values=values, detail=_said(kind))
                finish(connection, claim, change)
                return
            values |= _again(claim, decision, now)
            detail = _said(kind, decision)
            release(connection, claim, Change(event="retry", at=now, values=values, detail=detail))
        if not decision.wait_seconds:
            self._poker.poke([Poke(job_id=claim.job_id, queue=_next_queue(claim, decision))])

    def hand_back(self, claim: Claim, reason: str) -> None:
        """The worker stops before the job is done; another may have it. Raises LeaseLostError."""
        with self._database.transaction() as connection:
            detail = {"reason": reason}
            change = Change(event="hand-back", at=clock(connection), detail=detail)
            release(connection, claim, change)
        self._poker.poke([Poke(job_id=claim.job_id, queue=claim.queue)])

    def expired(self) -> list[JobRow]:
        """The running jobs whose lease has lapsed."""
        with self._database.reading() as connection:
            late = and_(jobs.c.state == "running", jobs.c.lease_until < clock(connection))
            return rows(connection, select(*ROW).where(late).order_by(jobs.c.id))

    def expire(self, row: JobRow, decision: Decision, outcome: Mapping[str, JSON]) -> bool:
        """Take `row` from its silent worker; False when that lease had been renewed or ended."""
        with self._database.transaction() as connection:
            now = clock(connection)
            event: Event = "expire" if decision.again else "fail"
            values: dict[str, object] = {
                **UNOWNED,
                "tries": {**row.tries, "lost": row.tries.get("lost", 0) + 1},
                "failure": "lost",
                "outcome": outcome,
                "avoid": row.owner if decision.elsewhere else None,
                "finished_at": None if decision.again else now,
            }
            detail = {**_said("lost"), "owner": row.owner}
            lapsed = and_(
                jobs.c.state == "running", jobs.c.token == row.token, jobs.c.lease_until < now
            )
            change = Change(event=event, at=now, values=values, detail=detail)
            taken = move(connection, row.id, change, lapsed)
        if taken and decision.again:
            self._poker.poke([Poke(job_id=row.id, queue=row.queue)])
        return taken

    def give_up(self, job_id: int, kind: JobFailure, outcome: Mapping[str, JSON]) -> bool:
        """End a job that waits for what will not come; False when it does not wait any more."""
        with self._database.transaction() as connection:
            now = clock(connection)
            values = {"failure": kind, "outcome": outcome, "finished_at": now}
            change = Change(event="fail", at=now, values=values, detail=_said(kind))
            return move(connection, job_id, change, jobs.c.state == "waiting")

    def forgive(self, job_ids: Sequence[int]) -> None:
        """Let the worker that failed these waiting jobs have them again: there is no other."""
        chosen = and_(jobs.c.id.in_(job_ids), jobs.c.state == "waiting")
        with self._database.transaction() as connection:
            connection.execute(update(jobs).where(chosen).values(avoid=None))

    def cancel(self, job_id: int, reason: str) -> None:
        """Nobody wants it: a running build is stopped at its worker's next heartbeat.

        Raises TransitionError when it is over, UnknownJobError.
        """
        with self._database.transaction() as connection:
            now = clock(connection)
            values = {**UNOWNED, "finished_at": now}
            change = Change(event="cancel", at=now, values=values, detail={"reason": reason})
            must_move(connection, job_id, change)

    def again(self, job_id: int) -> None:
        """Try a failed or cancelled job afresh. Raises TransitionError, UnknownJobError."""
        with self._database.transaction() as connection:
            row = job_row(connection, job_id)
            _refuse_twin(connection, row.work_key)
            change = Change(event="again", at=clock(connection), values=_afresh())
            try:
                with connection.begin_nested():
                    must_move(connection, job_id, change)
            except IntegrityError:  # in PostgreSQL, somebody was first after the look
                _refuse_twin(connection, row.work_key)
                raise
        self._poker.poke([Poke(job_id=job_id, queue=row.queue)])

    def job(self, job_id: int) -> JobRow:
        """The job of that number. Raises UnknownJobError."""
        with self._database.reading() as connection:
            return job_row(connection, job_id)

    def work(self, job_id: int) -> Work:
        """What the job is to do. Raises UnknownJobError."""
        with self._database.reading() as connection:
            found = connection.execute(select(jobs.c.work).where(jobs.c.id == job_id)).scalar()
        if found is None:
            raise UnknownJobError(f"there is no job {job_id}")
        return work_from_json(found)

    def has_waiting(self, queues: Sequence[Queue]) -> bool:
        """Whether any job waits in one of `queues`: a look that locks nothing."""
        query = select(jobs.c.id).where(jobs.c.state == "waiting", jobs.c.queue.in_(queues))
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).scalar() is not None

    def waiting(self) -> dict[Queue, int]:
        """How many jobs wait in each queue that has any."""
        query = select(jobs.c.queue, func.count()).where(jobs.c.state == "waiting")
        with self._database.reading() as connection:
            counted = connection.execute(query.group_by(jobs.c.queue))
            return {Queue(queue): count for queue, count in counted}

    def avoiding(self) -> list[JobRow]:
        """The waiting jobs that another worker than the last one is to try."""
        there = and_(jobs.c.state == "waiting", jobs.c.avoid.is_not(None))
        with self._database.reading() as connection:
            return rows(connection, select(*ROW).where(there).limit(_MOST_AT_ONCE))

    def waiting_since(self, queue: Queue, patience: timedelta) -> list[JobRow]:
        """The jobs of `queue` that nobody has touched for so long."""
        with self._database.reading() as connection:
            before = clock(connection) - patience
            there = and_(jobs.c.state == "waiting", jobs.c.queue == queue)
            old = and_(
                jobs.c.created_at < before, func.coalesce(jobs.c.started_at, before) <= before
            )
            return rows(connection, select(*ROW).where(there, old).limit(_MOST_AT_ONCE))

    def write_log(self, claim: Claim, start: int, data: bytes) -> None:
        """Keep what a running build has printed from byte `start` on. Raises LeaseLostError."""
        row = {"job_id": claim.job_id, "token": claim.token, "start": start, "data": data}
        with self._database.transaction() as connection:
            held_row(connection, claim)
            connection.execute(insert(log_pieces).values(row))

    def _lease_out(
        self, connection: Connection, job_id: int, worker: str, now: datetime
    ) -> Claim | None:
        values = {
            "state": after("waiting", "claim"),
            "owner": worker,
            "token": jobs.c.token + 1,
            "started_at": now,
            "heartbeat_at": now,
            "lease_until": now + self._lease,
            "not_before": None,
        }
        waiting = update(jobs).where(jobs.c.id == job_id, jobs.c.state == "waiting")
        told = waiting.values(values).returning(jobs.c.token, jobs.c.queue, jobs.c.work)
        row = connection.execute(told).first()
        if row is None:
            return None
        note(connection, job_id, row.token, Change(event="claim", at=now), worker=worker)
        work, queue = work_from_json(row.work), Queue(row.queue)
        return Claim(job_id=job_id, token=row.token, worker=worker, queue=queue, work=work)


def _again(claim: Claim, decision: Decision, now: datetime) -> dict[str, object]:
    return {
        "not_before": now + timedelta(seconds=decision.wait_seconds),
        "avoid": claim.worker if decision.elsewhere else None,
        "queue": _next_queue(claim, decision),
    }


def _next_queue(claim: Claim, decision: Decision) -> Queue:
    capability, memory = parts_of(claim.queue)
    return queue_of(capability, memory + 1) if decision.larger else claim.queue


def _refuse_twin(connection: Connection, key: Sha256) -> None:
    if (other := connection.execute(open_job(key)).scalar()) is not None:
        raise TransitionError(f"job {other} is doing the same work already")


def _afresh() -> dict[str, object]:
    cleared = ("failure", "outcome", "avoid", "not_before", "finished_at", "log_sha256")
    return {**UNOWNED, **dict.fromkeys(cleared), "tries": {}}


def _said(kind: JobFailure, decision: Decision | None = None) -> dict[str, JSON]:
    said: dict[str, JSON] = {"failure": kind}
    if decision is not None:
        said |= {"wait_seconds": decision.wait_seconds, "elsewhere": decision.elsewhere}
        said |= {"larger": decision.larger}
    return said
