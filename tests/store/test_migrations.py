"""Migrations: from empty and from every older form to what this code reads and writes."""

from __future__ import annotations

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Executable, Table

from store.database import Database, alembic_config, upgrade
from store.errors import NotAStoreError, OutdatedError, StoreError, StoreUnreachableError
from store.publish import Store
from store.schema import (
    HEAD,
    SHOWN,
    generation,
    identity,
    local_names,
    metadata,
    release_requirements,
    releases,
    widenings,
)
from tests.store.test_backup import one_row

SCRIPTS = ScriptDirectory.from_config(alembic_config())
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()]


def _differences(database: Database) -> list[object]:
    with database.reading() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_there_is_one_head_and_the_code_knows_it() -> None:
    assert SCRIPTS.get_heads() == [HEAD]


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A database without tables, in each engine."""
    new = request.param == "postgresql"
    place = request.getfixturevalue("new_database") if new else tmp_path / "catalogue.sqlite"
    database = Database(place)
    yield database
    database.close()


def test_an_empty_database_gets_the_tables_of_the_schema(empty: Database) -> None:
    empty.migrate()
    assert _differences(empty) == []


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_older_form_is_brought_up_to_date(empty: Database, revision: str) -> None:
    with empty.writing() as connection:
        upgrade(connection, revision)
    empty.migrate()
    assert _differences(empty) == []


_ROWS = (
    "INSERT INTO blobs (sha256, size) VALUES ('{blob}', 1)",
    "INSERT INTO sources VALUES (1, '{blob}', 'a', '1', 'a.tar.gz', 'local', '/', {false})",
    "INSERT INTO targets (fingerprint, identity) VALUES ('here', '1'), ('there', '2')",
    "INSERT INTO files VALUES ('a.whl', '{blob}', 'a', '1', '[]', NULL, '{blob}', '{blob}', "
    "'[]', '[]')",
    "INSERT INTO releases VALUES (7, 'release', 'here', '{blob}', 'a.whl', 1, '{blob}', '{record}',"
    " 'x', '2026-01-01 00:00:00', NULL)",
    "INSERT INTO widenings VALUES (5, 7, 'there', 'abi3', '3', '2026-01-01 00:00:00')",
)
_PIN = {"name": "pip", "version": "1", "filename": "pip.whl", "sha256": "c" * 64}


def test_rows_survive_and_what_was_built_with_what_is_read_from_them(empty: Database) -> None:
    record = json.dumps({"inputs": {"build_requirements": [_PIN, _PIN]}})
    with empty.writing() as connection:
        upgrade(connection, "0003")
        false = "false" if empty.in_postgresql else "0"
        for row in _ROWS:
            text = row.format(blob="b" * 64, record=record, false=false)
            connection.exec_driver_sql(text)
    empty.migrate()
    with empty.reading() as connection:
        used = connection.execute(release_requirements.select()).one()
        assert tuple(used) == (7, "c" * 64, "pip", "1")
        (release,) = connection.execute(releases.select()).mappings()
        assert (release["id"], release["disowned"], release["filename"]) == (7, None, "a.whl")
        assert release["project"] == "a"
        (widening,) = connection.execute(widenings.select()).mappings()
        assert (widening["id"], widening["release_id"], widening["evidence"]) == (5, 7, 3)
        assert widening["project"] == "a"
    with pytest.raises(StoreError), empty.writing() as connection:
        connection.exec_driver_sql("DELETE FROM releases")  # the widening refers to it


_BEFORE = """
INSERT INTO blobs VALUES ('{a}', 1);
INSERT INTO targets VALUES ('t', '{{}}');
INSERT INTO files VALUES ('w.whl', '{a}', 'w', '1', '[]', NULL, '{a}', '{a}', '[]', '[]');
INSERT INTO sources VALUES (7, '{a}', 'w', '1', 'w.tar.gz', 'index', 'here', true);
INSERT INTO releases VALUES (1, 'release', 't', '{a}', 'w.whl', 7, '{a}',
    '{{"inputs": {{"build_requirements": []}}}}', 'x', {now}, NULL)
