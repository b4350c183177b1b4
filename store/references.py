"""What names a blob: the one place that knows every column which holds a digest.

A wheel, its METADATA, the log of its build and its sdist are named by rows of the store; the log
of a failed build by its job, the sdist of a build that is still to be done by what asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, exists, or_, select

from store.schema import OPEN_JOBS, blobs, files, jobs, releases, sources, submissions

_COLUMNS: Final = (
    files.c.sha256,
    files.c.metadata_sha256,
    releases.c.log_sha256,
    sources.c.sha256,
    jobs.c.log_sha256,
)


def is_named() -> ColumnElement[bool]:
    """A condition on rows of `blobs`: whether a column of another table holds the digest."""
    return or_(*(exists().where(column == blobs.c.sha256) for column in _COLUMNS))


def awaited(connection: Connection, since: datetime | None = None) -> set[str]:
    """The blobs that something which is still to be done needs: sdists, and wheels to build with.

    `since`: only of what was asked for from then on.
    """
    return set(_of_jobs(connection, since)) | set(_of_submissions(connection, since))


def _of_jobs(connection: Connection, since: datetime | None) -> Iterator[str]:
    query = select(jobs.c.work).where(OPEN_JOBS)
    if since is not None:
        query = query.where(jobs.c.created_at >= since)
    for row in connection.execute(query):
        yield row.work["source"]["sha256"]
        yield from (pin["sha256"] for pin in row.work["pins"] or ())


def _of_submissions(connection: Connection, since: datetime | None) -> Iterator[str]:
    unplanned = and_(submissions.c.planned_at.is_(None), submissions.c.cancelled_at.is_(None))
    query = select(submissions.c.call).where(unplanned)
    if since is not None:
        query = query.where(submissions.c.created_at >= since)
    for row in connection.execute(query):
        yield from _uploads(row.call.get("wanted") or ())


def _uploads(wanted: Iterable[Any]) -> Iterator[str]:
    yield from (one["sha256"] for one in wanted if one.get("kind") == "upload")
