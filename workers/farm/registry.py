"""The register of workers: who is there, what each can build with what, who is set aside."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    and_,
    delete,
    exists,
    insert,
    or_,
    select,
    true,
    update,
)

from store.database import Database, clock
from store.digest import JSON, Sha256
from store.fingerprint import Fingerprint
from store.schema import farm_toolchains, farm_workers, job_events
from workers.errors import UnknownJobError
from workers.farm.jobs import Claim
from workers.farm.rules import STRIKES
from workers.farm.work import Queue

WorkerState = Literal["ready", "draining", "set-aside", "gone"]

SILENT_SECONDS: Final = 120
"""A worker that was not heard of for this long is taken to be gone."""
GONE_HOURS: Final = 24
"""How long a worker that is gone is remembered."""

_MOST_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolchainFacts:
    """A target that a worker can build for, and all of the toolchain that enters a BuildKey."""

    fingerprint: Fingerprint
    name: str
    sha256: Sha256
    identity: Mapping[str, JSON]
    tools: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerFacts:
    """What a worker says of itself when it starts. `facts` are for people: OS, memory, disk."""

    id: str
    host: str
    version: str
    slots: int
    queues: tuple[Queue, ...]
    facts: Mapping[str, JSON] = field(default_factory=dict)
    toolchains: tuple[ToolchainFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRow:
    """A worker as the farm knows it.

    `losing_run` counts the builds that it failed one after the other; `strikes` the jobs that it
    failed and another one built. `reason` says why it is draining or set aside.
    """

    id: str
    state: WorkerState
    host: str
    version: str
    slots: int
    queues: tuple[Queue, ...]
    facts: Mapping[str, Any]
    strikes: int
    losing_run: int
    reason: str | None
    started_at: datetime
    heartbeat_at: datetime


_TABLES: Final = ((farm_toolchains, "worker_id"), (farm_workers, "id"))
"""Where a worker's rows are, in the order in which they may be removed."""


