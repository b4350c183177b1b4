"""Server-sent events: a submission's progress, and the log of a job, followed to the end.

    event: planned   data: the submission                    all items are known
    event: item      data: an item                           it is over
    event: job       data: an event of a job   id: NUMBER    it was started, retried, cancelled …
    event: log       data: a piece             id: TRY:BYTE  what a build printed
    event: end       data: the submission, or the job        nothing more will come

A client that was cut off comes back with Last-Event-ID. Then events of jobs and pieces of a log go
on from there; items that are over are told again.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Collection, Iterator
from functools import partial
from typing import Final

import anyio
from fastapi.sse import ServerSentEvent
from starlette.concurrency import run_in_threadpool

from store.errors import StoreError
from workers.api.shared import Shared
from workers.farm import answers, listing
from workers.farm.desk import PAGE, FarmDesk, LogPart
from workers.farm.listing import OVERLAP
from workers.farm.submissions import EventRow

LOOK_SECONDS: Final = 0.2

_SURE_SECONDS: Final = 5.0
"""How often a stream looks at the whole of its submission, whatever the events said."""
_LOG: Final = logging.getLogger("wheelfarm.serve")
_ENDS: Final = frozenset({"succeed", "fail", "cancel"})
_LOG_PLACE: Final = re.compile(r"([0-9]{1,15}):([0-9]{1,15})")


async def until_trouble(events: AsyncIterator[ServerSentEvent]) -> AsyncIterator[ServerSentEvent]:
    """The events as long as the store answers. Then the stream ends early, as its headers are sent
    and no status can tell of trouble any more; the client comes back for the rest."""
    try:
        async for event in events:
            yield event
    except StoreError as error:
        _LOG.warning("a stream is cut off: %s", error)


class SubmissionStream:
    """The progress of one submission, for one client, from the event `after` on."""

    def __init__(self, desk: FarmDesk, shared: Shared, submission_id: str, after: int) -> None:
        self._desk = desk
        self._shared = shared
        self._id = submission_id
        self._after = after
        self._places: dict[int, list[int]] = {}
        self._told: set[int] = set()
        self._items = 0
        self._seen: set[int] = set()

    async def events(self) -> AsyncIterator[ServerSentEvent]:
        """Every event, up to the end of the submission."""
        submission = await self._planned()
        yield ServerSentEvent(event="planned", data=submission)
        newest = await run_in_threadpool(listing.newest_event, self._desk.farm.store.database)
        async for each in self._catch_up():
            yield each
        async for each in self._follow(newest):
            yield each
        yield ServerSentEvent(event="end", data=await self._submission())

    async def _planned(self) -> answers.Submission:
        while (submission := await self._submission()).state == "planning":
            await anyio.sleep(LOOK_SECONDS)
        return submission

    async def _catch_up(self) -> AsyncIterator[ServerSentEvent]:
        """What is over, and what happened since the client left."""
        await self._find_places()
        async for each in self._overs():
            yield each
        while rows := await self._events_after(self._after):
            if any(row.job_id not in self._places for row in rows):
                await self._find_places()  # it was cancelled while its planner still added items
            for row in rows:
                yield self._event(row)
            self._after = rows[-1].id

    async def _find_places(self) -> None:
        database = self._desk.farm.store.database
        found = await run_in_threadpool(listing.places_of_jobs, database, self._id)
        self._places = {job: list(places) for job, places in found.items()}

    async def _follow(self, since: int) -> AsyncIterator[ServerSentEvent]:
        sure_at = anyio.current_time() + _SURE_SECONDS
        while len(self._told) < self._items:
            rows = await self._fresh(since)
            since = max((row.id for row in rows), default=since)
            for each in self._told_events(rows):
                yield each
            over = {row.job_id for row in rows if row.job_id in self._places and row.kind in _ENDS}
            sure = anyio.current_time() > sure_at
            if over or sure:
                async for each in self._overs(None if sure else over):
                    yield each
            if sure:
                sure_at = anyio.current_time() + _SURE_SECONDS
                if (await self._submission()).state in {"cancelled", "refused"}:
                    return
            await anyio.sleep(LOOK_SECONDS)

    async def _fresh(self, since: int) -> list[EventRow]:
        def read() -> list[EventRow]:
            return listing.events_since(self._desk.farm.store.database, max(0, since - OVERLAP))

        return await self._shared.get(("events", since), read)

    def _told_events(self, rows: Collection[EventRow]) -> Iterator[ServerSentEvent]:
        """The events of the submission's own jobs that were not told yet."""
        for row in rows:
            if row.job_id in self._places and row.id > self._after and row.id not in self._seen:
                yield self._event(row)

    def _event(self, row: EventRow) -> ServerSentEvent:
        self._seen.add(row.id)
        event = answers.Event(
            id=row.id,
            job=row.job_id,
            at=row.at,
            kind=row.kind,
            attempt=row.token,
            worker=row.worker,
            detail=dict(row.detail),
            places=self._places[row.job_id],
        )
        return ServerSentEvent(event="job", id=str(row.id), data=event)

    async def _overs(self, jobs: Collection[int] | None = None) -> AsyncIterator[ServerSentEvent]:
        """The items that are over and were not told; of these jobs only, if given."""
        chosen = None if jobs is None else [p for job in jobs for p in self._places[job]]
        async for item in self._read_items(chosen):
            self._items = max(self._items, item.place + 1)
            if item.end is not None and item.place not in self._told:
                self._told.add(item.place)
                yield ServerSentEvent(event="item", data=item)

    async def _read_items(self, places: list[int] | None) -> AsyncIterator[answers.Item]:
        submissions, first = self._desk.farm.submissions, 0
        while True:
            some = range(first, first + PAGE) if places is None else places[first : first + PAGE]
            rows = await run_in_threadpool(submissions.items, self._id, some)
            for row in rows:
                yield answers.item_of(row)
            first += PAGE
            if len(rows) < PAGE:
                return

    async def _events_after(self, after: int) -> list[EventRow]:
        return await run_in_threadpool(self._desk.farm.submissions.events, self._id, after)

    async def _submission(self) -> answers.Submission:
        return await self._shared.get(
            ("submission", self._id), lambda: self._desk.submission(self._id)
        )


