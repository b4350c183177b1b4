"""The store's folder: told from other folders, and tied to its catalogue.

    FOLDER/catalogue.sqlite    the catalogue, when it is in SQLite
    FOLDER/store.json          the store's id, when the catalogue is in PostgreSQL

The id is in the database as well. A folder and a database that do not name the same one are
never used together: the folder's blobs would be served by another store's rows.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Final

import sqlalchemy
from sqlalchemy import Connection, select

from store.database import Database, bring_up_to_date
from store.disk import disk_trouble, sync_folder
from store.errors import MalformedError, NotAStoreError, StoreError
from store.fields import Fields, read_object
from store.schema import identity

_CATALOGUE: Final = "catalogue.sqlite"
_MARKER: Final = "store.json"
_MARKER_LIMIT: Final = 4_096
_OURS: Final = ("blobs", "staging", _CATALOGUE, _MARKER)


def open_catalogue(folder: Path, url: str | None, *, create: bool) -> Database:
    """The catalogue of the store in `folder`, not yet brought up to date; see `make_ready`.

    Raises NotAStoreError for a folder of something else, or whose catalogue is in the other
    engine; for an absent one unless `create` is set.
    """
    _take(folder, create=create)
    marked, has_file = (folder / _MARKER).exists(), (folder / _CATALOGUE).exists()
    if url is None and marked:
        raise NotAStoreError(
            f"the catalogue of the store in {folder} is in PostgreSQL",
            hint="name it: `database` in wheelfarm.toml, or $WHEELFARM_DATABASE",
        )
    if url is not None and has_file and not marked:
        raise NotAStoreError(
            f"the catalogue of the store in {folder} is {_CATALOGUE}, not in a database elsewhere",
            hint="unset `database` and $WHEELFARM_DATABASE, or give an empty folder",
        )
    return Database(folder / _CATALOGUE if url is None else url)


def make_ready(folder: Path, database: Database) -> None:
    """Bring the tables up to date, and tie a new catalogue in PostgreSQL to its folder.

    Raises NotAStoreError when the database is not this folder's; nothing is changed then.
    """
    if database.in_postgresql and not _is_tied(folder, database):
        with database.writing() as connection:
            _tie(folder, connection, database.name)
    else:
        database.migrate()


def _take(folder: Path, *, create: bool) -> None:
    is_store = (folder / _CATALOGUE).is_file() or (folder / _MARKER).is_file()
    try:
        if not create and not is_store:
            raise NotAStoreError(
                f"there is no store in {folder}",
                hint="`wheelfarm build` makes one; --store DIR or $WHEELFARM_STORE names another",
            )
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


def _is_tied(folder: Path, database: Database) -> bool:
    """Whether folder and database name the same store. False may mean: not yet."""
    marked = _marked_id(folder)
    with database.reading() as connection:
        return marked is not None and marked == _store_id(connection)


def _tie(folder: Path, connection: Connection, name: str) -> None:
    """Give both the same id, the marker before the row is committed: see `_refuse_strangers`."""
    marked, held = _marked_id(folder), _store_id(connection)
    _refuse_strangers(folder, name, marked, held)
    bring_up_to_date(connection)
    if held is None:
        store_id = marked or uuid.uuid4().hex
        _write_marker(folder, store_id)
        connection.execute(identity.insert().values(row=1, store_id=store_id))


def _refuse_strangers(folder: Path, name: str, marked: str | None, held: str | None) -> None:
    """Raise NotAStoreError for a folder and a database that are not one store's.

    A marker without its row is what a crash leaves of a new store, whose blobs are none.
    """
    if held is not None and held != marked:
        raise NotAStoreError(
            f"the database {name} is the catalogue of another store than {folder}",
            hint=f"give that store's folder, or a database of its own for this one ({_MARKER})",
        )
    if held is None and any((folder / "blobs").rglob("*")):
        raise NotAStoreError(
            f"the database {name} holds no catalogue, and {folder} holds blobs already",
            hint="is it the right database? One that was lost comes back from its backup",
        )


def _store_id(connection: Connection) -> str | None:
    if not sqlalchemy.inspect(connection).has_table(identity.name):
        return None
    return connection.execute(select(identity.c.store_id)).scalar()


def _marked_id(folder: Path) -> str | None:
    marker = folder / _MARKER
    with disk_trouble("read", marker):
        if not marker.exists():
            return None
        with marker.open("rb") as file:
            text = file.read(_MARKER_LIMIT + 1)
    try:
        return Fields(read_object(text, limit=_MARKER_LIMIT)).text("store", "[0-9a-f]{32}")
    except MalformedError as error:
        raise NotAStoreError(
            f"{marker} does not say which store it is: {error.message}",
            hint="restore it from a backup",
        ) from error


def _write_marker(folder: Path, store_id: str) -> None:
    """Put the marker in place, whole and synced."""
    new = folder / f"{_MARKER}.new"
    with disk_trouble("write to", folder):
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"catalogue": "postgresql", "store": store_id}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / _MARKER)
        sync_folder(folder)
