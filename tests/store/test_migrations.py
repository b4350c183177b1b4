"""Migrations: from empty and from every older form to what this code reads and writes."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from store.database import Database, alembic_config, upgrade
from store.errors import NotAStoreError
from store.publish import Store
from store.schema import HEAD, metadata

SCRIPTS = ScriptDirectory.from_config(alembic_config())
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()]


def _differences(database: Database) -> list[object]:
    with database.reading() as connection:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))


def test_there_is_one_head_and_the_code_knows_it() -> None:
    assert SCRIPTS.get_heads() == [HEAD]


def test_an_empty_folder_gets_the_tables_of_the_schema(tmp_path: Path) -> None:
    database = Database(tmp_path / "catalogue.sqlite")
    database.migrate()
    assert _differences(database) == []
    database.close()


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_older_form_is_brought_up_to_date(tmp_path: Path, revision: str) -> None:
    database = Database(tmp_path / "catalogue.sqlite")
    with database.writing() as connection:
        upgrade(connection, revision)
    database.migrate()
    assert _differences(database) == []
    database.close()


def test_a_catalogue_of_a_newer_wheelfarm_is_left_alone(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store/catalogue.sqlite") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(NotAStoreError, match="9999") as caught:
        Store.open(tmp_path / "store")
    assert caught.value.hint is not None
    assert "newer wheelfarm" in caught.value.hint


_OPEN = "import sys; from pathlib import Path; from store.publish import Store; "
_OPEN += "sys.stdin.read(); Store.open(Path(sys.argv[1])).close()"


def test_three_processes_open_a_new_store_at_once(tmp_path: Path) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", _OPEN, str(tmp_path / "store")],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for _ in range(3)
    ]
    errors = [process.communicate()[1] for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], errors
    database = Database(tmp_path / "store/catalogue.sqlite")
    assert _differences(database) == []
    database.close()


def test_sqlite_is_set_for_several_processes_and_true_references(store: Store) -> None:
    with store.database.reading() as connection:
        read = connection.exec_driver_sql
        assert read("PRAGMA journal_mode").scalar() == "wal"
        assert read("PRAGMA foreign_keys").scalar() == 1
        assert read("PRAGMA busy_timeout").scalar() == 30_000
        assert read("PRAGMA synchronous").scalar() == 2
