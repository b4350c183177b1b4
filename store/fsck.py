"""Reading every blob and every row, and holding them against each other.

A *fault* is something that a client can be hurt by; a *note* is what a crash or a collection
leaves, and nobody is hurt by. What is found while others write is looked at a second time before
it counts. A repair never throws away what may be somebody's only copy: damaged bytes are set aside.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Column, Connection, Table, delete, exists, not_, select, update

from store.catalogue import now, record_blob
from store.digest import JSON, Sha256, digest_of, sha256_of
from store.errors import MalformedError, StoreError
from store.fingerprint import fingerprint_of
from store.provenance import BuildKey
from store.publish import Store
from store.references import is_named
from store.schema import (
    blobs,
    files,
    invalidated,
    jobs,
    metadata,
    release_requirements,
    releases,
    servings,
    sources,
    targets,
    widenings,
)
from store.selection import in_parts
from store.shelf import Blob
from store.target import target_from_identity

_YOUNG: Final = timedelta(hours=1)
"""What is so new may belong to a publication that is under way."""
_LARGEST_METADATA: Final = 16 << 20
_NO_ZIP: Final = (NotImplementedError, RuntimeError, EOFError, ValueError)
"""What `zipfile` raises beside its own error for bytes that are no archive."""
_DISPOSABLE: Final = (widenings, release_requirements, invalidated, servings)
"""Tables whose rows say nothing without the row that they refer to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something that is not as it must be. `code` says what, `subject` of which blob or row.

    `harmless`: a note. `repaired`: it was, in this very run; `hint`: what a person can do else.
    """

    code: str
    subject: str
    message: str
    harmless: bool = False
    repaired: bool = False
    hint: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """The fault as plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """A fault, and the way to repair it; the way says whether it was."""

    fault: Fault
    repair: Callable[[], bool] | None = None


CODES: Final[Mapping[str, str]] = {
    "damaged-blob": "its bytes are not those of its name",
    "missing-blob": "a row names it, and its bytes are not there",
    "wrong-size": "the catalogue has another size for it than it has",
    "wrong-metadata": "the METADATA that is kept for a wheel is not the one in it",
    "dangling-row": "it refers to a row that is not there",
    "wrong-build-key": "the BuildKey is not the digest of what went in",
    "wrong-fingerprint": "the fingerprint is not that of its target",
    "wrong-project": "it is listed under another project than its file says",
    "wrong-requirements": "what it was built with is not what its provenance says",
    "unnamed-bytes": "bytes that no row names: a killed publication or collection",
    "unnamed-blob": "a blob that nothing names any more, for the garbage collection",
    "unnamed-file": "a file without a release",
}


def check(store: Store, *, repair: bool = False) -> Iterator[Fault]:
    """Everything that is wrong with `store`, as it is found. Raises StoreError for trouble with the
    disk, the bucket or the database, which says nothing of what they hold."""
    of_bytes = (_bytes, _missing, _metadata)
    of_rows = (_references, _logs, _releases, _projects, _targets, _leftovers)
    for look in (*of_bytes, *of_rows):
        for found in look(store):
            yield _repaired(found) if repair else found.fault


def _repaired(found: _Found) -> Fault:
    done = found.repair is not None and found.repair()
    return replace(found.fault, repaired=done)


def _found(
    code: str,
    subject: str,
    detail: str = "",
    *,
    harmless: bool = False,
    hint: str | None = None,
    repair: Callable[[], bool] | None = None,
) -> _Found:
    message = f"{CODES[code]}{f': {detail}' if detail else ''}"
    fault = Fault(code=code, subject=subject, message=message, harmless=harmless, hint=hint)
    return _Found(fault=fault, repair=repair)


# Blobs: every byte is read.


