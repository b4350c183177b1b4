"""What is kept: the rules of channels, pins, lock files, and whatever those were built with.

A release that nothing keeps is garbage. A channel without a rule keeps everything; what was
disowned is kept for the inquiry; what is younger than the grace is nobody's garbage yet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from packaging.version import Version
from sqlalchemy import Connection, Row, Select, delete, select

from store.catalogue import now
from store.channel import Channel
from store.database import Database, insert_new
from store.digest import parse_sha256
from store.errors import MalformedError, NotFoundError
from store.invalidate import check_line
from store.references import awaited
from store.schema import blobs, files, pins, release_requirements, releases, sources
from store.selection import in_parts, parse_selection


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a channel keeps: the newest `versions` of each project in each index, and what was
    published in the last `days`. Where both are None, everything."""

    versions: int | None = None
    days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What a collection keeps beside pins. `locked` are the digests of wheels and sdists that lock
    files name, and the ``NAME==VERSION`` of lines without any; `grace` is how long nothing is
    touched, neither a new release nor a blob that lost its last name.
    """

    rule: Callable[[Channel], Rule] = lambda _: Rule()
    locked: frozenset[str] = frozenset()
    grace: timedelta = timedelta(days=1)
    log_days: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pinned:
    """What somebody pinned: a wheel by name or digest, ``NAME`` or ``NAME==VERSION``."""

    subject: str
    reason: str
    by: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Unkept:
    """A release that nothing keeps."""

    id: int
    channel: Channel
    fingerprint: str
    filename: str
    sha256: str
    size: int


class Pins:
    """The pins of one catalogue. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def pin(self, subject: str, *, reason: str, by: str) -> Pinned:
        """Keep what `subject` names, also what is published later. Raises MalformedError.

        Something that is pinned already keeps its first reason.
        """
        check_line("reason", reason)
        check_line("by", by)
        made = Pinned(subject=parse_subject(subject), reason=reason, by=by, at=now())
        row = {"subject": made.subject, "reason": reason, "by": by, "at": made.at}
        with self._database.writing() as connection:
            insert_new(connection, pins, row)
            found = connection.execute(select(pins).where(pins.c.subject == made.subject)).one()
            return Pinned(**found._mapping)

    def unpin(self, subject: str) -> None:
        """Leave it to the rules again. Raises NotFoundError when it is not pinned."""
        with self._database.writing() as connection:
            query = delete(pins).where(pins.c.subject == parse_subject(subject))
            if connection.execute(query).rowcount == 0:
                raise NotFoundError(
                    f"{subject[:200]} is not pinned", hint="`wheelfarm pin` lists what is"
                )

    def all(self) -> list[Pinned]:
        """Every pin, the newest last."""
        with self._database.reading() as connection:
            rows = connection.execute(select(pins).order_by(pins.c.at, pins.c.subject))
            return [Pinned(**row._mapping) for row in rows]


def parse_subject(text: str) -> str:
    """What may be pinned: a wheel's file name or digest, ``NAME``, ``NAME==VERSION``.

    Raises MalformedError.
    """
    if text.endswith(".whl"):
        return str(parse_selection({"file": text}).file)
    try:
        return parse_sha256(text)
    except MalformedError:
        return str(parse_selection({"package": text}).package)


def unkept(connection: Connection, policy: Policy) -> list[Unkept]:
    """The releases that nothing keeps, in the order of their numbers."""
    candidates = list(_candidates(connection))
    kept = _kept_by_themselves(connection, candidates, policy)
    kept |= _needed(connection, candidates, kept)
    return [_unkept(row) for row in candidates if row.id not in kept]


def still_unkept(connection: Connection, some: Sequence[Unkept]) -> list[Unkept]:
    """Of releases that were unkept a moment ago those that are: not pinned since, not disowned,
    and no release was built with them that is not among them."""
    numbers = {each.id for each in some}
    pinned = set(connection.execute(select(pins.c.subject)).scalars())
    rows = {
        row.id: row
        for row in _candidates(connection, numbers)
        if row.disowned is None and not _labels(row) & pinned
    }
    used = _used_by_others(connection, rows.values(), numbers)
    return [each for each in some if each.id in rows and each.sha256 not in used]


