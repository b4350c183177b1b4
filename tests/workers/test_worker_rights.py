"""Workers over PostgreSQL: two of them on one farm, and those that may not write."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from store.errors import StoreError
from tests.workers.yard import Yard, ended, until
from workers.errors import MayNotPublishError
from workers.farm.farm import open_farm
from workers.farm.rights import check_rights

Pack = Callable[[str], Path]


@pytest.fixture
def yard(tmp_path: Path, redis_url: str, new_database: str) -> Iterator[Yard]:
    made = Yard(tmp_path, broker=redis_url, database=new_database)
    with made.farm():  # the tables
        pass
    yield made
    made.close()


@pytest.mark.slow
def test_two_workers_share_the_jobs_of_one_farm(yard: Yard, pack: Pack) -> None:
    gate = yard.folder / "gate"
    workers = [yard.worker("--slots", "1") for _ in range(2)]
    with yard.farm() as farm:
        jobs = yard.enqueue(farm, pack("waits"), 4, GATE=str(gate))
        owners = until(lambda: _both(farm.ledger.job(job).owner for job in jobs))
        assert owners == {worker.id for worker in workers}
        gate.touch()
        rows = ended(farm, jobs)
        assert [(row.state, row.token) for row in rows] == [("succeeded", 1)] * 4
        drained, other = workers
        farm.registry.set_state(drained.id, "draining", "for a test")
        assert drained.process.wait(60) == 0
        assert other.stop() == 0
        for worker in farm.registry.all():
            assert abs(worker.facts["clock_ahead_seconds"]) < 3600
            assert worker.facts["takes_no_job"] is None
            assert [known.fingerprint for known in farm.registry.toolchains_of(worker.id)]


def _both(owners: Iterator[str | None]) -> set[str] | None:
    found = {owner for owner in owners if owner}
    return found if len(found) == 2 else None


@pytest.mark.parametrize(
    "lacking",
    [
        "INSERT ON releases",
        pytest.param("INSERT ON job_events", marks=pytest.mark.slow),
        pytest.param("UPDATE ON jobs", marks=pytest.mark.slow),
        pytest.param("DELETE ON failures", marks=pytest.mark.slow),
        pytest.param("USAGE ON SEQUENCE job_events_id_seq", marks=pytest.mark.slow),
    ],
)
def test_a_role_that_may_not_write_is_refused_at_the_start(yard: Yard, lacking: str) -> None:
    role = f"postgresql://poor:poor@{urlsplit(str(yard.settings.database)).netloc.split('@')[1]}"
    database = urlsplit(str(yard.settings.database)).path
    with psycopg.connect(str(yard.settings.database), autocommit=True) as connection:
        known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'poor'").fetchone()
        for statement in (
            *(() if known is None else ("DROP OWNED BY poor", "DROP ROLE poor")),
            "CREATE ROLE poor LOGIN PASSWORD 'poor'",
            "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO poor",
            "GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO poor",
            f"REVOKE {lacking} FROM poor",
        ):
            connection.execute(statement.encode())
    worker = yard.start("--target", "native", WHEELFARM_DATABASE=role + database)
    assert worker.process.wait(60) == 3
    assert worker.offer == ""
    assert "error[may-not-publish]: this worker may not publish" in worker.log()
    assert "permission denied" in worker.log()
    assert "poor:poor" not in worker.log()
    with yard.farm() as farm:
        assert farm.registry.all() == []
        check_rights(farm.store)  # who may write is let in


@pytest.mark.parametrize("folder", ["blobs", "staging"])
def test_a_folder_of_blobs_that_is_read_only_is_refused_at_the_start(
    tmp_path: Path, folder: str
) -> None:
    yard = Yard(tmp_path)
    with yard.farm():
        pass
    place = yard.settings.store / folder
    before = sorted(yard.settings.store.rglob("*"))
    trouble = pytest.raises((MayNotPublishError, StoreError))
    with _read_only(place), trouble as refused, open_farm(yard.settings) as farm:
        check_rights(farm.store)
    assert "cannot write to" in refused.value.message
    assert sorted(yard.settings.store.rglob("*")) == before


class _read_only:  # noqa: N801
    """A folder that even root cannot write to, for as long as the ``with`` block lasts."""

    def __init__(self, place: Path) -> None:
        self._place = place

    def __enter__(self) -> None:
        if os.getuid() != 0:
            self._place.chmod(0o555)
            return
        bind = ["mount", "--bind", str(self._place), str(self._place)]
        if subprocess.run(bind, check=False, capture_output=True).returncode:
            pytest.skip("this root may not mount")
        subprocess.run(["mount", "-o", "remount,ro,bind", self._place], check=True)

    def __exit__(self, *_: object) -> None:
        if os.getuid() != 0:
            self._place.chmod(0o755)
        else:
            subprocess.run(["umount", self._place], check=True)


def test_a_database_that_is_away_is_said(yard: Yard) -> None:
    worker = yard.start(
        "--target", "native", WHEELFARM_DATABASE="postgresql://me:secret@127.0.0.1:1/none"
    )
    assert worker.process.wait(60) == 3
    assert "cannot be used" in worker.log()
    assert "secret" not in worker.log()
