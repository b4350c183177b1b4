"""Where a job stands in line, and which one is next.

Start-time fair queueing: a job's rank is one more than that of its submitter's last waiting job,
or than the newest that was started, so that a thousand jobs of one submitter do not keep another's
single one waiting. The head of each queue is the head of an index, however many jobs wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select, update

from store.database import clock, insert_new
from store.digest import Sha256
from store.schema import OPEN_JOBS, jobs, submission_items
from store.selection import in_parts
from workers.farm.jobs import Change, note
from workers.farm.poke import Poke
from workers.farm.states import State
from workers.farm.work import Queue, Work, queue_of

_STARTED: Final[tuple[State, ...]] = ("running", "succeeded", "failed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One piece of work that is wanted: by whom, how urgently (`nice`: lower runs sooner)."""

    work: Work
    submitter: str
    memory_class: int = 1
    nice: int = 0

    @property
    def queue(self) -> Queue:
        """Where its job waits."""
        return queue_of(self.work.capability, self.memory_class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Who asks for a job: a worker, for its queues, maybe only for what one submission wants."""

    worker: str
    queues: Sequence[Queue]
    submission: str | None = None


def enqueue(connection: Connection, orders: Sequence[Order]) -> list[int]:
    """The job of each order, in order: one that is open already, or a new one."""
    ranks: dict[str, int] = {}
    now = clock(connection)
    _hold(connection, {order.work.key for order in orders})
    return [_enqueue_one(connection, order, ranks, now) for order in orders]


def pokes_for(orders: Iterable[Order], made: Iterable[int]) -> list[Poke]:
    """What there is to tell of the jobs that `enqueue` gave for `orders`."""
    pairs = zip(orders, made, strict=True)
    return [Poke(job_id=job_id, queue=order.queue) for order, job_id in pairs]


def next_job(connection: Connection, ask: Ask, now: datetime) -> int | None:
    """The number of the job that is next for `ask`, its row locked; None when there is none.

    The most urgent one first, then whose submitter has had the least, then the oldest.
    """
    ready = _ready(ask, now)
    heads: list[tuple[int, int, int]] = []
    for queue in ask.queues:
        query = select(jobs.c.nice, jobs.c.rank, jobs.c.id).where(ready, jobs.c.queue == queue)
        first = query.order_by(jobs.c.nice, jobs.c.rank, jobs.c.id).limit(1)
        # Whoever else asks at this moment passes over what is looked at here.
        found = connection.execute(first.with_for_update(skip_locked=True))
        heads += [(row.nice, row.rank, row.id) for row in found]
    return min(heads)[2] if heads else None


def open_job(key: Sha256) -> Select[Any]:
    """A query for the number of the open job that does the work of that key."""
    return select(jobs.c.id).where(jobs.c.work_key == key, OPEN_JOBS)


def _ready(ask: Ask, now: datetime) -> Any:
    ready = and_(
        jobs.c.state == "waiting",
        or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now),
        or_(jobs.c.avoid.is_(None), jobs.c.avoid != ask.worker),
    )
    if ask.submission is None:
        return ready
    items = submission_items.c
    theirs = select(items.job_id).where(items.submission_id == ask.submission)
    return and_(ready, jobs.c.id.in_(theirs))


def _hold(connection: Connection, keys: Collection[Sha256]) -> None:
    """Keep the open jobs of those keys as they are: one that is joined here must not be cancelled
    by who does not see that yet. Before anything else and in one order, so that no two wait for
    each other.
    """
    for some in in_parts(sorted(keys)):
        connection.execute(held_jobs(jobs.c.work_key.in_(some)))


def held_jobs(which: ColumnElement[bool]) -> Select[Any]:
    """A query for the open jobs among `which`, that locks their rows in the order of their keys."""
    return select(jobs.c.id).where(which, OPEN_JOBS).order_by(jobs.c.work_key).with_for_update()


def _enqueue_one(connection: Connection, order: Order, ranks: dict[str, int], now: datetime) -> int:
    key = order.work.key
    while True:
        if (standing := _join(connection, key, order)) is not None:
            return standing
        if order.submitter not in ranks:
            ranks[order.submitter] = _last_rank(connection, order.submitter)
        row = _new_row(key, order, ranks[order.submitter] + 1, now)
        if made := insert_new(connection, jobs, row):
            ranks[order.submitter] += 1
            change = Change(event="enqueue", at=now, detail={"by": order.submitter})
            note(connection, made.id, 0, change)
            return int(made.id)


def _join(connection: Connection, key: Sha256, order: Order) -> int | None:
    """The open job of that key, made as urgent as its most urgent submitter wants it."""
    found = connection.execute(held_jobs(jobs.c.work_key == key)).scalar()
    if found is None:
        return None
    urgent = and_(jobs.c.id == found, jobs.c.nice > order.nice)
    connection.execute(update(jobs).where(urgent).values(nice=order.nice))
    return int(found)


def _last_rank(connection: Connection, submitter: str) -> int:
    own = select(func.max(jobs.c.rank)).where(
        jobs.c.submitter == submitter, jobs.c.state == "waiting"
    )
    newest = [connection.execute(own).scalar()]
    for state in _STARTED:
        query = select(func.max(jobs.c.rank)).where(jobs.c.state == state)
        newest.append(connection.execute(query).scalar())
    return max((rank for rank in newest if rank is not None), default=0)


def _new_row(key: Sha256, order: Order, rank: int, now: datetime) -> dict[str, object]:
    work = order.work
    return {
        "work_key": key,
        "label": work.label,
        "fingerprint": work.fingerprint,
        "channel": work.channel,
        "work": work.to_json(),
        "state": "waiting",
        "queue": order.queue,
        "nice": order.nice,
        "rank": rank,
        "submitter": order.submitter,
        "token": 0,
        "tries": {},
        "outcome": None,
        "created_at": now,
    }
