"""The reckoning after the chaos: what must hold of the database, the disk and the processes."""

from __future__ import annotations

import re
import shutil
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import func, select

from builder.verify import reverify
from store.digest import sha256_of_file
from store.publish import Store
from store.schema import (
    blobs,
    files,
    job_events,
    jobs,
    log_pieces,
    releases,
    submission_items,
    submissions,
)
from store.verdict import VerifiedWheel
from tests.chaos import proc
from tests.chaos.orders import UNSOUND
from tests.workers.yard import Yard
from workers.farm.farm import Farm
from workers.farm.states import OPEN
from workers.outcome import Outcome

SPENT: Final = frozenset({"lost", "died"})
"""Kinds of failure by which chaos alone may end a sound job, once its tries are used up."""

_SECONDS: Final = 30

_ORPHANED: Final = re.compile(
    r"Traceback \(most recent call last\):\n(?:  [^\n]*multiprocessing/[^\n]*\n(?:    [^\n]*\n)+)+"
    r"EOFError: Ran out of input\n"
)
"""What CPython prints in the process of a job whose worker was killed as it told it what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What became of the jobs. `ends` by state and kind; `tries` by number of claims.

    `handed_on` are the seconds from the kill of a worker to the next claim of what it had.
    """

    ends: Mapping[str, int]
    tries: Mapping[int, int]
    released: int
    handed_on: tuple[float, ...]
    lost_leases: int
    orphans: int


def still_open(farm: Farm) -> int:
    """How many jobs are waiting or running, and submissions unplanned."""
    with farm.store.database.reading() as connection:
        open_ = select(func.count()).where(jobs.c.state.in_(OPEN))
        unplanned = select(func.count()).where(
            submissions.c.planned_at.is_(None), submissions.c.cancelled_at.is_(None)
        )
        queries = (open_, unplanned)
        return sum(int(connection.execute(query).scalar_one()) for query in queries)


def faults(farm: Farm, yard: Yard, mark: str) -> list[str]:
    """Everything that is not as it must be; to be called when every worker was told to stop."""
    found = [*_of_jobs(farm), *_of_submissions(farm), *_of_workers(farm)]
    found += [*_of_releases(farm), *_of_blobs(farm, yard.folder / "verified")]
    # A process that was told to stop may take a moment; one that stays is a fault.
    found += [f"left: {name}" for name in _in_time(yard.left_over)]
    processes = _in_time(lambda: list(proc.of_run(mark, yard.folder).items()))
    found += [f"process {pid} is left: {command}" for pid, command in processes]
    for log in sorted(yard.folder.glob("*.log")):
        text = _ORPHANED.sub("", log.read_text(errors="replace"))
        if "Traceback" in text:
            found.append(f"{log.name} has a traceback: ...{text[text.index('Traceback') :][:3000]}")
    return found


def untrue(farm: Farm, told: Mapping[str, list[Outcome]]) -> list[str]:
    """What followers were told by the server, and does not hold. `told`: by submission."""
    with farm.store.database.reading() as connection:
        published = set(connection.execute(select(files.c.sha256)).scalars())
        rows = connection.execute(select(submissions.c.id, submissions.c.call))
        calls = {row.id: row.call for row in rows}
    found = []
    for name, outcomes in told.items():
        if outcomes and len(outcomes) != len(set(_uploads(calls[name]))):
            found.append(f"{len(outcomes)} ends were told of submission {name}")
        found += [
            f"{each.label} was told to be {each.status}, and is not published"
            for each in outcomes
            if each.status in {"built", "hit"} and each.sha256 not in published
        ]
    return found


def figures(farm: Farm, deaths: Mapping[int, float]) -> Figures:
    """The table's numbers. `deaths`: process number of a worker -> when it was killed."""
    with farm.store.database.reading() as connection:
        rows = connection.execute(select(jobs.c.state, jobs.c.failure, jobs.c.token)).all()
        released = connection.execute(select(func.count()).select_from(releases)).scalar_one()
        events = connection.execute(select(job_events).order_by(job_events.c.id)).all()
        known = set(connection.execute(select(blobs.c.sha256)).scalars())
    ends = Counter(f"{row.state} ({row.failure})" if row.failure else row.state for row in rows)
    return Figures(
        ends=dict(ends.most_common()),
        tries=dict(sorted(Counter(row.token for row in rows).items())),
        released=released,
        handed_on=tuple(_handed_on(events, deaths)),
        lost_leases=sum(event.detail.get("failure") == "lost" for event in events if event.detail),
        orphans=len({path.name for path in _blob_files(farm.store)} - known),
    )


def spread(seconds: tuple[float, ...]) -> str:
    """The median and the longest of some times."""
    if not seconds:
        return "none"
    return f"{statistics.median(seconds):.1f} s at the median, {max(seconds):.1f} s at most"


