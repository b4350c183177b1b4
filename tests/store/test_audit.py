"""The audit log, over both engines: one with its change, and there before a longer one begins."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.access import Actor
from store.audit import AuditFilter, Deed, audit_rows, audited, record
from store.database import Database
from store.errors import PolicyError
from store.publish import Store

ANN = Actor(who="ann", token="a" * 12, address="10.0.0.1")
BOB = Actor(who="bob")


def deed(actor: Actor = ANN, action: str = "cancel", on: str = "job 7") -> Deed:
    return Deed(actor=actor, action=action, object=on, detail={"why": "tired"})


@pytest.fixture
def database(store: Store) -> Database:
    return store.database


def test_a_row_is_written_with_its_change_or_not_at_all(database: Database) -> None:
    with database.writing() as connection:
        record(connection, deed())

    def broken() -> None:
        with database.writing() as connection:
            record(connection, deed(BOB))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    (row,) = audit_rows(database, AuditFilter(), 10)
    assert row.to_json() == {
        "id": row.id, "at": row.at.isoformat(), "who": "ann", "token": "a" * 12,
        "address": "10.0.0.1", "action": "cancel", "object": "job 7", "result": "done",
        "detail": {"why": "tired"},
    }  # fmt: skip
    assert abs(row.at - datetime.now(UTC)) < timedelta(minutes=5)


def test_the_end_of_a_longer_deed_is_told(database: Database) -> None:
    def refused() -> None:
        with audited(database, deed(on="job 1")):
            assert audit_rows(database, AuditFilter(), 1)[0].result == "asked"
            raise PolicyError("no")

    def broken() -> None:
        with audited(database, deed(on="job 2")):
            raise ZeroDivisionError

    with pytest.raises(PolicyError):
        refused()
    with pytest.raises(ZeroDivisionError):
        broken()
    with audited(database, deed(on="job 3")):
        pass
    found = {row.object: row.result for row in audit_rows(database, AuditFilter(), 10)}
    assert found == {"job 1": "policy", "job 2": "farm-trouble", "job 3": "done"}


_KILLED = """
import os, signal, sys
from store.access import Actor
from store.audit import Deed, audited
from store.database import Database
with audited(Database(sys.argv[1]), Deed(actor=Actor(who="x"), action="yank", object="y")):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_deed_whose_process_was_killed_stays_asked(
    store: Store, tmp_path: Path, database_url: str | None
) -> None:
    place = database_url or str(tmp_path / "store" / "catalogue.sqlite")
    code = (
        _KILLED
        if database_url
        else _KILLED.replace("sys.argv[1]", "Path(sys.argv[1])").replace(
            "import os", "from pathlib import Path\nimport os"
        )
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code, place], check=False, env=environment)
    assert done.returncode == -9
    assert [r.result for r in audit_rows(store.database, AuditFilter(), 10)] == ["asked"]


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (AuditFilter(), [3, 2, 1]),
        (AuditFilter(who="ann"), [3, 1]),
        (AuditFilter(token="a" * 12), [3, 1]),
        (AuditFilter(action="retry"), [3]),
        (AuditFilter(object="job"), [2, 1]),
        (AuditFilter(object="job_"), []),
        (AuditFilter(result="done"), [3, 2, 1]),
        (AuditFilter(result="asked"), []),
        (AuditFilter(before=3), [2, 1]),
        (AuditFilter(since=datetime(2001, 1, 1, tzinfo=UTC)), [3, 2, 1]),
        (AuditFilter(since=datetime(2999, 1, 1, tzinfo=UTC)), []),
        (AuditFilter(who="ann", object="package"), [3]),
    ],
)
def test_the_rows_that_fit_are_found(
    database: Database, chosen: AuditFilter, found: list[int]
) -> None:
    with database.writing() as connection:
        record(connection, deed())
        record(connection, deed(BOB, on="job 8"))
        record(connection, deed(action="retry", on="package wheaty"))
    rows = audit_rows(database, chosen, 10)
    assert [row.id for row in rows] == found
    assert audit_rows(database, chosen, 1) == rows[:1]


def test_what_comes_from_outside_harms_neither_terminal_nor_database(database: Database) -> None:
    hostile = "a\0b\x1b[2J\nc\udcff" + "x" * 1_000
    with database.writing() as connection:
        actor = Actor(who=hostile, address=hostile)
        record(connection, Deed(actor=actor, action="submit", object=hostile))
    (row,) = audit_rows(database, AuditFilter(), 1)
    for text in (row.who, row.object, row.address or ""):
        assert text.startswith("a?b?[2J?c?x")
        assert text.isprintable()
    assert (len(row.who), len(row.object)) == (200, 500)