def _candidates(connection: Connection, numbers: Iterable[int] | None = None) -> Iterator[Row[Any]]:
    query: Select[Any] = (
        select(
            releases.c.id,
            releases.c.channel,
            releases.c.fingerprint,
            releases.c.filename,
            releases.c.published_at,
            releases.c.disowned,
            files.c.sha256,
            files.c.name,
            files.c.version,
            blobs.c.size,
            sources.c.sha256.label("sdist"),
        )
        .join_from(releases, files)
        .join(blobs, files.c.sha256 == blobs.c.sha256)
        .join(sources)
        .order_by(releases.c.id)
    )
    parts = [None] if numbers is None else list(in_parts(sorted(numbers)))
    for some in parts:
        asked = query if some is None else query.where(releases.c.id.in_(some))
        yield from connection.execute(asked)


def _labels(row: Row[Any]) -> set[str]:
    """All the names by which a release may be kept."""
    return {row.filename, row.name, f"{row.name}=={row.version}", row.sha256, row.sdist}


def _kept_by_themselves(
    connection: Connection, candidates: Sequence[Row[Any]], policy: Policy
) -> set[int]:
    """Kept by a pin, a lock, their youth, a disowning, something that waits, or a rule."""
    wanted = set(connection.execute(select(pins.c.subject)).scalars()) | policy.locked
    wanted |= awaited(connection)
    young = now() - policy.grace
    kept = {
        row.id
        for row in candidates
        if _labels(row) & wanted or row.disowned or row.published_at > young
    }
    return kept | set(_kept_by_rule(candidates, policy))


def _kept_by_rule(candidates: Iterable[Row[Any]], policy: Policy) -> Iterator[int]:
    by_project: dict[tuple[str, str, str], list[Row[Any]]] = defaultdict(list)
    for row in candidates:
        by_project[row.channel, row.fingerprint, row.name].append(row)
    for (channel, _, _), rows in by_project.items():
        rule = policy.rule(Channel(channel))
        if rule.versions is None and rule.days is None:
            yield from (row.id for row in rows)
            continue
        newest = _newest(rows, rule.versions or 0)
        since = now() - timedelta(days=rule.days or 0)
        yield from (row.id for row in rows if row.version in newest or row.published_at > since)


def _newest(rows: Iterable[Row[Any]], count: int) -> set[str]:
    """The newest versions (PEP 440) of a project that have a release which stands."""
    versions = {row.version for row in rows if row.disowned is None}
    return set(sorted(versions, key=Version, reverse=True)[:count])


def _needed(connection: Connection, candidates: Sequence[Row[Any]], kept: set[int]) -> set[int]:
    """What the kept ones were built with, and what that was built with, where it is here."""
    by_digest: Mapping[str, list[int]] = defaultdict(list)
    for row in candidates:
        by_digest[row.sha256].append(row.id)
    edges = _edges(connection, by_digest)
    found, frontier = set(kept), list(kept)
    while frontier:
        frontier = [
            number
            for using in frontier
            for digest in edges.get(using, ())
            for number in by_digest[digest]
            if number not in found
        ]
        found.update(frontier)
    return found


def _edges(connection: Connection, by_digest: Mapping[str, object]) -> dict[int, list[str]]:
    """Release -> digests of the store's own wheels that it was built with."""
    edges: dict[int, list[str]] = defaultdict(list)
    query = select(release_requirements.c.release_id, release_requirements.c.sha256).join(
        files, files.c.sha256 == release_requirements.c.sha256
    )
    for row in connection.execute(query):
        if row.sha256 in by_digest:
            edges[row.release_id].append(row.sha256)
    return edges


def _used_by_others(
    connection: Connection, rows: Iterable[Row[Any]], numbers: set[int]
) -> set[str]:
    used: set[str] = set()
    for some in in_parts({row.sha256 for row in rows}):
        query = select(release_requirements.c.sha256, release_requirements.c.release_id).where(
            release_requirements.c.sha256.in_(some)
        )
        found = connection.execute(query)
        used |= {row.sha256 for row in found if row.release_id not in numbers}
    return used


def _unkept(row: Row[Any]) -> Unkept:
    return Unkept(
        id=row.id,
        channel=row.channel,
        fingerprint=row.fingerprint,
        filename=row.filename,
        sha256=row.sha256,
        size=row.size,
    )