def _of_jobs(farm: Farm) -> Iterator[str]:
    columns = (jobs.c.id, jobs.c.label, jobs.c.state, jobs.c.failure, jobs.c.owner, jobs.c.outcome)
    with farm.store.database.reading() as connection:
        rows = connection.execute(select(*columns)).all()
        over = select(jobs.c.id).where(jobs.c.state.not_in(OPEN))
        pieces = select(func.count()).where(log_pieces.c.job_id.in_(over))
        if count := connection.execute(pieces).scalar_one():
            yield f"{count} log pieces of finished jobs are left"
    for row in rows:
        if wrong := _wrong_with(row):
            yield f"job {row.id} ({row.label}) {wrong}: {row.state}, {row.failure}, {row.outcome}"


def _wrong_with(row: Any) -> str | None:
    if row.state in OPEN:
        return "is open"
    if row.owner is not None:
        return f"is owned by {row.owner}"
    if row.state == "cancelled" or row.failure in SPENT:
        return None
    unsound = row.label.partition("==")[0] in UNSOUND
    wanted = "failed" if unsound else "succeeded"
    if row.state != wanted:
        return f"should have {wanted}"
    return "failed by another kind" if unsound and row.failure != "build" else None


def _of_submissions(farm: Farm) -> Iterator[str]:
    with farm.store.database.reading() as connection:
        rows = connection.execute(select(submissions)).all()
        counted = connection.execute(
            select(submission_items.c.submission_id, func.count()).group_by(
                submission_items.c.submission_id
            )
        )
        items: dict[str, int] = {row[0]: row[1] for row in counted}
    for row in rows:
        if row.planned_at is None and row.cancelled_at is None:
            yield f"submission {row.id} was never planned"
        elif row.cancelled_at is None and items.get(row.id) != len(set(_uploads(row.call))):
            yield f"submission {row.id} has {items.get(row.id)} items"


def _uploads(call: Mapping[str, Any]) -> list[str]:
    return [wanted["sha256"] for wanted in call["wanted"]]


def _of_workers(farm: Farm) -> Iterator[str]:
    for worker in farm.registry.all():
        if worker.state != "gone":
            yield f"{worker.id} is gone, and the register says {worker.state}: {worker.reason}"


def _of_releases(farm: Farm) -> Iterator[str]:
    """Each succeeded job has the one release of its BuildKey, with the bytes it told of."""
    by_key = defaultdict(list)
    with farm.store.database.reading() as connection:
        query = select(releases.c.build_key, files.c.sha256).join_from(releases, files)
        for row in connection.execute(query):
            by_key[row.build_key].append(row.sha256)
        done = connection.execute(select(jobs).where(jobs.c.state == "succeeded")).all()
        won = select(job_events.c.job_id).where(job_events.c.kind == "succeed")
        events = Counter(connection.execute(won).scalars())
    yield from (
        f"BuildKey {key} has {len(all_)} releases" for key, all_ in by_key.items() if all_[1:]
    )
    for row in done:
        if by_key[row.build_key] != [row.outcome["sha256"]]:
            yield f"job {row.id} told of other bytes than are published: {row.outcome}"
        if events[row.id] != 1:
            yield f"job {row.id} succeeded {events[row.id]} times"


def _of_blobs(farm: Farm, folder: Path) -> Iterator[str]:
    """Every blob of the catalogue has its bytes; every published wheel verifies."""
    folder.mkdir()
    with farm.store.database.reading() as connection:
        known = list(connection.execute(select(blobs.c.sha256)).scalars())
        wheels = connection.execute(select(files.c.filename, files.c.sha256)).all()
    for digest in known:
        if sha256_of_file(farm.store.blobs.path(digest)) != digest:
            yield f"blob {digest} has other bytes"
    for filename, digest in wheels:
        copy = Path(shutil.copyfile(farm.store.blobs.path(digest), folder / filename))
        if not isinstance(reverify(copy), VerifiedWheel):
            yield f"{filename} does not verify"


def _blob_files(store: Store) -> list[Path]:
    return [path for path in (store.root / "blobs").glob("*/*") if path.is_file()]


def _handed_on(events: Any, deaths: Mapping[int, float]) -> Iterator[float]:
    """Seconds from a worker's kill to the claim of each of its jobs by another."""
    had: dict[int, tuple[str, datetime]] = {}
    for event in events:
        if event.kind == "claim":
            owner, since = had.get(event.job_id, (None, event.at))
            died = deaths.get(int(owner.split("-")[-2]), 0.0) if owner else 0.0
            # A long run uses the number of a process again: not every death is the owner's.
            if owner != event.worker and since.timestamp() < died < event.at.timestamp():
                yield event.at.timestamp() - died
            had[event.job_id] = (event.worker, event.at)
        elif event.kind != "expire":  # its owner told of its end, or nobody wanted it any more
            had.pop(event.job_id, None)


def _in_time(look: Callable[[], list[Any]]) -> list[Any]:
    """What is still there after a while; nothing as soon as there is nothing."""
    ends = time.monotonic() + _SECONDS
    while (found := look()) and time.monotonic() < ends:
        time.sleep(0.2)
    return found
