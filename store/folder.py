"""Which folder, catalogue and bucket are one store, and which are not.

A store is a folder with its catalogue and its blobs in it. The catalogue may be in PostgreSQL
instead, and the blobs in a bucket; then each part names the store's id: the folder and the bucket
in a marker (`store.marker`), the catalogue in its table ``identity``. Parts of several stores are
never used together: one's blobs would be served by the other's rows, or taken for garbage.

Where catalogue and bucket are both elsewhere and name each other, a new folder may join them.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import sqlalchemy
from sqlalchemy import Connection, select

from store.database import Database, bring_up_to_date
from store.disk import locked
from store.errors import MalformedError, NotAStoreError, StoreError, UsageError
from store.folder_shelf import own_shelf
from store.marker import (
    MARKER,
    Marker,
    marker_naming,
    read_marker,
    store_named_in,
    write_marker,
)
from store.schema import identity
from store.shelf import Shelf

if TYPE_CHECKING:
    from store.bucket_shelf import BucketShelf

_CATALOGUE: Final = "catalogue.sqlite"
_OURS: Final = ("blobs", "staging", "quarantine", "keys", _CATALOGUE, MARKER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a store is made of; without a bucket its blobs are in the folder."""

    folder: Path
    database: Database
    bucket: BucketShelf | None

    @property
    def shelf(self) -> Shelf:
        """Where the blobs are kept."""
        return self.bucket or own_shelf(self.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """Which store each part says it belongs to; None where it says nothing, or is not there."""

    folder: Marker | None
    catalogue: str | None
    bucket: str | None


def open_parts(folder: Path, database: str | None, blobs: str | None, *, create: bool) -> Parts:
    """The parts of the store in `folder`, its tables brought up to date.

    `database` and `blobs` are URLs; without `blobs` it is the bucket that the folder names, if
    any. Raises NotAStoreError when the parts are not one store's, or there is none and `create`
    is not set; nothing is changed then. UsageError and MalformedError for what is no URL.
    """
    _take(folder, create=create or database is not None)
    parts = Parts(
        folder=folder,
        database=Database(folder / _CATALOGUE if database is None else database),
        bucket=_bucket_of(folder, blobs),
    )
    try:
        if not _are_one(parts):
            _tie(parts, create=create)
        parts.database.migrate()
    except BaseException:
        parts.database.close()
        raise
    return parts


def identify(folder: Path, database: Database) -> str:
    """The id of the store in `folder`, which is open. One that is in its folder alone, and needed
    none until now, gets it. Raises StoreError."""
    with locked(folder), database.writing() as connection:
        held = _store_id(connection)
        if held is None:
            # In the order of `_tie`, which completes what a crash leaves of it.
            held = uuid.uuid4().hex
            write_marker(folder, Marker(store=held, in_postgresql=False, blobs=None))
            connection.execute(identity.insert().values(row=1, store_id=held))
    return held


def _take(folder: Path, *, create: bool) -> None:
    is_store = (folder / _CATALOGUE).is_file() or (folder / MARKER).is_file()
    try:
        if not create and not is_store:
            raise _no_store(folder)
        folder.mkdir(parents=True, exist_ok=True)
        foreign = [entry.name for entry in folder.iterdir() if not entry.name.startswith(_OURS)]
    except OSError as error:
        raise StoreError(
            f"cannot use {folder} as a store: {error.strerror}",
            hint="give a folder that you may write to with --store DIR",
        ) from error
    if foreign and not is_store:
        raise NotAStoreError(
            f"{folder} holds other files ({foreign[0]!r}) and no store",
            hint="give an empty folder, or one that does not exist",
        )


def _bucket_of(folder: Path, url: str | None) -> BucketShelf | None:
    marker = read_marker(folder)
    url = url or (marker.blobs if marker else None)
    if url is None:
        return None
    try:
        # An extra, and 16 MB that a store in a folder does without.
        from store.bucket_shelf import BucketShelf  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(
            "blobs in a bucket need the package obstore",
            hint="install wheelfarm with its extra: `pip install 'wheelfarm[objects]'`",
        ) from error
    return BucketShelf(url)


def _are_one(parts: Parts) -> bool:
    """Whether all parts name one store. False may mean: not yet."""
    marker, owner = _marker_of(parts), _owner_of(parts.bucket)
    with parts.database.reading() as connection:
        held = _store_id(connection)
    if marker is None:
        return held is None and parts.bucket is None and not parts.database.in_postgresql
    bucket_agrees = parts.bucket is None or owner == marker.store
    return held == marker.store and bucket_agrees and marker.blobs == _url_of(parts.bucket)


def _tie(parts: Parts, *, create: bool) -> None:
    """Give all parts one id: the folder first, the catalogue last. What a crash leaves of that,
    the next start completes."""
    # Several processes may begin one store, in one folder or over one database.
    with locked(parts.folder), parts.database.writing() as connection:
        said = _Said(
            folder=_marker_of(parts),
            catalogue=_store_id(connection),
            bucket=_owner_of(parts.bucket),
        )
        if said.catalogue is None and parts.database.in_postgresql:
            _check_new(parts, said, create=create)
        store = _agreed_id(parts, said)
        bring_up_to_date(connection)
        with _marked(parts, said.folder, store):
            _claim(parts.bucket, store)
        if said.catalogue is None:
            connection.execute(identity.insert().values(row=1, store_id=store))


def _check_new(parts: Parts, said: _Said, *, create: bool) -> None:
    """Refuse to begin a store unasked, or with a database that has lost a store's catalogue.

    A folder that names a store without a catalogue is what a crash leaves of a new one; it has no
    blobs yet.
    """
    if said.folder is None and not create:
        raise _no_store(parts.folder)
    if _any_blob(parts.shelf):
        raise NotAStoreError(
            f"the database {parts.database.name} holds no catalogue, and "
            f"{_url_of(parts.bucket) or parts.folder} holds blobs already",
            hint="is it the right database? One that was lost comes back from its backup",
        )


def _agreed_id(parts: Parts, said: _Said) -> str:
    """The id that no part speaks against. Raises NotAStoreError when there is none.

    A folder that names none may join a catalogue, if its bucket names the same store.
    """
    named = said.folder.store if said.folder else said.bucket
    if said.catalogue is not None and said.catalogue != named:
        raise NotAStoreError(
            f"the database {parts.database.name} is the catalogue of another store than "
            f"{parts.folder}",
            hint=f"give that store's folder (with its {MARKER}) or, as `blobs`, its bucket; "
            "or a database of its own for this one",
        )
    store = said.catalogue or (said.folder.store if said.folder else uuid.uuid4().hex)
    _check_owner(parts.bucket, said.bucket, store)
    return store


def _check_owner(bucket: BucketShelf | None, owner: str | None, store: str) -> None:
    if bucket is not None and owner not in {None, store}:
        raise NotAStoreError(
            f"{bucket.url} holds the blobs of another store",
            hint="give a prefix of its own to this store, or the `database` of that one",
        )


@contextmanager
def _marked(parts: Parts, before: Marker | None, store: str) -> Iterator[None]:
    """Have the folder name the store and its parts, unless the ``with`` block fails."""
    in_postgresql, url = parts.database.in_postgresql, _url_of(parts.bucket)
    marker = Marker(store=store, in_postgresql=in_postgresql, blobs=url)
    if marker != before:
        write_marker(parts.folder, marker)
    try:
        yield
    except BaseException:
        if before is None:
            (parts.folder / MARKER).unlink(missing_ok=True)
        else:
            write_marker(parts.folder, before)
        raise


def _claim(bucket: BucketShelf | None, store: str) -> None:
    if bucket is not None:
        bucket.claim(marker_naming(store))
        _check_owner(bucket, _owner_of(bucket), store)  # another store may have been first


def _marker_of(parts: Parts) -> Marker | None:
    """What the folder says. Raises NotAStoreError when its catalogue or blobs are elsewhere."""
    marker = read_marker(parts.folder)
    _check_engine(parts, marker)
    _check_bucket(parts, marker)
    return marker


def _check_engine(parts: Parts, marker: Marker | None) -> None:
    has_file = (parts.folder / _CATALOGUE).exists()
    apart = marker.in_postgresql if marker else not has_file
    if not parts.database.in_postgresql and marker and apart:
        raise NotAStoreError(
            f"the catalogue of the store in {parts.folder} is in PostgreSQL",
            hint="name it: `database` in wheelfarm.toml, or $WHEELFARM_DATABASE",
        )
    if parts.database.in_postgresql and not apart:
        raise NotAStoreError(
            f"the catalogue of the store in {parts.folder} is {_CATALOGUE}, "
            "not in a database elsewhere",
            hint="unset `database` and $WHEELFARM_DATABASE, or give an empty folder",
        )


def _check_bucket(parts: Parts, marker: Marker | None) -> None:
    known, url = marker.blobs if marker else None, _url_of(parts.bucket)
    if known is not None and known != url:
        raise NotAStoreError(
            f"the store in {parts.folder} has its blobs in {known}, not in {url or 'its folder'}",
            hint="leave `blobs` and $WHEELFARM_BLOBS unset: the store knows its bucket",
        )
    if known is None and url is not None and _any_blob(own_shelf(parts.folder)):
        raise NotAStoreError(
            f"the store in {parts.folder} has its blobs in its folder, not in {url}",
            hint="leave `blobs` and $WHEELFARM_BLOBS unset for it, or move them: see docs/store.md",
        )


def _owner_of(bucket: BucketShelf | None) -> str | None:
    """Which store the bucket says it belongs to. Raises NotAStoreError for a marker of nobody."""
    marker = bucket.marker() if bucket is not None else None
    if bucket is None or marker is None:
        return None
    try:
        return store_named_in(marker)
    except MalformedError as error:
        raise NotAStoreError(
            f"{bucket.url}/{MARKER} does not say whose bucket it is",
            hint="give a prefix of its own to this store",
        ) from error


def _store_id(connection: Connection) -> str | None:
    if not sqlalchemy.inspect(connection).has_table(identity.name):
        return None
    return connection.execute(select(identity.c.store_id)).scalar()


def _url_of(bucket: BucketShelf | None) -> str | None:
    return bucket.url if bucket is not None else None


def _any_blob(shelf: Shelf) -> bool:
    return next(shelf.each(), None) is not None


def _no_store(folder: Path) -> NotAStoreError:
    return NotAStoreError(
        f"there is no store in {folder}",
        hint="`wheelfarm build` makes one; --store DIR or $WHEELFARM_STORE names another",
    )
