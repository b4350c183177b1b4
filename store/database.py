"""The catalogue's database: opened, migrated, and its errors made ours."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import URL, Connection, Engine, Table, create_engine, event, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from store.errors import NotAStoreError, StoreError
from store.schema import HEAD

_BUSY_MILLISECONDS: Final = 30_000
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BEGIN: Final = "wheelfarm_begin"


class Database:
    """A migrated catalogue. `reading` and `writing` give a connection in its own transaction."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = _engine(path)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the catalogue. Raises StoreError."""
        with _translated(self.path), self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that holds the write lock from its start, so that what it reads stands.

        Raises StoreError when the lock is not had in half a minute, or the disk refuses.
        """
        writer = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        with _translated(self.path), writer.begin() as connection:
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection for one small change that compares before it sets (a job's row, say).

        It excludes nobody but who changes the same rows. Raises StoreError.
        """
        with self.writing() as connection:  # SQLite has one writer at a time
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this code's revision; two processes may do it at once.

        Raises NotAStoreError when a newer wheelfarm made them.
        """
        with self.reading() as connection:
            if _revision(connection) == HEAD:
                return
        with self.writing() as connection:
            if _revision(connection) != HEAD:
                upgrade(connection, HEAD)

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()


def clock(connection: Connection) -> datetime:
    """The time by the database's clock, in UTC, so that no machine's wrong clock counts."""
    if connection.dialect.name == "sqlite":
        return datetime.now(UTC)
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def insert_new(connection: Connection, table: Table, row: Mapping[str, object]) -> bool:
    """Insert `row` unless a unique key of it is taken; whether it was inserted."""
    insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    query = insert(table).values(dict(row)).on_conflict_do_nothing()
    return connection.execute(query).rowcount == 1


def upgrade(connection: Connection, revision: str) -> None:
    """Run the revisions up to `revision` inside the connection's transaction."""
    # Imported here: an up-to-date catalogue, the usual case, is opened without Alembic's 0.2 s.
    from alembic import command  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = alembic_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise NotAStoreError(
            f"the catalogue has a form that this wheelfarm does not know ({_revision(connection)})",
            hint="open it with the newer wheelfarm that made it",
        ) from error


def alembic_config() -> Any:
    """Alembic's configuration for the revisions in this package."""
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


def _engine(path: Path) -> Engine:
    engine = create_engine(URL.create("sqlite", database=str(path)))
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    # The driver's own transactions begin late and skip DDL; `_begin` says BEGIN in its place.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MILLISECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _revision(connection: Connection) -> str | None:
    if not sqlalchemy.inspect(connection).has_table("alembic_version"):
        return None
    text = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if text is None else str(text)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        # The driver's own words are one line; SQLAlchemy's hold the statement and its values.
        said = error.orig if isinstance(error, DBAPIError) else error
        raise StoreError(
            f"the catalogue {path} cannot be used: {said}",
            hint="is the disk full, the folder read-only, the file damaged or another program's?",
        ) from error
