"""What people and autoscalers ask about jobs: lists, places in line, depths of queues, events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import and_, false, func, or_, select, tuple_

from store.access import EVERY_CHANNEL, ChannelPattern
from store.database import Database, clock
from store.schema import job_events, jobs, submission_items
from workers.farm.jobs import ROW, JobRow, rows
from workers.farm.states import State
from workers.farm.submissions import EventRow

OVERLAP: Final = 100
"""Events may be committed in another order than they are numbered: so far back is read again."""

_MOST_AT_ONCE: Final = 500
_SHOWN_AHEAD: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which jobs are meant: those that fit all that is given. `before` is a job's number."""

    channels: tuple[ChannelPattern, ...] = (EVERY_CHANNEL,)
    states: tuple[State, ...] = ()
    label: str | None = None
    submitter: str | None = None
    queue: str | None = None
    before: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A place in line: how many jobs of the queue come first, and what the first of them are."""

    ahead: int
    first: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """A queue with jobs in it. `held` of those that wait are held back for a while.

    `oldest` is when the one that waits longest was asked for.
    """

    queue: str
    waiting: int = 0
    held: int = 0
    running: int = 0
    oldest: datetime | None = None


def list_jobs(database: Database, chosen: Filter, most: int) -> list[JobRow]:
    """The newest jobs that fit, newest first."""
    query = select(*ROW).where(*_conditions(chosen)).order_by(jobs.c.id.desc())
    with database.reading() as connection:
        return rows(connection, query.limit(min(most, _MOST_AT_ONCE)))


def _conditions(chosen: Filter) -> list[Any]:
    label = chosen.label
    found = _in_channels(chosen.channels)
    if chosen.states:
        found.append(jobs.c.state.in_(chosen.states))
    if label is not None:  # NAME alone means every version of it
        exact = jobs.c.label == label
        every = jobs.c.label.startswith(f"{label}==", autoescape=True)
        found.append(exact if "==" in label else every)
    if chosen.submitter is not None:
        found.append(jobs.c.submitter == chosen.submitter)
    if chosen.queue is not None:
        found.append(jobs.c.queue == chosen.queue)
    if chosen.before is not None:
        found.append(jobs.c.id < chosen.before)
    return found


def _in_channels(channels: tuple[ChannelPattern, ...]) -> list[Any]:
    """The condition that a job is of one of `channels`; none where all are."""
    if EVERY_CHANNEL in channels:
        return []
    return [or_(false(), *map(_in_channel, channels))]


def _in_channel(pattern: ChannelPattern) -> Any:
    if pattern.endswith("*"):
        return jobs.c.channel.startswith(pattern[:-1], autoescape=True)
    return jobs.c.channel == pattern


def standing(
    database: Database, row: JobRow, channels: tuple[ChannelPattern, ...] = (EVERY_CHANNEL,)
) -> Standing:
    """What comes before a waiting job in its queue; by name where it is of one of `channels`."""
    with database.reading() as connection:
        now = clock(connection)
        place = tuple_(jobs.c.nice, jobs.c.rank, jobs.c.id)
        ready = or_(jobs.c.not_before.is_(None), jobs.c.not_before <= now)
        same = and_(jobs.c.state == "waiting", jobs.c.queue == row.queue, ready)
        first = and_(same, place < (row.nice, row.rank, row.id))
        count = connection.execute(select(func.count()).where(first)).scalar_one()
        shown = select(jobs.c.label).where(first, *_in_channels(channels))
        head = shown.order_by(jobs.c.nice, jobs.c.rank, jobs.c.id).limit(_SHOWN_AHEAD)
        labels = connection.execute(head).scalars()
        return Standing(ahead=count, first=tuple(labels))


def running_by_owner(database: Database) -> dict[str, int]:
    """How many jobs each worker has."""
    query = select(jobs.c.owner, func.count()).where(jobs.c.state == "running")
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(query.group_by(jobs.c.owner))}


def depths(database: Database) -> list[Depth]:
    """Every queue with open jobs in it, by name."""
    with database.reading() as connection:
        late = and_(jobs.c.state == "waiting", jobs.c.not_before > clock(connection))
        query = (
            select(
                jobs.c.queue,
                jobs.c.state,
                func.count().label("count"),
                func.count(jobs.c.id).filter(late).label("held"),
                func.min(jobs.c.created_at).label("oldest"),
            )
            .where(jobs.c.state.in_(("waiting", "running")))
            .group_by(jobs.c.queue, jobs.c.state)
            .order_by(jobs.c.queue)
        )
        found = list(connection.execute(query))
    return [_depth(queue, found) for queue in dict.fromkeys(row.queue for row in found)]


def _depth(queue: str, found: Iterable[Any]) -> Depth:
    by_state = {row.state: row for row in found if row.queue == queue}
    waiting, running = by_state.get("waiting"), by_state.get("running")
    return Depth(
        queue=queue,
        waiting=waiting.count if waiting else 0,
        held=waiting.held if waiting else 0,
        running=running.count if running else 0,
        oldest=waiting.oldest if waiting else None,
    )


def counts_by_state(database: Database) -> dict[str, int]:
    """How many jobs are in each state that any is in."""
    query = select(jobs.c.state, func.count()).group_by(jobs.c.state)
    with database.reading() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def moment(database: Database) -> datetime:
    """Now, by the database's clock."""
    with database.reading() as connection:
        return clock(connection)


def newest_event(database: Database) -> int:
    """The number of the newest event."""
    with database.reading() as connection:
        return connection.execute(select(func.max(job_events.c.id))).scalar() or 0


def events_since(database: Database, since: int, most: int = 1_000) -> list[EventRow]:
    """What happened to any job after the event `since`, oldest first."""
    query = select(job_events).where(job_events.c.id > since).order_by(job_events.c.id)
    with database.reading() as connection:
        return [EventRow(**row._mapping) for row in connection.execute(query.limit(most))]


def last_event(database: Database, job_id: int, kind: str) -> EventRow | None:
    """The newest event of that kind of a job."""
    chosen = and_(job_events.c.job_id == job_id, job_events.c.kind == kind)
    query = select(job_events).where(chosen).order_by(job_events.c.id.desc()).limit(1)
    with database.reading() as connection:
        row = connection.execute(query).first()
    return None if row is None else EventRow(**row._mapping)


def places_of_jobs(database: Database, submission_id: str) -> Mapping[int, list[int]]:
    """Job -> the places that it has in a submission."""
    item = submission_items.c
    query = select(item.job_id, item.place).where(
        item.submission_id == submission_id, item.job_id.is_not(None)
    )
    found: dict[int, list[int]] = {}
    with database.reading() as connection:
        for job_id, place in connection.execute(query.order_by(item.place)):
            found.setdefault(job_id, []).append(place)
    return found