class Registry:
    """The workers of one farm. Every method is one transaction and raises StoreError."""

    def __init__(self, database: Database, *, silent_seconds: int = SILENT_SECONDS) -> None:
        self._database = database
        self._silent = timedelta(seconds=silent_seconds)

    def enter(self, worker: WorkerFacts) -> None:
        """Register a worker that starts, or one that was taken to be gone and is back."""
        with self._database.transaction() as connection:
            now = clock(connection)
            row = {
                "id": worker.id, "state": "ready", "host": worker.host, "version": worker.version,
                "slots": worker.slots, "queues": list(worker.queues),
                "facts": _with_skew(worker.facts, now),
                "strikes": 0, "losing_run": 0, "started_at": now, "heartbeat_at": now,
            }  # fmt: skip
            _forget(connection, worker.id)
            connection.execute(insert(farm_workers).values(row))
            for known in worker.toolchains:
                _record_toolchain(connection, worker.id, known)

    def learn(self, worker_id: str, toolchain: ToolchainFacts) -> None:
        """Record a toolchain that a worker has made since it started."""
        with self._database.transaction() as connection:
            _record_toolchain(connection, worker_id, toolchain)

    def beat(self, worker_id: str, facts: Mapping[str, JSON]) -> WorkerState:
        """A worker is alive; give the state that the farm wants it in. Raises UnknownJobError."""
        with self._database.transaction() as connection:
            now = clock(connection)
            change = {"heartbeat_at": now, "facts": _with_skew(facts, now)}
            query = update(farm_workers).where(farm_workers.c.id == worker_id).values(change)
            state = connection.execute(query.returning(farm_workers.c.state)).scalar()
        if state is None:
            raise UnknownJobError(f"the farm has no worker {worker_id!r}")
        found: WorkerState = state
        return found

    def set_state(self, worker_id: str, state: WorkerState, reason: str | None = None) -> None:
        """Drain a worker, set it aside, readmit it. Raises UnknownJobError."""
        values: dict[str, object] = {"state": state, "reason": reason}
        if state == "ready":
            values |= {"strikes": 0, "losing_run": 0}
        with self._database.transaction() as connection:
            query = update(farm_workers).where(farm_workers.c.id == worker_id).values(values)
            if connection.execute(query).rowcount == 0:
                raise UnknownJobError(f"the farm has no worker {worker_id!r}")

    def bury_silent(self) -> list[str]:
        """Take the workers that were not heard of to be gone; give them."""
        with self._database.transaction() as connection:
            late = farm_workers.c.heartbeat_at < clock(connection) - self._silent
            query = (
                update(farm_workers)
                .where(late, farm_workers.c.state != "gone")
                .values(state="gone", reason="it was not heard of any more")
            )
            return list(connection.execute(query.returning(farm_workers.c.id)).scalars())

    def prune(self) -> list[str]:
        """Forget the workers that have been gone for a day; give them.

        The last one that could build for a target is remembered as long as nobody else can: a
        planner knows by its toolchain what is built already.
        """
        with self._database.transaction() as connection:
            query = select(farm_workers.c.id).where(_long_gone(clock(connection)))
            # Locked, so that none of them comes back meanwhile.
            old = query.limit(_MOST_AT_ONCE).with_for_update(skip_locked=True)
            found = list(connection.execute(old).scalars())
            for table, column in _TABLES if found else ():
                connection.execute(delete(table).where(table.c[column].in_(found)))
        return found

    def all(self) -> list[WorkerRow]:
        """Every worker that is there, or was in the last day, the newest last."""
        return self._chosen(true())

    def ready(self) -> list[WorkerRow]:
        """The workers that take jobs now."""
        return self._chosen(farm_workers.c.state == "ready")

    def _chosen(self, which: ColumnElement[bool]) -> list[WorkerRow]:
        query = select(farm_workers).where(which)
        query = query.order_by(farm_workers.c.started_at, farm_workers.c.id)
        with self._database.reading() as connection:
            return [_worker(row._mapping) for row in connection.execute(query)]

    def toolchains(
        self, fingerprints: Collection[Fingerprint]
    ) -> dict[Fingerprint, list[ToolchainFacts]]:
        """The toolchains for those targets that living workers have, or else those of gone ones.

        Each once, however many workers have it.
        """
        toolchain, worker = farm_toolchains.c, farm_workers.c
        query = (
            select(farm_toolchains, (worker.state == "gone").label("gone"))
            .join_from(farm_toolchains, farm_workers, toolchain.worker_id == worker.id)
            .where(toolchain.fingerprint.in_(fingerprints))
            .order_by("gone", worker.started_at.desc())
        )
        found: dict[Fingerprint, dict[str, tuple[bool, ToolchainFacts]]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query):
                known = found.setdefault(row.fingerprint, {})
                if not row.gone or all(gone for gone, _ in known.values()):
                    key = f"{row.sha256} {sorted(row.tools.items())}"
                    known.setdefault(key, (row.gone, _toolchain(row._mapping)))
        return {name: [facts for _, facts in known.values()] for name, known in found.items()}

    def toolchains_of(self, worker_id: str) -> list[ToolchainFacts]:
        """The toolchains of one worker."""
        chosen = farm_toolchains.c.worker_id == worker_id
        query = select(farm_toolchains).where(chosen).order_by(farm_toolchains.c.name)
        with self._database.reading() as connection:
            return [_toolchain(row._mapping) for row in connection.execute(query)]

    def losing_run(self, worker_id: str) -> int:
        """How many builds in a row the worker has failed."""
        query = select(farm_workers.c.losing_run).where(farm_workers.c.id == worker_id)
        with self._database.reading() as connection:
            return int(connection.execute(query).scalar() or 0)

    def count_loss(self, worker_id: str) -> None:
        """The worker failed a build."""
        longer = {"losing_run": farm_workers.c.losing_run + 1}
        with self._database.transaction() as connection:
            connection.execute(
                update(farm_workers).where(farm_workers.c.id == worker_id).values(longer)
            )

    def count_success(self, claim: Claim) -> list[str]:
        """The worker built a job, so who failed it gets a strike. Give who is set aside now."""
        with self._database.transaction() as connection:
            _clear(connection, claim.worker)
            struck = [_strike(connection, worker) for worker in _who_failed(connection, claim)]
        return [worker for worker in struck if worker]