async def log_events(
    desk: FarmDesk, shared: Shared, job_id: int, place: tuple[int | None, int]
) -> AsyncIterator[ServerSentEvent]:
    """The log of a job from a try and a byte on, up to the end of the job."""
    attempt, start = place
    while True:
        read = partial(desk.log_part, job_id, attempt, start)
        part = await shared.get(("log", job_id, attempt, start), read)
        attempt, start = part.attempt, part.start
        if part.data:
            piece = _piece(part)
            start = piece.end
            yield ServerSentEvent(event="log", id=f"{attempt}:{start}", data=piece)
        if part.over:
            break
        if not part.data:
            await anyio.sleep(LOOK_SECONDS)
    yield ServerSentEvent(event="end", data=await run_in_threadpool(desk.job, job_id))


def parse_log_place(text: str | None) -> tuple[int | None, int]:
    """The try and the byte that a Last-Event-ID names; the beginning when it names none."""
    found = _LOG_PLACE.fullmatch(text or "")
    return (int(found[1]), int(found[2])) if found else (None, 0)


def parse_event_number(text: str | None) -> int:
    """The event that a Last-Event-ID names; 0 when it names none."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,15}", text) else 0


def _piece(part: LogPart) -> answers.LogPiece:
    """The part as text; the beginning of a character at its end is left for the next."""
    data = part.data if part.over else _whole_characters(part.data)
    text = data.decode("utf-8", "replace")
    return answers.LogPiece(
        attempt=part.attempt, start=part.start, end=part.start + len(data), text=text
    )


def _whole_characters(data: bytes) -> bytes:
    """`data` without the unfinished character at its end, if what is before it is anything."""
    for back in range(1, min(4, len(data))):
        lead = data[-back]
        if lead >= 0xC0:
            size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
            return data[:-back] if size > back else data
        if lead < 0x80:
            return data
    return data
