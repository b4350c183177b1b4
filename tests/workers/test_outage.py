"""A database that goes away while a build is at its end: the build is not lost, nor published by
who lost it."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from store.database import clock
from store.schema import jobs, releases
from tests.services import Postgresql
from tests.workers.yard import Worker, Yard, ended, running, until
from workers.farm.farm import Farm
from workers.farm.jobs import Claim
from workers.farm.line import Ask
from workers.farm.reaper import reap

Pack = Callable[[str], Path]


@pytest.fixture
def server() -> Iterator[Postgresql]:
    """A PostgreSQL of one test's own, which it may stop and start."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-test-") as folder:
        cluster = Postgresql(Path(folder), loses_nothing=True)
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture
def yard(tmp_path: Path, server: Postgresql) -> Iterator[Yard]:
    made = Yard(tmp_path, database=server.create("outage"))
    yield made
    made.close()


def finish_without(server: Postgresql, gate: Path, worker: Worker) -> None:
    """Let the build end while the database is away, and see that it waits for it."""
    server.stop()
    gate.touch()
    until(lambda: "trying again" in worker.log())
    server.start()


def test_a_build_that_ends_while_the_database_is_away_is_published_later(
    yard: Yard, pack: Pack, server: Postgresql
) -> None:
    worker, gate = yard.worker("--slots", "1"), yard.folder / "gate"
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("waits"), GATE=str(gate))
        running(farm, job)
        until(lambda: building(yard))
    finish_without(server, gate, worker)
    with yard.farm() as farm:
        (row,) = ended(farm, [job])
    assert (row.state, row.tries, row.token) == ("succeeded", {}, 1)


def test_who_lost_the_lease_meanwhile_does_not_publish(
    yard: Yard, pack: Pack, server: Postgresql
) -> None:
    worker, gate = yard.worker("--slots", "1", apart=True), yard.folder / "gate"
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("waits"), GATE=str(gate))
        running(farm, job)
        until(lambda: building(yard))
        worker.process.send_signal(signal.SIGSTOP)  # the worker, not the process of its job
        another = taken_by_another(farm, job)
    finish_without(server, gate, worker)
    until(lambda: not building(yard))
    with yard.farm() as farm:
        row = farm.ledger.job(job)
        assert (row.state, row.owner, row.token) == ("running", "another", another.token)
        with farm.store.database.reading() as connection:
            assert connection.execute(select(func.count()).select_from(releases)).scalar() == 0
    worker.process.send_signal(signal.SIGCONT)
    until(lambda: "is not ours any more" in worker.log())


def building(yard: Yard) -> list[Path]:
    """The folders in which a build is under way, its hook called."""
    scratch = yard.settings.cache / "scratch"
    return [log.parent for log in scratch.glob("*/build.log") if b"gate" in log.read_bytes()]


def taken_by_another(farm: Farm, job: int) -> Claim:
    with farm.store.database.transaction() as connection:
        past = clock(connection) - timedelta(seconds=1)
        connection.execute(update(jobs).where(jobs.c.id == job).values(lease_until=past))
    reap(farm, farm.ledger.expired())
    claim = farm.ledger.claim(Ask(worker="another", queues=(farm.ledger.job(job).queue,)))
    assert claim is not None
    return claim