def _with_skew(facts: Mapping[str, JSON], now: datetime) -> dict[str, JSON]:
    """The facts, and how far this machine's clock is ahead of the database's, in seconds."""
    return {**facts, "clock_ahead_seconds": round((datetime.now(UTC) - now).total_seconds())}


def _long_gone(now: datetime) -> ColumnElement[bool]:
    """The condition that a worker is gone since long, and the newest with none of its targets."""
    had, other, newer = farm_toolchains.c, farm_toolchains.alias(), farm_workers.alias()
    later = or_(
        newer.c.started_at > farm_workers.c.started_at,
        and_(newer.c.started_at == farm_workers.c.started_at, newer.c.id > farm_workers.c.id),
    )
    has_a_newer_one = exists().where(
        other.c.fingerprint == had.fingerprint, other.c.worker_id == newer.c.id, later
    )
    has_a_newer_one = has_a_newer_one.correlate(farm_workers, farm_toolchains)
    is_the_newest = exists().where(had.worker_id == farm_workers.c.id, ~has_a_newer_one)
    silent = farm_workers.c.heartbeat_at < now - timedelta(hours=GONE_HOURS)
    return and_(farm_workers.c.state == "gone", silent, ~is_the_newest)


def _forget(connection: Connection, worker_id: str) -> None:
    for table, column in _TABLES:
        connection.execute(delete(table).where(table.c[column] == worker_id))


def _record_toolchain(connection: Connection, worker_id: str, known: ToolchainFacts) -> None:
    table = farm_toolchains
    same = and_(table.c.worker_id == worker_id, table.c.fingerprint == known.fingerprint)
    row = {
        "worker_id": worker_id, "fingerprint": known.fingerprint, "name": known.name,
        "sha256": known.sha256, "identity": known.identity, "tools": known.tools,
    }  # fmt: skip
    connection.execute(delete(table).where(same))
    connection.execute(insert(table).values(row))


def _clear(connection: Connection, worker_id: str) -> None:
    query = update(farm_workers).where(farm_workers.c.id == worker_id)
    connection.execute(query.values(losing_run=0, strikes=0))


def _who_failed(connection: Connection, claim: Claim) -> list[str]:
    """The other workers that failed the job of `claim` since it was last asked for."""
    asked = select(job_events.c.id).where(
        job_events.c.job_id == claim.job_id, job_events.c.kind.in_(("enqueue", "again"))
    )
    failed = select(job_events.c.worker).where(
        job_events.c.job_id == claim.job_id,
        job_events.c.kind == "retry",
        job_events.c.worker != claim.worker,
        job_events.c.id > asked.order_by(job_events.c.id.desc()).limit(1).scalar_subquery(),
    )
    return list(connection.execute(failed.distinct()).scalars())


def _strike(connection: Connection, worker_id: str) -> str | None:
    """One more strike for a worker; its name when that sets it aside."""
    this = farm_workers.c.id == worker_id
    struck = update(farm_workers).where(this).values(strikes=farm_workers.c.strikes + 1)
    strikes = connection.execute(struck.returning(farm_workers.c.strikes)).scalar()
    if strikes is None or strikes < STRIKES:
        return None
    reason = f"failed {strikes} jobs that others built"
    aside = update(farm_workers).where(this, farm_workers.c.state == "ready")
    done = connection.execute(aside.values(state="set-aside", reason=reason))
    return worker_id if done.rowcount else None


def _worker(row: RowMapping) -> WorkerRow:
    return WorkerRow(**{**dict(row), "queues": tuple(row["queues"])})


def _toolchain(row: RowMapping) -> ToolchainFacts:
    return ToolchainFacts(**{str(name): row[name] for name in ToolchainFacts.__slots__})


def takers(workers: Sequence[WorkerRow], queue: Queue) -> list[WorkerRow]:
    """The ready ones of `workers` that take jobs of `queue`."""
    return [worker for worker in workers if worker.state == "ready" and queue in worker.queues]