def _bytes(store: Store) -> Iterator[_Found]:
    for kept in store.blobs.each():
        blob = kept.blob
        if not _holds(store, blob):
            if store.blobs.has(blob):
                yield _damaged(store, blob)
            continue
        size = _size_in_row(store, blob.sha256)
        if size is None:
            if now() - kept.since > _YOUNG:
                yield _unnamed_bytes(store, blob)
        elif size != blob.size:
            yield _wrong_size(store, blob, size)


def _holds(store: Store, blob: Blob) -> bool:
    """Whether its bytes have its digest. Raises StoreError where they cannot be read."""
    seen = hashlib.sha256()
    try:
        for piece in store.blobs.part(blob.sha256, 0, blob.size - 1):
            seen.update(piece)
    except StoreError:
        if store.blobs.has(blob):
            raise  # the disk or the bucket is in trouble; that says nothing of the bytes
        return False
    return seen.hexdigest() == blob.sha256


def _damaged(store: Store, blob: Blob) -> _Found:
    def repair() -> bool:
        store.blobs.set_aside(blob.sha256)
        return True

    return _found(
        "damaged-blob",
        blob.sha256,
        ", ".join(_names_of(store, blob.sha256)) or "nothing names it",
        hint="restore it from a backup, or publish the same bytes again; ask who can write there",
        repair=repair,
    )


def _unnamed_bytes(store: Store, blob: Blob) -> _Found:
    def repair() -> bool:
        with store.database.writing() as connection:  # no row comes back meanwhile
            if _row(connection, blob.sha256) is None:
                store.blobs.remove(blob.sha256)
        return True

    return _found("unnamed-bytes", blob.sha256, f"{blob.size} bytes", harmless=True, repair=repair)


def _wrong_size(store: Store, blob: Blob, size: int) -> _Found:
    def repair() -> bool:
        with store.database.writing() as connection:
            query = update(blobs).where(blobs.c.sha256 == blob.sha256)
            connection.execute(query.values(size=blob.size))
        return True

    detail = f"{size} bytes in the catalogue, {blob.size} on the shelf"
    return _found("wrong-size", blob.sha256, detail, repair=repair)


def _row(connection: Connection, digest: Sha256) -> Any:
    return connection.execute(select(blobs).where(blobs.c.sha256 == digest)).first()


def _size_in_row(store: Store, digest: Sha256) -> int | None:
    with store.database.reading() as connection:
        row = _row(connection, digest)
    return None if row is None else int(row.size)


def _names_of(store: Store, digest: Sha256) -> list[str]:
    """What a blob is, in words."""
    kinds = (
        ("the wheel {}", select(files.c.filename).where(files.c.sha256 == digest)),
        ("METADATA of {}", select(files.c.filename).where(files.c.metadata_sha256 == digest)),
        ("log of {}", select(releases.c.filename).where(releases.c.log_sha256 == digest)),
        ("log of job {}", select(jobs.c.id).where(jobs.c.log_sha256 == digest)),
        ("the sdist {}", select(sources.c.filename).where(sources.c.sha256 == digest)),
    )
    with store.database.reading() as connection:
        return [
            words.format(name)
            for words, query in kinds
            for name in connection.execute(query.limit(3)).scalars()
        ]


def _missing(store: Store) -> Iterator[_Found]:
    """Rows whose bytes are not there; looked at twice, since a collection may run."""
    with store.database.reading() as connection:
        known = list(connection.execute(select(blobs.c.sha256)).scalars())
    there = {kept.blob.sha256 for kept in store.blobs.each()}
    for digest in known:
        if digest in there:
            continue
        size = _size_in_row(store, digest)
        if size is not None and store.blobs.has(Blob(sha256=digest, size=size)) is False:
            yield _lost(store, digest)


def _lost(store: Store, digest: Sha256) -> _Found:
    """Lost bytes: METADATA is in its wheel; a blob that nothing names is no loss."""

    def repair() -> bool:
        return _metadata_again(store, digest) or _forget(store, digest)

    return _found(
        "missing-blob",
        digest,
        ", ".join(_names_of(store, digest)) or "nothing names it",
        hint="restore it from a backup; or publish the same bytes again; or disown what it was",
        repair=repair,
    )


