"""Whether this process may do what a worker does, found out before it takes a job."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Connection, Table, delete, false, func, insert, select, update

from store.errors import StoreError
from store.publish import Store
from store.schema import metadata
from workers.errors import MayNotPublishError

_DELETED: Final = ("failures", "farm_toolchains", "farm_workers", "log_pieces")
_NO_WORKERS_BUSINESS: Final = frozenset({"tokens"})
_BLOB: Final = b"left by the check whether a worker may write blobs: "


def check_rights(store: Store) -> None:
    """Raises MayNotPublishError when catalogue or blobs may not be written from here."""
    try:
        _check_catalogue(store)
        _check_blobs(store)
    except StoreError as error:
        raise MayNotPublishError(
            f"this worker may not publish: {error.message}",
            hint="a worker needs to write to the catalogue and to the blobs: docs/deploy.md",
        ) from error


def _check_catalogue(store: Store) -> None:
    """Write nothing into every table: rights are checked all the same."""
    for table in metadata.sorted_tables:
        if table.name in _NO_WORKERS_BUSINESS:
            continue
        with store.database.transaction() as connection:
            for statement in _empty_changes(table):
                connection.execute(statement)
            _check_sequence(connection, table)


def _empty_changes(table: Table) -> Iterator[Any]:
    names = [column.name for column in table.columns]
    yield insert(table).from_select(names, select(table).where(false()))
    first = table.columns[0]
    yield update(table).where(false()).values({first.name: first})
    if table.name in _DELETED:
        yield delete(table).where(false())


def _check_sequence(connection: Connection, table: Table) -> None:
    """PostgreSQL: the numbers of new rows come from a sequence, which has rights of its own."""
    number = table.autoincrement_column
    if number is None or connection.dialect.name != "postgresql":
        return
    sequence = func.pg_get_serial_sequence(table.name, number.name)
    may = func.coalesce(func.has_sequence_privilege(sequence, "USAGE"), True)
    if not connection.execute(select(may)).scalar():
        raise StoreError(f"permission denied for the sequence of {table.name}.{number.name}")


def _check_blobs(store: Store) -> None:
    """Keep a blob of a content that no other has, and remove it."""
    blob = store.blobs.put_bytes(_BLOB + secrets.token_bytes(16))
    with suppress(StoreError):  # who may write may not always remove
        store.blobs.remove(blob.sha256)
