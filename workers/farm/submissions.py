"""Submissions: what somebody asked for, as a list of items, each a job or an outcome already.

A submission stays when whoever made it goes away, but for one of a local run: that one is leased
to the run, and when it lapses, what only this run wanted is cancelled.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, and_, func, insert, or_, select, true, update

from store.access import Actor
from store.audit import Deed, record
from store.database import Database, clock
from store.digest import JSON
from store.schema import job_events, jobs, submission_items, submissions
from workers.errors import UnknownJobError
from workers.farm.jobs import UNOWNED, Change, move
from workers.farm.line import Order, enqueue, held_jobs, pokes_for
from workers.farm.poke import SILENT, Poker
from workers.farm.states import FINAL
from workers.outcome import Outcome, outcome_from_json

LEASE_SECONDS: Final = 60
"""How long a planner, or a local run, may be silent before its submission is taken from it."""

_OF_THE_JOB: Final = (jobs.c.label, jobs.c.state, jobs.c.fingerprint, jobs.c.channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One package for one target: an order for a job, or what came of it at once.

    `target` is the name that the submitter gave the target.
    """

    target: str
    wanted: Order | Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmissionRow:
    """A submission as the database has it. `error` says why nothing could be planned."""

    id: str
    submitter: str
    call: Mapping[str, Any]
    created_at: datetime
    planner: str | None
    lease_until: datetime | None
    planned_at: datetime | None
    cancelled_at: datetime | None
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemRow:
    """An item and where it stands: `outcome` None as long as its job is open."""

    place: int
    target: str
    job_id: int | None
    label: str
    state: str
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """Something that happened to a job."""

    id: int
    job_id: int
    at: datetime
    kind: str
    token: int
    worker: str | None
    detail: Mapping[str, Any]


class Submissions:
    """The submissions of one farm. Every method is one transaction and raises StoreError."""

    def __init__(
        self, database: Database, *, lease_seconds: int = LEASE_SECONDS, poker: Poker = SILENT
    ) -> None:
        self._database = database
        self._poker = poker
        self._lease = timedelta(seconds=lease_seconds)

    def create(
        self,
        submitter: str,
        call: Mapping[str, JSON],
        planner: str | None = None,
        *,
        by: Actor | None = None,
        detail: Mapping[str, JSON] = MappingProxyType({}),
    ) -> str:
        """A new submission, to be planned by anybody, or by `planner`; give its id.

        It is in the audit log, with `detail`, as a deed of `by`, or of the submitter.
        """
        name = secrets.token_hex(16)
        actor = by or Actor(who=submitter)
        with self._database.transaction() as connection:
            now = clock(connection)
            row = {
                "id": name, "submitter": submitter, "call": call, "created_at": now,
                "planner": planner, "lease_until": now + self._lease if planner else None,
                "error": None,
            }  # fmt: skip
            connection.execute(insert(submissions).values(row))
            on = f"submission {name}"
            record(connection, Deed(actor=actor, action="submit", object=on, detail=detail))
        return name

    def claim_planning(self, planner: str) -> SubmissionRow | None:
        """Lease the oldest submission that nobody plans; None when there is none.

        One whose planner went away is planned anew: what it had added stays, by single flight.
        """
        with self._database.transaction() as connection:
            now = clock(connection)
            free = or_(submissions.c.lease_until.is_(None), submissions.c.lease_until < now)
            open_ = and_(submissions.c.planned_at.is_(None), submissions.c.cancelled_at.is_(None))
            query = select(submissions.c.id).where(free, open_)
            first = query.order_by(submissions.c.created_at).limit(1)
            found = connection.execute(first.with_for_update(skip_locked=True)).scalar()
            if found is None:
                return None
            values = {"planner": planner, "lease_until": now + self._lease}
            connection.execute(_this(found).values(values))
            return _submission(connection, found)

    def beat(self, submission_id: str, planner: str) -> bool:
        """Renew the lease of a planner or a local run; False when it is somebody else's."""
        with self._database.transaction() as connection:
            mine = _this(submission_id).where(submissions.c.planner == planner)
            until = clock(connection) + self._lease
            return connection.execute(mine.values(lease_until=until)).rowcount > 0

    def add(self, submission_id: str, first: int, items: Sequence[Item]) -> None:
        """Append items, the first of them at place `first`; what stands there already stays."""
        with self._database.transaction() as connection:
            query = select(submission_items.c.place).where(
                submission_items.c.submission_id == submission_id
            )
            known = set(connection.execute(query).scalars())
            fresh = [(place, item) for place, item in enumerate(items, first) if place not in known]
            orders = [item.wanted for _, item in fresh if isinstance(item.wanted, Order)]
            made = enqueue(connection, orders)
            ids = iter(made)
            rows = [_item_row(submission_id, place, item, ids) for place, item in fresh]
            if rows:
                connection.execute(insert(submission_items), rows)
        self._poker.poke(pokes_for(orders, made))

    def planned(self, submission_id: str, *, stays: bool = True) -> None:
        """All items are there. `stays`: it goes on without whoever made it."""
        with self._database.transaction() as connection:
            values: dict[str, object] = {"planned_at": clock(connection)}
            if stays:
                values |= {"planner": None, "lease_until": None}
            connection.execute(_this(submission_id).values(values))

    def refuse(self, submission_id: str, error: Mapping[str, JSON]) -> None:
        """It cannot be planned, and `error` says why; what was added is cancelled."""
        with self._database.transaction() as connection:
            values = {"error": error, "planned_at": clock(connection), "lease_until": None}
            connection.execute(_this(submission_id).values(values))
            _withdraw(connection, submission_id, "its submission was refused")

    def cancel(self, submission_id: str, reason: str) -> int:
        """Nobody wants it any more; give how many jobs that ends. Raises UnknownJobError."""
        with self._database.transaction() as connection:
            _submission(connection, submission_id)
            return _withdraw(connection, submission_id, reason)

    def cancel_lapsed(self) -> int:
        """Cancel the local runs that were not heard of any more; give how many."""
        with self._database.transaction() as connection:
            lapsed = and_(
                submissions.c.planner.is_not(None),
                submissions.c.planned_at.is_not(None),
                submissions.c.cancelled_at.is_(None),
                submissions.c.lease_until < clock(connection),
            )
            found = list(connection.execute(select(submissions.c.id).where(lapsed)).scalars())
            for submission_id in found:
                _withdraw(connection, submission_id, "its run is gone")
        return len(found)

    def get(self, submission_id: str) -> SubmissionRow:
        """The submission. Raises UnknownJobError."""
        with self._database.reading() as connection:
            return _submission(connection, submission_id)

    def items(self, submission_id: str, places: Sequence[int] | None = None) -> list[ItemRow]:
        """Where each item stands, in order; only those at `places`, if given."""
        item = submission_items.c
        query = (
            select(submission_items, *_OF_THE_JOB, jobs.c.outcome.label("came_of_it"))
            .join_from(submission_items, jobs, item.job_id == jobs.c.id, isouter=True)
            .where(item.submission_id == submission_id)
            .order_by(item.place)
        )
        if places is not None:
            query = query.where(item.place.in_(places))
        with self._database.reading() as connection:
            return [_item(row) for row in connection.execute(query)]

    def states(self, submission_id: str) -> dict[int, tuple[str, int]]:
        """The state of each item that has a job, by place, and the number of its try."""
        item = submission_items.c
        query = (
            select(item.place, jobs.c.state, jobs.c.token)
            .join_from(submission_items, jobs)
            .where(item.submission_id == submission_id)
        )
        with self._database.reading() as connection:
            return {row.place: (row.state, row.token) for row in connection.execute(query)}

    def counts(self, submission_id: str) -> dict[str, int]:
        """How many items are in each state; those without a job count as ``done``."""
        item = submission_items.c
        state = func.coalesce(jobs.c.state, "done")
        query = (
            select(state, func.count())
            .join_from(submission_items, jobs, item.job_id == jobs.c.id, isouter=True)
            .where(item.submission_id == submission_id)
            .group_by(state)
        )
        with self._database.reading() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def events(self, submission_id: str, since: int = 0, most: int = 1000) -> list[EventRow]:
        """What happened to its jobs after the event `since`, oldest first."""
        theirs = select(submission_items.c.job_id).where(
            submission_items.c.submission_id == submission_id
        )
        query = (
            select(job_events)
            .where(job_events.c.id > since, job_events.c.job_id.in_(theirs))
            .order_by(job_events.c.id)
            .limit(most)
        )
        with self._database.reading() as connection:
            return [EventRow(**row._mapping) for row in connection.execute(query)]