def _metadata_again(store: Store, digest: Sha256) -> bool:
    """Read lost METADATA out of a wheel that has it; whether it is there again."""
    query = select(files.c.sha256).where(files.c.metadata_sha256 == digest)
    with store.database.reading() as connection:
        wheels = list(connection.execute(query).scalars())
    for wheel in wheels:
        data = _metadata_in(store, wheel)
        if data is not None and sha256_of(data) == digest:
            store.blobs.put_bytes(data)
            return True
    return False


def _forget(store: Store, digest: Sha256) -> bool:
    with store.database.writing() as connection:
        query = delete(blobs).where(blobs.c.sha256 == digest, not_(is_named()))
        return connection.execute(query).rowcount > 0


# Rows: each is held against what it was made of.


def _metadata(store: Store) -> Iterator[_Found]:
    with store.database.reading() as connection:
        rows = connection.execute(select(files)).all()
    for row in rows:
        data = _metadata_in(store, row.sha256)
        differs = data is not None and sha256_of(data) != row.metadata_sha256
        if differs and _holds(store, Blob(sha256=row.sha256, size=store.blobs.size(row.sha256))):
            assert data is not None
            yield _wrong_metadata(store, row.filename, data)


def _wrong_metadata(store: Store, filename: str, data: bytes) -> _Found:
    def repair() -> bool:
        blob = store.blobs.put_bytes(data)
        with store.database.writing() as connection:
            if not store.blobs.has(blob):
                return False
            record_blob(connection, blob.sha256, blob.size)
            query = update(files).where(files.c.filename == filename)
            connection.execute(query.values(metadata_sha256=blob.sha256))
        return True

    return _found("wrong-metadata", filename, repair=repair)


def _metadata_in(store: Store, wheel: Sha256) -> bytes | None:
    """The METADATA of a wheel whose bytes hold; None where they do not, or it has none."""
    try:
        with store.blobs.opened(wheel) as file, zipfile.ZipFile(file) as archive:
            members = [name for name in archive.namelist() if _is_metadata(name)]
            if len(members) != 1 or archive.getinfo(members[0]).file_size > _LARGEST_METADATA:
                return None
            return archive.read(members[0])
    except (zipfile.BadZipFile, zlib.error, *_NO_ZIP):
        return None
    except StoreError as error:
        if error.transient:
            raise
        return None  # the bytes are missing, and that is told


def _is_metadata(name: str) -> bool:
    return name.endswith(".dist-info/METADATA") and name.count("/") == 1


def _references(store: Store) -> Iterator[_Found]:
    """Rows that refer to rows which are not there: every reference of every table."""
    for table in metadata.sorted_tables:
        for column in table.columns:
            for key in column.foreign_keys:
                yield from _dangling(store, table, column, key.column)


def _dangling(store: Store, table: Table, column: Column[Any], to: Column[Any]) -> Iterator[_Found]:
    parent = to.table.alias()  # some tables might refer to themselves
    orphan = column.is_not(None) & not_(exists().where(parent.c[to.name] == column))
    with store.database.reading() as connection:
        rows = connection.execute(select(*table.primary_key, column).where(orphan)).all()

    def repair() -> bool:
        with store.database.writing() as connection:
            connection.execute(delete(table).where(orphan))
        return True

    for row in rows:
        subject = f"{table.name} {', '.join(map(str, row[:-1]))}"
        detail = f"{column.name} = {row[-1]}"
        yield _found(
            "dangling-row", subject, detail, repair=repair if table in _DISPOSABLE else None,
            hint="restore the catalogue from a backup",
        )  # fmt: skip


