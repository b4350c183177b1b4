"""The catalogue's database: opened, migrated, and its errors made ours.

SQLite in a file, or PostgreSQL at a URL (`store/postgresql.py`); the queries are the same.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    MetaData,
    Row,
    Table,
    create_engine,
    event,
    func,
    select,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import Insert as PostgresqlInsert
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from store import postgresql
from store.errors import NotAStoreError, OutdatedError, StoreError, StoreUnreachableError
from store.schema import HEAD, generation

_BUSY_MILLISECONDS: Final = 30_000
_MIGRATIONS: Final = Path(__file__).parent / "migrations"
_BEGIN: Final = "wheelfarm_begin"
_LONGEST_MESSAGE: Final = 500
_FORM: Final = "SELECT version_num FROM alembic_version"


class Database:
    """A catalogue: a path is one in SQLite, a URL one in PostgreSQL.

    `reading`, `writing` and `transaction` give a connection in its own transaction. All of them
    raise StoreError; StoreUnreachableError when the server is away or busy, and the same call
    may work later. `name` says which database it is, and is safe to show.

    Once it was migrated, whoever may write looks first whether the tables are still of this code's
    form, and no migration runs from there to the end of the transaction: OutdatedError is raised
    after another process has brought them to a newer one.
    """

    def __init__(self, place: Path | str) -> None:
        self.in_postgresql = isinstance(place, str)
        self._reader: Engine
        self._worker: Engine
        self._watch: sqlite3.Connection | None = None
        self._seen: tuple[int, str] | None = None
        self._migrated = False
        if isinstance(place, str):
            self._engine = postgresql.make_engine(place)
            self.name = postgresql.name_of(self._engine)
            snapshot = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
            self._reader, self._worker = self._engine.execution_options(**snapshot), self._engine
        else:
            self._engine = _sqlite_engine(place)
            self.name = str(place)
            immediate = {_BEGIN: "BEGIN IMMEDIATE"}
            self._reader, self._worker = self._engine, self._engine.execution_options(**immediate)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that sees one state of the catalogue."""
        with self._translated(), self._reader.begin() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A connection that is the only writer from its start, so that what it reads stands.

        Raises StoreError when the lock is not had in half a minute, or the disk refuses.
        """
        with self._translated(), self._worker.begin() as connection:
            if self.in_postgresql:
                postgresql.take_write_lock(connection)
            self._check_form(connection)
            yield connection

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A connection that may write and keeps nobody out but from the rows that it locks.

        In PostgreSQL what it reads stands only for rows that it read ``FOR UPDATE``; in SQLite it
        is `writing`. For rows that many processes claim, never for what `writing` looks after.
        """
        with self._translated(), self._worker.begin() as connection:
            self._check_form(connection)
            yield connection

    def migrate(self) -> None:
        """Bring the tables to this code's revision; two processes may do it at once.

        Raises NotAStoreError when a newer wheelfarm made them.
        """
        with self.reading() as connection:
            current = _revision(connection) == HEAD
        if not current:
            with self.writing() as connection:
                bring_up_to_date(connection)
        self._migrated = True

    def check_form(self) -> None:
        """Raise OutdatedError when the tables are not of this code's form any more."""
        with self.reading() as connection:
            self._check_form(connection)

    def _check_form(self, connection: Connection) -> None:
        if not self._migrated:
            return  # whoever migrates, or has another form on purpose
        found = connection.exec_driver_sql(_FORM).scalar()
        if found != HEAD:
            raise OutdatedError(
                f"the catalogue {self.name} has form {found} now; this wheelfarm knows form {HEAD}",
                hint="a newer wheelfarm has migrated it: install that version here, and start anew",
            )

    def generation(self) -> str:
        """A value that is another one as soon as anybody has changed what pages are made of
        (`store.schema.SHOWN`), by whatever program: triggers change it.

        Two equal ones mean that the same rows were seen. SQLite is asked by a connection of its
        own that never writes, for some microseconds, and for the value only when anything at all
        was written since. One thread at a time. Raises StoreError.
        """
        if not self.in_postgresql:
            return self._generation_in_file()
        with self._translated(), self._engine.connect() as connection:
            return str(connection.execute(select(generation.c.value)).scalar_one())

    def _generation_in_file(self) -> str:
        try:  # no context manager: this is asked for each page that goes out
            if self._watch is None:
                self._watch = sqlite3.connect(self.name, timeout=0, check_same_thread=False)
            written = self._watch.execute("PRAGMA data_version").fetchone()[0]
            if self._seen is None or self._seen[0] != written:
                value = self._watch.execute("SELECT value FROM generation").fetchone()[0]
                self._seen = (written, value)
        except sqlite3.Error as error:
            raise self._trouble(error) from error
        return self._seen[1]

    def check(self) -> None:
        """Raise StoreError unless the catalogue answers."""
        with self.reading() as connection:
            connection.execute(select(generation.c.value)).one()

    def close(self) -> None:
        """Close every connection."""
        self._engine.dispose()
        if self._watch is not None:
            self._watch.close()
            self._watch = self._seen = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, sqlite3.Error) as error:
            raise self._trouble(error) from error

    def _trouble(self, error: SQLAlchemyError | sqlite3.Error) -> StoreError:
        # The driver's own words are short; SQLAlchemy's hold the statement and its values.
        said = error.orig if isinstance(error, DBAPIError) else error
        message = f"the catalogue {self.name} cannot be used: {' '.join(str(said).split())}"
        message = message[:_LONGEST_MESSAGE]
        if not self.in_postgresql:
            if _is_busy(said):
                hint = "another process holds it: try again, and see what runs on this store"
                return StoreUnreachableError(message, hint=hint)
            hint = "is the disk full, the folder read-only, the file damaged or another program's?"
            return StoreError(message, hint=hint)
        if isinstance(error, SQLAlchemyError) and postgresql.is_passing(error):
            hint = "is the server up, and are the user, the password and the database right?"
            return StoreUnreachableError(message, hint=hint)
        return StoreError(message, hint="the server's own log says more")