def _this(submission_id: str) -> Any:
    return update(submissions).where(submissions.c.id == submission_id)


def _submission(connection: Connection, submission_id: str) -> SubmissionRow:
    row = connection.execute(select(submissions).where(submissions.c.id == submission_id)).first()
    if row is None:
        raise UnknownJobError(f"there is no submission {submission_id[:40]!r}")
    return SubmissionRow(**row._mapping)


def _item_row(submission_id: str, place: int, item: Item, made: Any) -> dict[str, object]:
    outcome = item.wanted.to_json() if isinstance(item.wanted, Outcome) else None
    return {
        "submission_id": submission_id,
        "place": place,
        "job_id": None if outcome else next(made),
        "target": item.target,
        "outcome": outcome,
    }


def _withdraw(connection: Connection, submission_id: str, reason: str) -> int:
    """Mark it cancelled, and cancel the open jobs that no other submission wants."""
    fresh = _this(submission_id).where(submissions.c.cancelled_at.is_(None))
    now = clock(connection)
    connection.execute(fresh.values(cancelled_at=now))
    mine = select(submission_items.c.job_id).where(
        submission_items.c.submission_id == submission_id
    )
    # Two that withdraw at once must not each think that the other still wants the job.
    held = list(connection.execute(held_jobs(jobs.c.id.in_(mine))).scalars())
    others = (
        select(submission_items.c.job_id)
        .join_from(submission_items, submissions)
        .where(
            submissions.c.cancelled_at.is_(None),
            submission_items.c.job_id.in_(mine),
            or_(submissions.c.planner.is_(None), submissions.c.lease_until > now),
        )
    )
    wanted = set(connection.execute(others).scalars())
    values = {**UNOWNED, "finished_at": now}
    change = Change(event="cancel", at=now, values=values, detail={"reason": reason})
    return sum(move(connection, job_id, change, true()) for job_id in held if job_id not in wanted)


def _item(row: Any) -> ItemRow:
    outcome = _outcome(row)
    return ItemRow(
        place=row.place,
        target=row.target,
        job_id=row.job_id,
        label=row.label or (outcome.label if outcome else ""),
        state=row.state or "done",
        outcome=outcome,
    )


def _outcome(row: Any) -> Outcome | None:
    """What came of an item, under the name that its submitter gave the target."""
    if row.job_id is None:
        return outcome_from_json(row.outcome)
    if row.state not in FINAL:
        return None
    if row.state == "cancelled":
        return _cancelled(row)
    return outcome_from_json({**row.came_of_it, "target": row.target})


def _cancelled(row: Any) -> Outcome:
    package, _, version = row.label.partition("==")
    return Outcome(
        package=package,
        version=version,
        target=row.target,
        fingerprint=row.fingerprint,
        channel=row.channel,
        status="cancelled",
        code="cancelled",
        message="it was cancelled before it was built",
    )
