"""A job as the database has it, a lease on one, and how its row moves from state to state.

Every function works inside a transaction of the caller's. A row is moved by comparing and setting:
the change names the state, and for a running job the fencing token, that it starts from.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, Select, Update, delete, insert, select, true, update

from store.digest import JSON, Sha256
from store.schema import job_events, jobs, log_pieces
from workers.errors import LeaseLostError, TransitionError, UnknownJobError
from workers.farm.states import FINAL, Event, State, after, sources
from workers.farm.work import Queue, Work

UNOWNED: Final[Mapping[str, object]] = MappingProxyType({"owner": None, "lease_until": None})
"""What a row says that no worker has a lease on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A lease on a job. `token` grows with each claim of the job; only its newest may publish."""

    job_id: int
    token: int
    worker: str
    queue: Queue
    work: Work


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRow:
    """A job as the database has it. `tries` counts its failures by kind."""

    id: int
    work_key: Sha256
    build_key: str | None
    label: str
    fingerprint: str
    channel: str
    state: State
    queue: Queue
    nice: int
    rank: int
    submitter: str
    token: int
    tries: Mapping[str, int]
    owner: str | None
    avoid: str | None
    lease_until: datetime | None
    heartbeat_at: datetime | None
    not_before: datetime | None
    failure: str | None
    outcome: Mapping[str, Any] | None
    log_sha256: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What happens to a job: the event, when by the database's clock, the columns that it sets,
    and what is written down."""

    event: Event
    at: datetime
    values: Mapping[str, object] = field(default_factory=dict)
    detail: Mapping[str, JSON] = field(default_factory=dict)


ROW: Final = tuple(jobs.c[name] for name in JobRow.__slots__)


def rows(connection: Connection, query: Select[Any]) -> list[JobRow]:
    """The jobs that a query over the columns of `ROW` finds."""
    return [JobRow(**row._mapping) for row in connection.execute(query)]


def job_row(connection: Connection, job_id: int) -> JobRow:
    """The job of that number. Raises UnknownJobError."""
    found = rows(connection, select(*ROW).where(jobs.c.id == job_id))
    if not found:
        raise UnknownJobError(f"there is no job {job_id}", hint="`wheelfarm jobs` lists them")
    return found[0]


def is_held(claim: Claim) -> tuple[Any, ...]:
    """The condition that `claim` is the job's lease still."""
    return jobs.c.id == claim.job_id, jobs.c.state == "running", jobs.c.token == claim.token


def held(claim: Claim) -> Update:
    """An update of the job's row that changes nothing when the lease is gone."""
    return update(jobs).where(*is_held(claim))


def held_row(connection: Connection, claim: Claim) -> JobRow:
    """The row of a claimed job, locked. Raises LeaseLostError."""
    found = rows(connection, select(*ROW).where(*is_held(claim)).with_for_update())
    if not found:
        raise _lost(claim)
    return found[0]


def fence(claim: Claim) -> Callable[[Connection], None]:
    """Refuses, inside a transaction, whoever has no lease any more: raises LeaseLostError."""

    def check(connection: Connection) -> None:
        held_row(connection, claim)

    return check


def release(connection: Connection, claim: Claim, change: Change) -> None:
    """The lease ends by `change`. Raises LeaseLostError when it had ended before."""
    state = after("running", change.event)
    query = held(claim).values({**change.values, **UNOWNED, "state": state})
    if connection.execute(query).rowcount == 0:
        raise _lost(claim)
    note(connection, claim.job_id, claim.token, change, worker=claim.worker)


def finish(connection: Connection, claim: Claim, change: Change) -> None:
    """The lease ends by a change to a final state. Raises LeaseLostError."""
    values = {**change.values, "finished_at": change.at}
    release(connection, claim, dataclasses.replace(change, values=values))
    _drop_pieces(connection, claim.job_id)  # the whole log is a blob by now


def move(connection: Connection, job_id: int, change: Change, also: Any) -> bool:
    """Let `change` happen in whatever state it can, where `also` holds; whether it happened."""
    for state in sources(change.event):
        query = update(jobs).where(jobs.c.id == job_id, jobs.c.state == state, also)
        new = after(state, change.event)
        query = query.values({**change.values, "state": new})
        moved = connection.execute(query.returning(jobs.c.token)).scalar()
        if moved is not None:
            note(connection, job_id, moved, change)
            if new in FINAL:
                _drop_pieces(connection, job_id)
            return True
    return False


def must_move(connection: Connection, job_id: int, change: Change) -> None:
    """Let `change` happen. Raises TransitionError where it cannot, UnknownJobError."""
    # Held from here on: `move` looks for one state after the other, and between two of its looks
    # a worker could lead the job from the second to the first.
    connection.execute(select(jobs.c.id).where(jobs.c.id == job_id).with_for_update())
    if not move(connection, job_id, change, true()):
        state = job_row(connection, job_id).state
        raise TransitionError(f"job {job_id} is {state}: it cannot {change.event}")


def note(
    connection: Connection, job_id: int, token: int, change: Change, *, worker: str | None = None
) -> None:
    """Write down what happened to a job."""
    row = {
        "job_id": job_id, "at": change.at, "kind": change.event, "token": token,
        "worker": worker, "detail": change.detail,
    }  # fmt: skip
    connection.execute(insert(job_events).values(row))


def _drop_pieces(connection: Connection, job_id: int) -> None:
    connection.execute(delete(log_pieces).where(log_pieces.c.job_id == job_id))


def _lost(claim: Claim) -> LeaseLostError:
    return LeaseLostError(
        f"{claim.worker} has no lease on job {claim.job_id} any more",
        hint="it was cancelled, or the worker was silent for too long and another one has it",
    )
