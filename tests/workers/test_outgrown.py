"""A newer wheelfarm migrates the catalogue while workers and a server of this one run on it: they
stop and say why, write nothing into the form that they do not know, and lose no job."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import sqlalchemy
from sqlalchemy import MetaData

from store.database import Database
from store.schema import HEAD
from tests.workers.yard import ROOT, SECONDS, Yard, ended, running

Pack = Callable[[str], Path]
NEWER = f"{int(HEAD) + 1:04}"
_REVISION = f'''"""One column more, which this code would leave empty."""

import sqlalchemy as sa
from alembic import op

revision = "{NEWER}"
down_revision = "{HEAD}"


def upgrade() -> None:
    """Add it."""
    op.add_column("jobs", sa.Column("weight", sa.Integer(), nullable=False, server_default="1"))
'''
_MIGRATE = "import sys; from pathlib import Path; from store.database import Database; "
_MIGRATE += "place = sys.argv[1] if '://' in sys.argv[1] else Path(sys.argv[1]); "
_MIGRATE += "Database(place).migrate()"


@pytest.fixture
def newer(tmp_path: Path) -> dict[str, str]:
    """The environment of a whole wheelfarm that is one form of the catalogue ahead."""
    code = tmp_path / "newer"
    for folder in ("store", "builder", "workers"):
        shutil.copytree(ROOT / folder, code / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (code / f"store/migrations/versions/{NEWER}_weight.py").write_text(_REVISION)
    schema = code / "store/schema.py"
    text = schema.read_text()
    assert text.count(f'HEAD: Final = "{HEAD}"') == 1
    schema.write_text(text.replace(f'HEAD: Final = "{HEAD}"', f'HEAD: Final = "{NEWER}"'))
    return {"PYTHONPATH": str(code)}


@pytest.fixture(params=["sqlite", "postgresql"])
def yard(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Yard]:
    apart = request.param == "postgresql"
    yard = Yard(
        tmp_path / "yard", database=request.getfixturevalue("new_database") if apart else None
    )
    yield yard
    yard.close()


class Server:
    """A server's process on a yard's settings, and its log."""

    def __init__(self, yard: Yard, log: Path, more: dict[str, str]) -> None:
        self._log = log
        (yard.folder / "wheelfarm.toml").write_text(yard.settings_file.read_text())
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.cli", "serve", "--port", "0"],
                cwd=yard.folder, env=_environment(more), stdout=subprocess.PIPE, stderr=file,
                text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def log(self) -> str:
        text = self._log.read_text()
        assert "Traceback" not in text, text
        return text


@contextmanager
def serving(yard: Yard, name: str, more: dict[str, str]) -> Iterator[Server]:
    server = Server(yard, yard.folder / name, more)
    try:
        yield server
    finally:
        server.process.terminate()
        server.process.communicate()


def _environment(more: dict[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHEELFARM_", "XDG_"))}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def migrate(yard: Yard, newer: dict[str, str]) -> None:
    place = yard.settings.database or str(yard.settings.store / "catalogue.sqlite")
    command = [sys.executable, "-c", _MIGRATE, place]
    done = subprocess.run(
        command, cwd=yard.folder, env=_environment(newer), capture_output=True, text=True,
        check=False, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def everything(database: Database) -> dict[str, list[str]]:
    """Every row of every table, whatever form they have."""
    with database.reading() as connection:
        found = MetaData()
        found.reflect(connection)
        return {
            table.name: sorted(map(repr, connection.execute(sqlalchemy.select(table))))
            for table in found.sorted_tables
        }


@pytest.mark.slow
def test_what_runs_stops_and_says_why_and_a_newer_one_ends_its_jobs(
    yard: Yard, newer: dict[str, str], pack: Pack
) -> None:
    gate = yard.folder / "gate"
    old = yard.worker("--slots", "1")
    with yard.farm() as farm, serving(yard, "old.log", {}) as server:
        jobs = yard.enqueue(farm, pack("waits"), 2, GATE=str(gate))
        running(farm, jobs[0])
        migrate(yard, newer)
        before = everything(farm.store.database)
        _order_something(server, jobs[1])
        gate.touch()  # the build ends, and may not be published by the old worker
        assert old.process.wait(SECONDS) == 3
        assert server.process.wait(SECONDS) == 3
        assert everything(farm.store.database) == before
        for log in (old.log(), server.log()):
            assert f"has form {NEWER} now; this wheelfarm knows form {HEAD}" in log
            assert "error[outdated]" in log
            assert "install that version here, and start anew" in log
        again = yard.start("--target", "native")
        assert again.process.wait(SECONDS) == 2
        assert "error[not-a-store]" in again.log()
        assert everything(farm.store.database) == before
        yard.worker("--slots", "1", apart=True, **newer)
        assert [row.state for row in ended(farm, jobs)] == ["succeeded"] * 2
    with serving(yard, "new.log", newer) as server:
        answer = requests.get(f"{server.url}api/jobs/{jobs[0]}", timeout=30)
        assert answer.json()["state"] == "succeeded"
    assert yard.left_over() == []
    assert _fsck(yard, newer) == 0


def _order_something(server: Server, job: int) -> None:
    """An order that comes before the server knows is refused by what it may not write, not by
    chance; one that comes after finds nobody."""
    try:
        answer = requests.post(f"{server.url}api/jobs/{job}/cancel", timeout=30)
    except requests.ConnectionError:
        return
    assert (answer.status_code, answer.json()["code"]) == (503, "outdated")


def _fsck(yard: Yard, newer: dict[str, str]) -> int:
    command = [sys.executable, "-m", "workers.cli", "fsck"]
    done = subprocess.run(
        command, cwd=yard.folder, env=_environment(newer), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return done.returncode