"""


def test_sources_and_what_refers_to_them_outlive_the_form_that_knew_no_uploads(
    empty: Database,
) -> None:
    with empty.writing() as connection:
        upgrade(connection, "0003")
        for statement in _BEFORE.format(a="a" * 64, now="CURRENT_TIMESTAMP").split(";"):
            connection.exec_driver_sql(statement)
    empty.migrate()
    with empty.writing() as connection:
        read = connection.exec_driver_sql
        joined = "SELECT s.id FROM releases r JOIN sources s ON r.source_id = s.id"
        assert read(joined).scalar() == 7
        upload = "'w', '1', 'w.whl', 'upload', 'by me', false)"
        read(f"INSERT INTO sources VALUES (8, '{'b' * 64}', {upload}")
        if not empty.in_postgresql:
            assert read("PRAGMA foreign_key_check").all() == []
    with pytest.raises(StoreError, match=r"(?i)foreign key"), empty.writing() as connection:
        connection.exec_driver_sql("DELETE FROM sources WHERE id = 7")


_NAMES = """
INSERT INTO sources VALUES (1, '{a}', 'Wheaty_Bits', '1', 'w.tar.gz', 'local', '/', false);
INSERT INTO sources VALUES (2, '{a}', 'wheaty-bits', '1', 'w.tar.gz', 'vcs', '/', false);
INSERT INTO sources VALUES (3, '{a}', 'corny', '1', 'c.tar.gz', 'index', '/', false);
INSERT INTO uploads VALUES ('dev/me', 'Rye.Bread-1.0.tar.gz', '{a}', {now}, 'me');
INSERT INTO uploads VALUES ('dev/me', 'oat_meal-1.0-py3-none-any.whl', '{a}', {now}, 'me')
"""


def test_the_names_that_are_local_already_are_known_from_then_on(empty: Database) -> None:
    with empty.writing() as connection:
        upgrade(connection, "0007")
        for statement in _NAMES.format(a="a" * 64, now="CURRENT_TIMESTAMP").split(";"):
            connection.exec_driver_sql(statement)
    empty.migrate()
    with empty.reading() as connection:
        found = connection.execute(sqlalchemy.select(local_names.c.name)).scalars().all()
    assert sorted(found) == ["oat-meal", "rye-bread", "wheaty-bits"]


def test_each_change_of_what_is_shown_and_no_other_makes_a_new_generation(empty: Database) -> None:
    empty.migrate()
    seen = {empty.generation()}

    def change(table: Table, statement: Executable) -> None:
        with empty.writing() as connection:
            connection.execute(statement)
        found = empty.generation()
        assert (found not in seen) == (table in SHOWN), table.name
        seen.add(found)

    tables = [each for each in metadata.sorted_tables if each not in {generation, identity}]
    for table in tables:
        with empty.reading() as connection:
            row = one_row(connection, table)
        key = table.primary_key.columns[0]
        change(table, table.insert().values(row))
        change(table, sqlalchemy.update(table).values({key: key}))
    for table in reversed(tables):
        change(table, sqlalchemy.delete(table))


def test_a_migration_that_fails_leaves_nothing(empty: Database) -> None:
    def interrupted() -> None:
        with empty.writing() as connection:
            upgrade(connection, HEAD)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    with empty.reading() as connection:
        assert sqlalchemy.inspect(connection).get_table_names() == []


_MIGRATE = "import sys; from pathlib import Path; from store.database import Database; "
_MIGRATE += "place = sys.argv[1] if '://' in sys.argv[1] else Path(sys.argv[1]); "
_MIGRATE += "print('begun', flush=True); Database(place).migrate()"


@pytest.mark.parametrize(
    "rounds",
    [
        pytest.param(3, marks=pytest.mark.slow),
        pytest.param(
            int(os.environ.get("KILLS", "100")),
            marks=[pytest.mark.chaos, pytest.mark.timeout(7_200)],
        ),
    ],
)
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_migration_that_is_killed_is_whole_or_absent(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str, rounds: int
) -> None:
    chance = random.Random(rounds)
    for number in range(rounds):
        with _old_one(request, tmp_path / f"{number}.sqlite", engine) as (place, database):
            migrating = subprocess.Popen(
                [sys.executable, "-c", _MIGRATE, str(place)],
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            assert migrating.stdout is not None
            assert migrating.stdout.readline() == b"begun\n"
            time.sleep(chance.random())
            migrating.kill()
            migrating.communicate()
            with database.reading() as connection:
                revision = connection.exec_driver_sql("SELECT version_num FROM alembic_version")
                assert revision.scalar() in {"0003", HEAD}
            database.migrate()
            assert _differences(database) == []
            with database.reading() as connection:
                assert connection.execute(releases.select()).one().filename == "w.whl"


@contextmanager
def _old_one(
    request: pytest.FixtureRequest, path: Path, engine: str
) -> Iterator[tuple[Path | str, Database]]:
    """A catalogue of an old form with a release in it, and where it is."""
    new = engine == "postgresql"
    server = request.getfixturevalue("postgresql") if new else None
    place = server.create("killed") if server else path
    database = Database(place)
    with database.writing() as connection:
        upgrade(connection, "0003")
        for statement in _BEFORE.format(a="a" * 64, now="CURRENT_TIMESTAMP").split(";"):
            connection.exec_driver_sql(statement)
    yield place, database
    database.close()
    if server:
        server.drop("killed")


def test_a_catalogue_of_a_newer_wheelfarm_is_left_alone(
    store: Store, tmp_path: Path, database_url: str | None
) -> None:
    with store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(NotAStoreError, match="9999") as caught:
        Store.open(tmp_path / "store", database=database_url)
    assert caught.value.hint is not None
    assert "newer wheelfarm" in caught.value.hint


def test_what_is_open_writes_nothing_into_a_newer_form(store: Store) -> None:
    database = store.database
    with database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    for begin in (database.writing, database.transaction):
        with pytest.raises(OutdatedError, match=f"has form 9999 now.* form {HEAD}"), begin():
            raise AssertionError("it may not come so far")
    with pytest.raises(OutdatedError) as caught:
        database.check_form()
    assert not caught.value.transient
    assert database.generation()  # what is read is read


def test_a_migration_waits_for_who_has_looked_at_the_form(empty: Database) -> None:
    """Else one that looked before could write after."""
    with empty.writing() as connection:
        upgrade(connection, REVISIONS[1])
    place = empty._engine.url.render_as_string(hide_password=False)
    other = Database(place if empty.in_postgresql else Path(empty.name))
    other._migrated = True  # by a wheelfarm whose form this was
    order: list[str] = []

    def migrate() -> None:
        empty.migrate()
        order.append("migrated")

    thread = threading.Thread(target=migrate)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("store.database.HEAD", REVISIONS[1])
        with other.transaction():
            patch.undo()
            thread.start()
            thread.join(0.5)
            order.append("written")
    thread.join()
    assert order == ["written", "migrated"]
    other.close()


_OPEN = "import sys; from pathlib import Path; from store.publish import Store; "
_OPEN += "sys.stdin.read(); "
_OPEN += "Store.open(Path(sys.argv[1]), database=(sys.argv[2:] or [None])[0]).close()"


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_three_processes_open_a_new_store_at_once(
    request: pytest.FixtureRequest, tmp_path: Path, engine: str
) -> None:
    urls = [request.getfixturevalue("new_database")] if engine == "postgresql" else []
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path / "store"), *urls],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(3)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    database = Database(*urls or [tmp_path / "store/catalogue.sqlite"])
    assert _differences(database) == []
    database.close()


def test_a_database_that_another_process_holds_may_be_had_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("store.database._BUSY_MILLISECONDS", 100)
    place = tmp_path / "catalogue.sqlite"
    database, other = Database(place), sqlite3.connect(place, isolation_level=None)
    database.migrate()
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnreachableError, match="locked") as caught, database.writing():
        pass
    assert caught.value.transient
    other.execute("ROLLBACK")
    with database.writing() as connection:
        assert connection.in_transaction()
    database.close()
    other.close()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_sqlite_is_set_for_several_processes_and_true_references(store: Store) -> None:
    with store.database.reading() as connection:
        read = connection.exec_driver_sql
        assert read("PRAGMA journal_mode").scalar() == "wal"
        assert read("PRAGMA foreign_keys").scalar() == 1
        assert read("PRAGMA busy_timeout").scalar() == 30_000
        assert read("PRAGMA synchronous").scalar() == 2