def _logs(store: Store) -> Iterator[_Found]:
    """Jobs whose log is no blob: a reference that the database does not look after."""
    lost = jobs.c.log_sha256.is_not(None) & not_(
        exists().where(blobs.c.sha256 == jobs.c.log_sha256)
    )
    with store.database.reading() as connection:
        rows = connection.execute(select(jobs.c.id, jobs.c.log_sha256).where(lost)).all()

    def repair() -> bool:
        with store.database.writing() as connection:
            connection.execute(update(jobs).where(lost).values(log_sha256=None))
        return True

    for row in rows:
        yield _found("dangling-row", f"jobs {row.id}", f"log_sha256 = {row[1]}", repair=repair)


def _releases(store: Store) -> Iterator[_Found]:
    with store.database.reading() as connection:
        numbers = list(connection.execute(select(releases.c.id)).scalars())
    for some in in_parts(numbers):
        columns = (releases.c.id, releases.c.filename, releases.c.build_key, releases.c.provenance)
        query = select(*columns).where(releases.c.id.in_(some))
        with store.database.reading() as connection:
            rows = connection.execute(query).all()
            used = _requirements(connection, some)
        for row in rows:
            yield from _release(store, row, used.get(row.id, set()))


def _requirements(connection: Connection, some: list[int]) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    query = select(release_requirements).where(release_requirements.c.release_id.in_(some))
    for row in connection.execute(query):
        found.setdefault(row.release_id, set()).add(row.sha256)
    return found


def _release(store: Store, row: Any, used: set[str]) -> Iterator[_Found]:
    subject = f"release {row.id} ({row.filename})"
    inputs = row.provenance.get("inputs") or {}
    if BuildKey(digest_of(inputs)) != row.build_key:
        yield _found("wrong-build-key", subject, hint="restore the catalogue from a backup")
        return
    pins = {pin["sha256"]: pin for pin in inputs["build_requirements"]}
    if pins.keys() != used:
        yield _found("wrong-requirements", subject, repair=lambda: _rewrite(store, row.id, pins))


def _rewrite(store: Store, release_id: int, pins: Mapping[str, Any]) -> bool:
    columns = ("sha256", "name", "version")
    rows = [
        {"release_id": release_id, **{name: pin[name] for name in columns}} for pin in pins.values()
    ]
    with store.database.writing() as connection:
        old = release_requirements.c.release_id == release_id
        connection.execute(delete(release_requirements).where(old))
        if rows:
            connection.execute(release_requirements.insert(), rows)
    return True


def _projects(store: Store) -> Iterator[_Found]:
    of_files = select(releases.c.id, files.c.name).join_from(releases, files)
    of_releases = select(widenings.c.id, releases.c.project).join_from(widenings, releases)
    for table, query, right in (
        (releases, of_files, files.c.name),
        (widenings, of_releases, releases.c.project),
    ):
        with store.database.reading() as connection:
            rows = connection.execute(query.where(table.c.project != right)).all()
        for number, name in rows:
            repair = partial(_rename, store, table, number, name)
            yield _found("wrong-project", f"{table.name} {number}", repair=repair)


def _rename(store: Store, table: Table, number: int, name: str) -> bool:
    with store.database.writing() as connection:
        connection.execute(update(table).where(table.c.id == number).values(project=name))
    return True


def _targets(store: Store) -> Iterator[_Found]:
    with store.database.reading() as connection:
        rows = connection.execute(select(targets)).all()
    for row in rows:
        try:
            right = fingerprint_of(target_from_identity(row.identity)) == row.fingerprint
        except MalformedError:
            right = False
        if not right:
            hint = "restore the catalogue from a backup"
            yield _found("wrong-fingerprint", f"target {row.fingerprint}", hint=hint)


# What nobody is hurt by.


def _leftovers(store: Store) -> Iterator[_Found]:
    with store.database.reading() as connection:
        unnamed = connection.execute(select(blobs.c.sha256).where(not_(is_named()))).scalars().all()
        without = not_(exists().where(releases.c.filename == files.c.filename))
        alone = connection.execute(select(files.c.filename).where(without)).scalars().all()
    for digest in unnamed:
        yield _found("unnamed-blob", digest, harmless=True)
    for filename in alone:
        yield _found("unnamed-file", filename, harmless=True)
