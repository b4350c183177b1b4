"""The register of workers, and remembered failures, over both engines."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from store.database import Database, clock
from store.digest import sha256_of
from store.schema import failures as failure_table
from store.schema import farm_workers
from tests.workers.farm.conftest import CROSS, LARGER, QUEUE, work, worker
from workers.errors import UnknownJobError
from workers.farm.failures import Failures
from workers.farm.jobs import Claim
from workers.farm.ledger import Ledger
from workers.farm.line import Ask, Order
from workers.farm.registry import GONE_HOURS, Registry, ToolchainFacts, WorkerState, takers
from workers.farm.rules import STRIKES, Decision

OUTCOME = {"message": "no"}


def toolchain(compiler: str, name: str = "native") -> ToolchainFacts:
    return ToolchainFacts(
        fingerprint=work().fingerprint,
        name=name,
        sha256=sha256_of(compiler.encode()),
        identity={"compiler": compiler},
        tools={"uv": "1"},
    )


def test_a_worker_is_there_with_what_it_can_do(registry: Registry) -> None:
    registry.enter(worker("w1", QUEUE, LARGER))
    registry.enter(worker("w2", CROSS))
    assert [row.id for row in registry.ready()] == ["w1", "w2"]
    assert [row.id for row in takers(registry.all(), QUEUE)] == ["w1"]
    assert registry.beat("w1", {"disk_free_mib": 7}) == "ready"
    (row, _) = registry.all()
    assert row.facts == {"disk_free_mib": 7, "clock_ahead_seconds": 0}
    registry.set_state("w1", "draining", "maintenance")
    assert registry.beat("w1", {}) == "draining"
    assert takers(registry.all(), QUEUE) == []
    with pytest.raises(UnknownJobError):
        registry.beat("nobody", {})
    with pytest.raises(UnknownJobError):
        registry.set_state("nobody", "gone")


def test_one_that_is_silent_is_gone_until_it_comes_back(
    registry: Registry, database: Database
) -> None:
    registry.enter(worker("w1"))
    assert registry.bury_silent() == []
    with database.transaction() as connection:
        long_ago = clock(connection) - timedelta(hours=1)
        connection.execute(update(farm_workers).values(heartbeat_at=long_ago))
    assert registry.bury_silent() == ["w1"]
    assert registry.beat("w1", {}) == "gone"
    registry.enter(worker("w1"))
    assert [row.id for row in registry.ready()] == ["w1"]


def gone_since_yesterday(database: Database, name: str) -> None:
    with database.transaction() as connection:
        before = clock(connection) - timedelta(hours=GONE_HOURS, seconds=1)
        query = update(farm_workers).where(farm_workers.c.id == name)
        connection.execute(query.values(heartbeat_at=before, started_at=before, state="gone"))


def test_who_is_gone_for_a_day_is_forgotten(registry: Registry, database: Database) -> None:
    for name in ("old", "new", "there"):
        registry.enter(worker(name))
    gone_since_yesterday(database, "old")
    registry.set_state("new", "gone")
    assert registry.prune() == ["old"]
    assert registry.prune() == []
    assert [row.id for row in registry.all()] == ["new", "there"]


def test_the_last_one_with_a_toolchain_is_remembered(
    registry: Registry, database: Database
) -> None:
    fingerprint = work().fingerprint
    for name in ("w1", "w2", "w3"):
        registry.enter(replace(worker(name), toolchains=(toolchain(name),)))
        gone_since_yesterday(database, name)
    assert sorted(registry.prune()) == ["w1", "w2"]
    assert registry.toolchains([fingerprint]) == {fingerprint: [toolchain("w3")]}
    registry.enter(replace(worker("w4"), toolchains=(toolchain("w4"),)))
    assert registry.prune() == ["w3"]
    assert registry.toolchains([fingerprint]) == {fingerprint: [toolchain("w4")]}


def test_only_the_ready_take_jobs(registry: Registry) -> None:
    states: tuple[WorkerState, ...] = ("ready", "draining", "set-aside", "gone")
    for state in states:
        registry.enter(worker(state))
        registry.set_state(state, state)
    assert [row.id for row in registry.ready()] == ["ready"]


def test_a_toolchain_is_known_once_and_of_the_living_first(registry: Registry) -> None:
    fingerprint = work().fingerprint
    registry.enter(replace(worker("w1"), toolchains=(toolchain("gcc 12"),)))
    registry.enter(replace(worker("w2"), toolchains=(toolchain("gcc 12"),)))
    assert registry.toolchains([fingerprint]) == {fingerprint: [toolchain("gcc 12")]}
    registry.learn("w2", toolchain("gcc 13"))
    compilers = {
        each.identity["compiler"] for each in registry.toolchains([fingerprint])[fingerprint]
    }
    assert compilers == {"gcc 12", "gcc 13"}
    registry.set_state("w1", "gone")
    assert registry.toolchains([fingerprint]) == {fingerprint: [toolchain("gcc 13")]}
    registry.set_state("w2", "gone")
    assert len(registry.toolchains([fingerprint])[fingerprint]) == 2, "better old ones than none"
    assert registry.toolchains_of("w1") == [toolchain("gcc 12")]


def test_a_worker_that_fails_what_others_build_is_set_aside(
    registry: Registry, ledger: Ledger
) -> None:
    for name in ("bad", "good"):
        registry.enter(worker(name))
    for number in range(STRIKES):
        ledger.enqueue([Order(work=work(f"p{number}"), submitter="ann")])
        claim = _claim(ledger, "bad")
        ledger.fail(claim, "infrastructure", Decision(again=True), {"outcome": OUTCOME})
        better = _claim(ledger, "good")
        ledger.succeed(better, OUTCOME, None)
        aside = registry.count_success(better)
    assert aside == ["bad"]
    assert {row.id: row.state for row in registry.all()} == {"bad": "set-aside", "good": "ready"}
    registry.set_state("bad", "ready")
    assert [row.strikes for row in registry.all()] == [0, 0]


def test_a_success_ends_a_losing_run(registry: Registry, ledger: Ledger) -> None:
    registry.enter(worker("w1"))
    for count in (1, 2, 3):
        registry.count_loss("w1")
        assert registry.losing_run("w1") == count
    ledger.enqueue([Order(work=work(), submitter="ann")])
    registry.count_success(_claim(ledger, "w1"))
    assert registry.losing_run("w1") == 0


def test_a_failure_is_remembered_for_its_time(database: Database) -> None:
    failures = Failures(database, ttl_seconds=60)
    failures.remember("k1", "build", OUTCOME, "w1")
    failures.remember("k1", "timeout", OUTCOME, "w2")
    known = failures.known(["k1", "k2"])
    assert [(one.kind, one.worker) for one in known.values()] == [("timeout", "w2")]
    assert failures.forget("k1")
    assert not failures.forget("k1")
    failures.remember("k1", "build", OUTCOME, "w1")
    with database.transaction() as connection:
        connection.execute(update(failure_table).values(expires_at=clock(connection)))
    assert failures.known(["k1"]) == {}


def _claim(ledger: Ledger, name: str) -> Claim:
    claim = ledger.claim(Ask(worker=name, queues=(QUEUE,)))
    assert claim is not None
    return claim