def clock(connection: Connection) -> datetime:
    """The moment, in UTC, by the clock of the database: the same one for every machine."""
    if connection.dialect.name != "postgresql":
        return datetime.now(UTC)
    moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return moment.astimezone(UTC)


def known_revisions() -> frozenset[str]:
    """The forms of a catalogue that this code can bring up to date, its own among them."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(alembic_config())
    return frozenset(script.revision for script in scripts.walk_revisions())


def begin_again(connection: Connection, revision: str) -> None:
    """Have empty tables of that revision in place of those that are there, whatever is in them."""
    old = MetaData()
    old.reflect(connection)
    old.drop_all(connection)
    upgrade(connection, revision)


def bring_up_to_date(connection: Connection) -> None:
    """Run the revisions that are missing, inside the connection's transaction."""
    found = _revision(connection)
    if found != HEAD:
        if connection.dialect.name == "postgresql":
            postgresql.lift_statement_timeout(connection)
            if found is not None:
                postgresql.keep_out(connection)
        upgrade(connection, HEAD)


def insert(connection: Connection, table: Table) -> sqlite.Insert | PostgresqlInsert:
    """An insert that can say what to do on a conflict: SQL has none, both engines have one."""
    if connection.dialect.name == "postgresql":
        return PostgresqlInsert(table)
    return sqlite.Insert(table)


def insert_new(
    connection: Connection, table: Table, row: Mapping[str, object]
) -> Row[*tuple[Any, ...]] | None:
    """Insert `row` unless a unique key of it is taken; its primary key, None where it was not."""
    query = insert(connection, table).values(dict(row)).on_conflict_do_nothing()
    # Not by rowcount, which PostgreSQL's driver does not give for an insert with a serial key.
    return connection.execute(query.returning(*table.primary_key)).first()


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


def _is_busy(error: BaseException | None) -> bool:
    """Whether SQLite waited in vain for another process; the low byte is the primary code."""
    code = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _sqlite_engine(path: Path) -> Engine:
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
    text = connection.exec_driver_sql(_FORM).scalar()
    return None if text is None else str(text)
