"""Garbage collection: what nothing keeps is dropped, what nothing names is swept, after a grace.

It runs beside builds, publications and downloads, and may be killed at any point:

1. Releases that nothing keeps lose their rows, some at a time, each batch looked at again inside
   the transaction that deletes it.
2. Blobs that no row names any more are *condemned*: they have a moment written beside them.
   A blob that got a name again is pardoned.
3. A blob that was condemned a grace ago is *swept*: first its row goes, by a transaction; then its
   bytes, while the lock of those who write the catalogue is held and no row has come back.

A publication looks, under that same lock, whether the bytes that it is about to name are there,
and puts them back where they are not. So a row never names bytes that are gone; what a killed
collection leaves are bytes without a row, which the next one sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, delete, not_, select, update

from store.catalogue import now
from store.database import clock
from store.digest import JSON, Sha256
from store.invalidate import forget_resolutions
from store.publish import Store
from store.references import awaited, is_named
from store.retention import Policy, Unkept, still_unkept, unkept
from store.schema import (
    blobs,
    files,
    invalidated,
    jobs,
    release_requirements,
    releases,
    servings,
    sources,
    widenings,
)
from store.selection import in_parts
from store.shelf import Kept

_RELEASES_AT_ONCE: Final = 200
_BLOBS_AT_ONCE: Final = 100
_MARKED_AT_ONCE: Final = 1_000
_CLOCKS_DIFFER: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heap:
    """So many blobs, and their bytes."""

    blobs: int = 0
    bytes: int = 0

    def plus(self, sizes: Iterable[int]) -> Heap:
        """With further blobs of these sizes."""
        more = list(sizes)
        return Heap(blobs=self.blobs + len(more), bytes=self.bytes + sum(more))

    def to_json(self) -> dict[str, JSON]:
        """Both numbers."""
        return {"blobs": self.blobs, "bytes": self.bytes}


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """What a collection did, or would do: the releases that go, the blobs that are swept now, and
    those that are once their grace is over."""

    releases: tuple[Unkept, ...]
    swept: Heap
    condemned: Heap


def look(store: Store, policy: Policy) -> Collection:
    """What `collect` would do now; nothing is changed."""
    with store.database.reading() as connection:
        found = unkept(connection, policy)
        held = awaited(connection)
        free = _unnamed(connection) | _freed_by(connection, found)
    swept, condemned = Heap(), Heap()
    for some in in_parts(store.blobs.each(), _BLOBS_AT_ONCE):
        rows = _known(store, some)
        for kept in some:
            digest = kept.blob.sha256
            if digest in held or (digest in rows and digest not in free):
                continue
            if _is_due(kept, free.get(digest, kept.since), policy.grace):
                swept = swept.plus([kept.blob.size])
            else:
                condemned = condemned.plus([kept.blob.size])
    return Collection(releases=tuple(found), swept=swept, condemned=condemned)


def collect(store: Store, policy: Policy) -> Collection:
    """Drop, condemn, pardon, sweep. Raises StoreError; what was done by then is done."""
    with store.database.reading() as connection:
        since = clock(connection) - _CLOCKS_DIFFER
        held = awaited(connection)
        found = unkept(connection, policy)
    dropped = tuple(_drop(store, found))
    _drop_old_logs(store, policy)
    for first, behind in _ranges(store):
        with store.database.writing() as connection:
            _mark(connection, first, behind, held)
    swept = Heap()
    for some in in_parts(store.blobs.each(), _BLOBS_AT_ONCE):
        swept = swept.plus(_sweep(store, some, policy, _Held(held, since)))
    with store.database.reading() as connection:
        sizes = connection.execute(select(blobs.c.size).where(blobs.c.condemned_at.is_not(None)))
        condemned = Heap().plus(sizes.scalars())
    return Collection(releases=dropped, swept=swept, condemned=condemned)


@dataclass(frozen=True, slots=True)
class _Held:
    """What was awaited when the collection began, and since when more may be."""

    digests: set[str]
    since: datetime

    def now(self, connection: Connection) -> set[str]:
        return self.digests | awaited(connection, self.since)


def _drop(store: Store, found: Sequence[Unkept]) -> Iterator[Unkept]:
    """The newest first: what was built with others goes before them."""
    for some in in_parts(found[::-1], _RELEASES_AT_ONCE):
        with store.database.writing() as connection:
            gone = still_unkept(connection, some)
            _delete_releases(connection, gone)
        yield from gone


def _delete_releases(connection: Connection, gone: Sequence[Unkept]) -> None:
    numbers = [each.id for each in gone]
    built_from = select(releases.c.source_id).where(releases.c.id.in_(numbers))
    old_sources = set(connection.execute(built_from).scalars())
    for table in (widenings, release_requirements, invalidated):
        connection.execute(delete(table).where(table.c.release_id.in_(numbers)))
    connection.execute(delete(releases).where(releases.c.id.in_(numbers)))
    _delete_files(connection, _without_releases(connection, {each.filename for each in gone}))
    used = select(releases.c.source_id).where(releases.c.source_id == sources.c.id)
    query = delete(sources).where(sources.c.id.in_(old_sources), not_(used.exists()))
    connection.execute(query)


def _without_releases(connection: Connection, names: set[str]) -> list[str]:
    query = select(releases.c.filename).where(releases.c.filename.in_(names))
    return sorted(names - set(connection.execute(query).scalars()))


def _delete_files(connection: Connection, names: Sequence[str]) -> None:
    """The rows of files without a release; and what remembers to build with them."""
    query = select(files.c.sha256).where(files.c.filename.in_(names))
    digests = set(connection.execute(query).scalars())
    connection.execute(delete(servings).where(servings.c.filename.in_(names)))
    connection.execute(delete(files).where(files.c.filename.in_(names)))
    if digests:
        forget_resolutions(connection, digests)


def _drop_old_logs(store: Store, policy: Policy) -> None:
    """Let jobs that ended long ago name their logs no more."""
    if policy.log_days is None:
        return
    with store.database.writing() as connection:
        old = jobs.c.finished_at < clock(connection) - timedelta(days=policy.log_days)
        query = update(jobs).where(jobs.c.log_sha256.is_not(None), old)
        connection.execute(query.values(log_sha256=None))


def _ranges(store: Store) -> Iterator[tuple[str, str]]:
    """All digests, in ranges of some blobs each: the first one, and the one behind the last."""
    first: str | None = ""
    while first is not None:
        query = select(blobs.c.sha256).where(blobs.c.sha256 >= first).order_by(blobs.c.sha256)
        with store.database.reading() as connection:
            behind = connection.execute(query.offset(_MARKED_AT_ONCE).limit(1)).scalar()
        yield first, behind or "g"
        first = behind


def _mark(connection: Connection, first: str, behind: str, held: set[str]) -> None:
    """Condemn what nothing names, pardon what has a name, of the digests from `first` on."""
    here = update(blobs).where(blobs.c.sha256 >= first, blobs.c.sha256 < behind)
    connection.execute(
        here.where(blobs.c.condemned_at.is_not(None), is_named()).values(condemned_at=None)
    )
    free = here.where(blobs.c.condemned_at.is_(None), not_(is_named()))
    spared = sorted(digest for digest in held if first <= digest < behind)
    connection.execute(free.where(blobs.c.sha256.not_in(spared)).values(condemned_at=now()))


def _sweep(store: Store, some: Sequence[Kept], policy: Policy, held: _Held) -> list[int]:
    """Sweep what is due of these blobs; give the sizes of those that went."""
    cutoff = now() - policy.grace
    old = {kept.blob.sha256: kept.blob.size for kept in some if kept.since <= cutoff}
    due = [digest for digest in old if digest in _due(store, old, cutoff)] if old else []
    if not due:
        return []
    with store.database.writing() as connection:
        spared = held.now(connection)
        rows = delete(blobs).where(
            blobs.c.sha256.in_([digest for digest in due if digest not in spared]),
            blobs.c.condemned_at <= cutoff,
            not_(is_named()),
        )
        connection.execute(rows)
    with store.database.writing() as connection:  # holds it, so that no row comes back meanwhile
        left = set(_rows(connection, due))
        gone = [digest for digest in due if digest not in left]
        for digest in gone:
            store.blobs.remove(digest)
    return [old[digest] for digest in gone]


def _due(store: Store, digests: Iterable[Sha256], cutoff: datetime) -> set[Sha256]:
    """Those without a row, and those that were condemned long enough ago."""
    with store.database.reading() as connection:
        moments = _rows(connection, digests)
    return {
        digest
        for digest in digests
        if digest not in moments or ((moment := moments[digest]) is not None and moment <= cutoff)
    }


def _rows(connection: Connection, digests: Iterable[Sha256]) -> dict[Sha256, datetime | None]:
    query = select(blobs.c.sha256, blobs.c.condemned_at).where(blobs.c.sha256.in_(list(digests)))
    return {row.sha256: row.condemned_at for row in connection.execute(query)}


def _known(store: Store, some: Sequence[Kept]) -> set[Sha256]:
    with store.database.reading() as connection:
        return set(_rows(connection, [kept.blob.sha256 for kept in some]))


def _unnamed(connection: Connection) -> dict[Sha256, datetime | None]:
    """The blobs that nothing names, with the moment of their condemnation if any."""
    query = select(blobs.c.sha256, blobs.c.condemned_at).where(not_(is_named()))
    return {row.sha256: row.condemned_at for row in connection.execute(query)}


def _freed_by(connection: Connection, gone: Sequence[Unkept]) -> dict[Sha256, datetime | None]:
    """The blobs that would lose their last name with these releases."""
    numbers = {each.id for each in gone}
    dead_files = _dead(connection, releases.c.filename, numbers)
    dead_sources = _dead(connection, releases.c.source_id, numbers)
    lost: set[Any] = set()
    left: set[Any] = set()
    for column, key, dead in (
        (files.c.sha256, files.c.filename, dead_files),
        (files.c.metadata_sha256, files.c.filename, dead_files),
        (releases.c.log_sha256, releases.c.id, numbers),
        (sources.c.sha256, sources.c.id, dead_sources),
    ):
        for digest, name in connection.execute(select(column, key)):
            (lost if name in dead else left).add(digest)
    left |= set(connection.execute(select(jobs.c.log_sha256)).scalars())
    return dict.fromkeys(lost - left)


def _dead(connection: Connection, column: Any, numbers: set[int]) -> set[Any]:
    """The values of a column of `releases` that none but these releases have."""
    lost: set[Any] = set()
    left: set[Any] = set()
    for value, number in connection.execute(select(column, releases.c.id)):
        (lost if number in numbers else left).add(value)
    return lost - left


def _is_due(kept: Kept, condemned_at: datetime | None, grace: timedelta) -> bool:
    moment = condemned_at or now()
    return max(moment, kept.since) <= now() - grace
