"""What only a catalogue in PostgreSQL can do, or can have go wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy
from sqlalchemy import Connection, func, select, text

from store.catalogue import now
from store.database import Database, clock
from store.digest import sha256_of
from store.errors import (
    NotAStoreError,
    StoreError,
    StoreUnreachableError,
    UsageError,
    WheelfarmError,
)
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.schema import identity, resolutions
from tests.services import SECRET, Postgresql
from tests.store.client import Client
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel


@pytest.fixture
def apart(request: pytest.FixtureRequest, new_database: str) -> Iterator[Database]:
    """A migrated database in PostgreSQL."""
    database = Database(new_database)
    database.migrate()
    yield database
    database.close()


def _remember(connection: Connection, number: int) -> None:
    row = {"key": sha256_of(b"%d" % number), "pins": [], "recorded_at": now()}
    connection.execute(resolutions.insert().values(row))


def _count(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(resolutions)).scalar_one()


def test_a_reader_sees_one_state_and_changes_none(apart: Database) -> None:
    with apart.reading() as reader:
        assert _count(reader) == 0
        with apart.writing() as writer:
            _remember(writer, 1)
        assert _count(reader) == 0
    with apart.reading() as reader:
        assert _count(reader) == 1
    with pytest.raises(StoreError, match="read-only"), apart.reading() as reader:
        _remember(reader, 2)


def test_what_a_writer_reads_stands(store: Store) -> None:
    """Over both engines: each writer counts the rows and adds one under that number."""

    def add(_: int) -> None:
        with store.database.writing() as connection:
            _remember(connection, _count(connection))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(24)))
    with store.database.reading() as connection:
        assert _count(connection) == 24


def test_transactions_skip_the_rows_that_another_holds(apart: Database) -> None:
    with apart.writing() as connection:
        for number in range(3):
            _remember(connection, number)
    free = select(resolutions.c.key).limit(1).with_for_update(skip_locked=True)
    with apart.transaction() as one, apart.transaction() as two, apart.writing() as three:
        keys = {connection.execute(free).scalar_one() for connection in (one, two, three)}
    assert len(keys) == 3


def test_the_clock_is_the_databases_and_goes_on_within_a_transaction(apart: Database) -> None:
    with apart.transaction() as connection:
        before = clock(connection)
        connection.execute(text("SELECT pg_sleep(0.001)"))
        assert timedelta(0) < clock(connection) - before
        assert before.tzinfo is UTC
        assert connection.execute(select(func.now())).scalar_one() <= before


def test_the_clock_of_sqlite_is_the_machines(tmp_path: Path) -> None:
    with (
        closing(Database(tmp_path / "catalogue.sqlite")) as database,
        database.reading() as connection,
    ):
        before = datetime.now(UTC)
        assert before <= clock(connection) <= datetime.now(UTC)


def _error(url: str) -> StoreError:
    with (
        closing(Database(url)) as database,
        pytest.raises(StoreError) as caught,
        database.reading(),
    ):
        pass
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    return caught.value


def test_a_server_that_is_away_or_refuses_is_told_apart(postgresql: Postgresql) -> None:
    away = postgresql.url().replace(str(postgresql.port), "1")
    for url in (away, postgresql.url(password="wrong-" + SECRET), postgresql.url("absent")):
        error = _error(url)
        assert isinstance(error, StoreUnreachableError)
        assert (error.transient, error.http_status, error.exit_status) == (True, 503, 3)
        assert "\n" not in error.message
    parameter = _error(postgresql.url() + "?sslmode=nonsense")
    assert "sslmode" in parameter.message


def test_a_server_that_restarts_breaks_what_runs_and_nothing_after(
    postgresql: Postgresql, apart: Database
) -> None:
    def interrupted() -> None:
        with apart.writing() as connection:
            _remember(connection, 1)
            postgresql.stop()
            _count(connection)

    with pytest.raises(StoreUnreachableError) as caught:
        interrupted()
    assert SECRET not in str(caught.value)
    try:
        with pytest.raises(StoreUnreachableError), apart.reading():
            pass
    finally:
        postgresql.start()
    with apart.reading() as connection:
        assert _count(connection) == 0


@pytest.mark.parametrize("setting", ["lock_timeout", "statement_timeout"])
def test_a_lock_that_is_not_had_in_time_is_given_up(
    apart: Database, new_database: str, setting: str
) -> None:
    hasty = Database(f"{new_database}?options=-c%20{setting}%3D100")
    with closing(hasty), apart.writing(), pytest.raises(StoreUnreachableError, match="timeout"):
        hasty.writing().__enter__()


def test_every_session_is_bounded(apart: Database) -> None:
    with apart.reading() as connection:
        for setting in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            assert connection.execute(text(f"SHOW {setting}")).scalar_one() != "0"
        assert connection.execute(text("SHOW application_name")).scalar_one() == "wheelfarm"


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://u:{SECRET}@host/x",
        f"postgresql+asyncpg://u:{SECRET}@host/x",
        f"u:{SECRET}@host",
        f"postgresql://u:{SECRET}@host:port/x",
        "",
    ],
)
def test_what_is_no_url_of_postgresql_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(UsageError, match="not named by a PostgreSQL URL") as caught:
        Database(url)
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"


def test_a_database_that_does_not_hold_unicode_is_refused(postgresql: Postgresql) -> None:
    url = postgresql.create("latin", more="ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'")
    with closing(Database(url)) as database, pytest.raises(NotAStoreError, match="is in LATIN1"):
        database.migrate()
    postgresql.drop("latin")


_WITHOUT_DRIVER = """
import sys
sys.modules["psycopg"] = None
from store.database import Database
from store.errors import UsageError
try:
    Database("postgresql://host/x")
