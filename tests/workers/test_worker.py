"""`wheelfarm worker` as a process: it takes, builds, stops, hands back, and says what is wrong."""

from __future__ import annotations

import signal
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.workers.yard import Yard, ended, processes_below, running, until

Pack = Callable[[str], Path]


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    made = Yard(tmp_path)
    yield made
    made.close()


def test_it_offers_what_it_can_builds_it_and_ends_well_when_asked(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--slots", "2")
    with yard.farm() as farm:
        rows = ended(farm, yard.enqueue(farm, pack("pure"), 3))
        assert [row.state for row in rows] == ["succeeded"] * 3
        assert worker.stop() == 0
        (row,) = farm.registry.all()
    assert (row.id, row.state, row.slots) == (worker.id, "gone", 2)
    assert worker.offer.startswith(f"{row.id} takes jobs for cp3")
    assert yard.left_over() == []


@pytest.mark.slow
def test_what_is_not_done_in_the_time_of_grace_is_handed_back(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--grace", "0")
    gate = yard.folder / "gate"
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("waits"), GATE=str(gate))
        running(farm, job)
        assert worker.stop(signal.SIGINT) == 0
        row = farm.ledger.job(job)
        assert (row.state, row.owner, row.tries) == ("waiting", None, {})
        gate.touch()
        yard.worker()
        assert ended(farm, [job])[0].state == "succeeded"


@pytest.mark.slow
def test_a_second_signal_does_not_wait_for_the_grace(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--grace", "86400")
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("hangs"))
        running(farm, job)
        worker.process.send_signal(signal.SIGTERM)
        until(lambda: "stopping:" in worker.log())
        assert worker.process.poll() is None
        assert worker.stop() == 0
        assert farm.ledger.job(job).state == "waiting"
    assert processes_below(yard.folder / "cache") == []


@pytest.mark.slow
def test_a_build_may_finish_in_the_time_of_grace(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--grace", "86400")
    gate = yard.folder / "gate"
    with yard.farm() as farm:
        first, second = yard.enqueue(farm, pack("waits"), 2, GATE=str(gate))
        worker_has = until(lambda: farm.ledger.job(first).owner)
        assert worker_has == worker.id
        worker.process.send_signal(signal.SIGTERM)
        gate.touch()
        assert worker.process.wait(60) == 0
        states = {farm.ledger.job(job).state for job in (first, second)}
    assert states <= {"succeeded", "waiting"}
    assert "succeeded" in states


def test_one_that_the_farm_drains_finishes_and_ends_well(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--slots", "1")
    gate = yard.folder / "gate"
    with yard.farm() as farm:
        first, second = yard.enqueue(farm, pack("waits"), 2, GATE=str(gate))
        running(farm, first)
        farm.registry.set_state(worker.id, "draining", "for a test")
        until(lambda: "drained" in worker.log())
        gate.touch()
        assert worker.process.wait(60) == 0
        assert farm.ledger.job(first).state == "succeeded"
        assert farm.ledger.job(second).state == "waiting"


@pytest.mark.slow
def test_nothing_stays_of_one_that_is_killed_and_another_does_its_job(
    yard: Yard, pack: Pack
) -> None:
    worker = yard.worker()
    gate = yard.folder / "gate"
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("waits"), GATE=str(gate))
        until(lambda: processes_below(yard.folder / "cache" / "scratch"))
        worker.end()
        until(lambda: not processes_below(yard.folder / "cache" / "scratch"))
        gate.touch()
        other = yard.worker()
        (row,) = ended(farm, [job])
        assert (row.state, row.tries) == ("succeeded", {"lost": 1})
        until(lambda: not yard.left_over())
    assert other.stop() == 0


def test_below_the_least_free_disk_it_takes_nothing_and_says_so(yard: Yard, pack: Pack) -> None:
    worker = yard.worker("--min-free", str(1 << 40))
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("pure"))
        said = until(lambda: farm.registry.all()[0].facts.get("takes_no_job"))
        assert "MiB of disk are free" in said
        assert farm.ledger.job(job).state == "waiting"
    assert worker.stop() == 0
    assert worker.log().count("no job is taken") == 1


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--target", "mars"], 2, "error[bad-target]: no such target: 'mars'"),
        (["--target", "native:/bin/ls"], 2, "error[not-an-interpreter]"),
        (["--slots", "0"], 2, "Error: Invalid value for '--slots'"),
        (["--store", "/proc/nowhere"], 3, "error[store-trouble]"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(
    yard: Yard, arguments: list[str], status: int, sentence: str
) -> None:
    worker = yard.start("--target", "native", *arguments)
    assert (worker.process.wait(60), worker.offer) == (status, "")
    assert sentence in worker.log()


def test_a_broker_that_is_no_redis_is_refused(yard: Yard) -> None:
    worker = yard.start("--target", "native", WHEELFARM_BROKER="amqp://me:secret@there")
    assert worker.process.wait(60) == 2
    assert "error[usage]: the broker is no Redis" in worker.log()
    assert "secret" not in worker.log()


def test_a_store_of_a_newer_wheelfarm_is_refused(yard: Yard) -> None:
    with yard.farm() as farm, farm.store.database.writing() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    worker = yard.start("--target", "native")
    assert worker.process.wait(60) != 0
    assert "error[not-a-store]" in worker.log()
    assert "open it with the newer wheelfarm that made it" in worker.log()


@pytest.mark.slow
def test_a_toolchain_that_is_replaced_is_measured_anew_and_nothing_is_published_before(
    yard: Yard, pack: Pack
) -> None:
    venv.create(yard.folder / "venv", symlinks=False, with_pip=False)
    python = yard.folder / "venv" / "bin" / "python3"
    copy = python.with_name("copy")
    worker = yard.worker("--slots", "1", target=f"native:{python}")
    gate = yard.folder / "gate"
    with yard.farm() as farm:
        (job,) = yard.enqueue(farm, pack("waits"), GATE=str(gate))
        running(farm, job)
        copy.write_bytes(python.read_bytes())
        copy.chmod(0o755)
        copy.replace(python)  # while its build is running
        gate.touch()
        (row,) = ended(farm, [job])
        assert (row.state, row.tries) == ("succeeded", {"infrastructure": 1})
        assert "a toolchain was changed under this worker" in worker.log()
    assert worker.stop() == 0
