"""PostgreSQL as the catalogue's database: how it is named, reached, and how its trouble is told.

The driver is psycopg 3, an extra: a store over SQLite does without it.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, make_url, select
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from store.errors import NotAStoreError, UsageError

_SCHEMES: Final = ("postgresql", "postgres", "postgresql+psycopg")
_DRIVER: Final = "postgresql+psycopg"
_SESSION: Final = {
    "statement_timeout": 60_000,
    "lock_timeout": 30_000,
    # A writer that was stopped in the middle must not hold the lock of all the others.
    "idle_in_transaction_session_timeout": 120_000,
}
"""Milliseconds, by the name of the server's setting."""
_REACHING: Final = {
    "connect_timeout": 10,
    # A server that vanished without a word is given up after about a minute.
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "application_name": "wheelfarm",
    "client_encoding": "utf8",
}
_POOL: Final = {
    "pool_pre_ping": True,
    "pool_size": 5,
    "max_overflow": 5,
    "pool_timeout": 30,
    "pool_recycle": 1_800,
}
_WRITERS: Final = 0x776865656C66726D
"""The number of the advisory lock that whoever changes the catalogue holds: b"wheelfrm"."""
_PASSING: Final = (
    "08",  # connection exceptions
    "57",  # shutting down, starting up, a statement that took too long
    "25P03",  # idle in a transaction for too long
    "40001",  # serialization failure
    "40P01",  # deadlock
    "53300",  # too many connections
    "55P03",  # a lock that was not had in time
)
"""How the SQLSTATE begins of what may work the next time (PostgreSQL, appendix A)."""


def make_engine(text: str) -> Engine:
    """An engine for the URL `text`; nothing is connected yet.

    Raises UsageError for what is no PostgreSQL URL, and when the driver is missing.
    """
    url = _parse(text)
    try:
        engine = create_engine(
            url, isolation_level="READ COMMITTED", connect_args=_arguments(url), **_POOL
        )
    except ImportError as error:
        raise UsageError(
            "a catalogue in PostgreSQL needs psycopg, which is not installed",
            hint="pip install 'wheelfarm[farm]'",
        ) from error
    event.listen(engine, "connect", _check_encoding)
    return engine


def name_of(engine: Engine) -> str:
    """Which database it is, safe to show: no password, no parameters."""
    url = engine.url
    return URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database
    ).render_as_string()


def take_write_lock(connection: Connection) -> None:
    """Hold the catalogue's write lock until the transaction ends."""
    connection.execute(select(func.pg_advisory_xact_lock(_WRITERS)))


def lift_statement_timeout(connection: Connection) -> None:
    """Let the rest of the transaction take its time: a migration may rewrite a large table."""
    connection.exec_driver_sql("SET LOCAL statement_timeout = 0")


def keep_out(connection: Connection) -> None:
    """Wait for every transaction that has looked at the form of the tables, and let none look at it
    until this one ends: a look is a lock on its table, and stands to the end of who looked.
    """
    connection.exec_driver_sql("LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")


def is_passing(error: SQLAlchemyError) -> bool:
    """Whether the server was not reached, or the same call may work the next time."""
    if not isinstance(error, DBAPIError):
        return isinstance(error, PoolTimeoutError)
    state = getattr(error.orig, "sqlstate", None)
    # What goes wrong before there is a session, a refused login also, has no SQLSTATE.
    unreached = isinstance(error, OperationalError) and state is None
    return error.connection_invalidated or unreached or str(state).startswith(_PASSING)


def _parse(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        url = URL.create("none")
    if url.drivername not in _SCHEMES:
        # The text itself is not shown: it may hold a password.
        raise UsageError(
            "the database is not named by a PostgreSQL URL",
            hint="as in postgresql://user@host/database",
        )
    return url.set(drivername=_DRIVER)


def _arguments(url: URL) -> dict[str, Any]:
    """What libpq is told beside the URL; the URL's own parameters count more."""
    options = " ".join(f"-c {name}={value}" for name, value in _SESSION.items())
    own = url.query.get("options", "")
    reaching = {name: value for name, value in _REACHING.items() if name not in url.query}
    return {**reaching, "options": f"{options} {own}".strip()}


def _check_encoding(connection: Any, _record: object) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise NotAStoreError(
            f"the database is in {encoding}, and the catalogue holds any Unicode text",
            hint="createdb --encoding UTF8 --template template0",
        )