except UsageError as error:
    print(error.message, error.hint)
"""


def test_a_missing_driver_is_named_with_its_extra() -> None:
    told = subprocess.check_output(
        [sys.executable, "-c", _WITHOUT_DRIVER],
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert told == (
        "a catalogue in PostgreSQL needs psycopg, which is not installed "
        "pip install 'wheelfarm[farm]'\n"
    )


def _refused(folder: Path, url: str | None) -> str:
    with pytest.raises(NotAStoreError) as caught:
        Store.open(folder, database=url)
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    return caught.value.message


def _tables(url: str) -> list[str]:
    with closing(Database(url)) as database, database.reading() as connection:
        return sqlalchemy.inspect(connection).get_table_names()


def test_a_folder_keeps_to_its_engine(tmp_path: Path, new_database: str) -> None:
    Store.open(tmp_path / "apart", database=new_database).close()
    assert "is in PostgreSQL" in _refused(tmp_path / "apart", None)
    assert not (tmp_path / "apart/catalogue.sqlite").exists()
    Store.open(tmp_path / "own").close()
    assert "is catalogue.sqlite" in _refused(tmp_path / "own", new_database)
    Store.open(tmp_path / "apart", database=new_database, create=False).close()


def test_a_database_keeps_to_its_folder(
    tmp_path: Path, new_database: str, postgresql: Postgresql
) -> None:
    folder, other = tmp_path / "store", postgresql.create("other")
    with closing(Store.open(folder, database=new_database, verifier=read_wheel)) as store:
        release = publish(store, make_wheel(tmp_path))
    Store.open(tmp_path / "other", database=other).close()
    assert "the catalogue of another store" in _refused(folder, other)
    assert "the catalogue of another store" in _refused(tmp_path / "new", new_database)
    postgresql.drop("other")
    assert "holds no catalogue" in _refused(folder, postgresql.create("other"))
    assert _tables(other) == []
    postgresql.drop("other")
    with closing(Store.open(folder, database=new_database)) as store:
        assert store.catalogue.release(release.id) == release


@pytest.mark.parametrize("marker", ["", "{", "[]", '{"store": 1}', '{"store": "x"}', " " * 5_000])
def test_a_marker_that_says_nothing_is_refused(
    tmp_path: Path, new_database: str, marker: str
) -> None:
    Store.open(tmp_path, database=new_database).close()
    (tmp_path / "store.json").write_text(marker)
    assert "does not say which store it is" in _refused(tmp_path, new_database)


def test_a_crash_between_marker_and_row_is_mended(tmp_path: Path, new_database: str) -> None:
    Store.open(tmp_path, database=new_database).close()
    marker = (tmp_path / "store.json").read_text()
    with closing(Database(new_database)) as database, database.writing() as connection:
        connection.execute(identity.delete())
    Store.open(tmp_path, database=new_database).close()
    assert (tmp_path / "store.json").read_text() == marker
    with closing(Database(new_database)) as database, database.reading() as connection:
        assert connection.execute(select(identity.c.store_id)).scalar_one() in marker


def test_of_two_new_folders_one_gets_the_database(tmp_path: Path, new_database: str) -> None:
    def opened(name: str) -> bool:
        try:
            Store.open(tmp_path / name, database=new_database).close()
        except NotAStoreError:
            return False
        return True

    with ThreadPoolExecutor(3) as pool:
        first = list(pool.map(opened, "abc"))
    assert sum(first) == 1
    assert [opened(name) for name in "abc"] == first


def _pages(store: Store, tmp_path: Path) -> dict[str, tuple[int, bytes]]:
    """Every page of the store, found by following the links from the first on."""
    publish(store, make_wheel(tmp_path, name="corny", version="2.0"))
    publish(store, make_wheel(tmp_path))
    client = Client(store)
    index = f"/release/{fingerprint_of(LINUX)}"
    todo, seen = ["/", "/healthz", f"{index}/links/", f"{index}/simple/"], {}
    while todo:
        page = todo.pop()
        answer = client.get(page)
        seen[page] = (answer.status_code, re.sub(rb"\d{4}-\d\d-\d\dT[^\"]*", b"", answer.content))
        links = re.findall(r'href="([^"#:]*)', answer.text) if page.endswith("/") else []
        todo += [at for link in links if (at := str(answer.url.join(link).path)) not in seen]
    return seen


def test_both_engines_serve_the_same_pages(
    tmp_path: Path, migrated: Path, new_database: str
) -> None:
    with closing(Store.open(tmp_path / "own", verifier=read_wheel)) as store:
        own = _pages(store, tmp_path)
    with closing(
        Store.open(tmp_path / "apart", database=new_database, verifier=read_wheel)
    ) as store:
        assert _pages(store, tmp_path) == own
    assert {status for status, _ in own.values()} == {200}
    assert sum(page.endswith(".whl") for page in own) == 2


def test_a_server_whose_database_is_away_says_503(
    tmp_path: Path, new_database: str, postgresql: Postgresql
) -> None:
    with closing(Store.open(tmp_path, database=new_database)) as store:
        client = Client(store)
        postgresql.stop()
        try:
            answer = client.get("/healthz")
        finally:
            postgresql.start()
        assert (answer.status_code, answer.json()["code"]) == (503, "store-unreachable")
        assert "127.0.0.1" not in answer.text
        assert client.get("/healthz").status_code == 200


def test_trouble_of_another_kind_is_not_called_passing(apart: Database) -> None:
    with pytest.raises(WheelfarmError) as caught, apart.writing() as connection:
        connection.execute(text("SELECT nonsense"))
    assert caught.value.code == "store-trouble"
    assert "nonsense" in caught.value.message
