"""The ledger over SQLite and PostgreSQL: single flight, leases, fencing, fair shares."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import event, select, update

from store.database import Database, clock
from store.schema import job_events, jobs, log_pieces
from tests.workers.farm.conftest import CROSS, LARGER, QUEUE, work
from workers.errors import LeaseLostError, TransitionError, UnknownJobError
from workers.farm.jobs import Claim, fence
from workers.farm.ledger import Ledger
from workers.farm.line import Ask, Order
from workers.farm.rules import Decision
from workers.farm.work import Queue

OUTCOME = {"status": "built", "message": None}
FINAL = Decision(again=False)


def order(name: str = "wheaty", submitter: str = "ann", nice: int = 0) -> Order:
    return Order(work=work(name), submitter=submitter, nice=nice)


def ask(name: str = "w1", *queues: Queue) -> Ask:
    return Ask(worker=name, queues=queues or (QUEUE,))


def claimed(ledger: Ledger, name: str = "w1") -> Claim:
    claim = ledger.claim(ask(name))
    assert claim is not None
    return claim


def lapse(database: Database, claim: Claim) -> None:
    """Let the lease be over by the database's clock."""
    with database.transaction() as connection:
        past = clock(connection) - timedelta(seconds=1)
        query = update(jobs).where(jobs.c.id == claim.job_id)
        connection.execute(query.values(lease_until=past))


def test_the_clock_of_the_database_is_asked_once_for_all_that_is_queued(
    ledger: Ledger, database: Database
) -> None:
    said: list[str] = []
    event.listen(database._engine, "before_cursor_execute", lambda *about: said.append(about[2]))
    made = ledger.enqueue([order("rye"), order("oat"), order("rye")])
    assert sum("clock_timestamp" in statement for statement in said) == database.in_postgresql
    with database.reading() as connection:
        created = set(connection.execute(select(jobs.c.created_at)).scalars())
        noted = connection.execute(select(job_events.c.job_id, job_events.c.at)).all()
    assert {(row.job_id, row.at) for row in noted} == {(job, *created) for job in made}


def test_the_same_work_is_one_job_however_many_ask(ledger: Ledger) -> None:
    first = ledger.enqueue([order(), order("rye"), order()])
    assert first[0] == first[2] != first[1]
    assert ledger.enqueue([order(submitter="bob")]) == [first[0]]
    elsewhere = replace(work().source.origin, location="https://mirror.example/")
    same = replace(work(), source=replace(work().source, origin=elsewhere))
    assert ledger.enqueue([Order(work=same, submitter="cid")]) == [first[0]]


def test_a_hundred_at_once_get_one_job(ledger: Ledger) -> None:
    with ThreadPoolExecutor(16) as threads:
        made = list(threads.map(lambda n: ledger.enqueue([order(submitter=f"s{n}")]), range(100)))
    assert len({job for (job,) in made}) == 1
    assert ledger.waiting() == {QUEUE: 1}


def test_a_job_is_claimed_once_with_a_growing_token(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    claim = claimed(ledger)
    assert (claim.job_id, claim.token, claim.work) == (job, 1, work())
    assert ledger.claim(ask("w2")) is None
    ledger.hand_back(claim, "stops")
    assert claimed(ledger, "w2").token == 2
    with pytest.raises(LeaseLostError):
        ledger.hand_back(claim, "again")


def test_many_workers_at_once_get_each_job_once(ledger: Ledger) -> None:
    ledger.enqueue([order(f"p{n}") for n in range(40)])
    got: list[int] = []
    lock = threading.Lock()

    def work_on(name: str) -> None:
        misses = 0
        while misses < 3:
            claim = ledger.claim(ask(name))
            misses = misses + 1 if claim is None else 0
            if claim is not None:
                with lock:
                    got.append(claim.job_id)
                ledger.succeed(claim, OUTCOME, None)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work_on, [f"w{n}" for n in range(8)]))
    assert sorted(got) == sorted(set(got))
    assert len(got) == 40


def test_a_worker_gets_only_what_it_can_do(ledger: Ledger) -> None:
    ledger.enqueue([Order(work=work(portable=True), submitter="ann")])
    assert ledger.claim(ask("w1")) is None
    assert ledger.has_waiting([CROSS])
    assert not ledger.has_waiting([QUEUE])
    assert ledger.claim(ask("w1", QUEUE, CROSS)) is not None


def test_the_urgent_come_first_then_who_had_least(ledger: Ledger) -> None:
    ledger.enqueue([order(f"many{n}", "ann") for n in range(5)])
    ledger.enqueue([order("single", "bob")])
    ledger.enqueue([order("urgent", "cid", nice=-5)])
    names = [claimed(ledger).work.source.name for _ in range(4)]
    assert names[0] == "urgent"
    assert "single" in names[1:3], "one job of bob's does not wait for all of ann's"


def test_who_was_busy_before_is_not_punished_later(ledger: Ledger) -> None:
    ledger.enqueue([order(f"old{n}", "ann") for n in range(30)])
    for _ in range(30):
        ledger.succeed(claimed(ledger), OUTCOME, None)
    ledger.enqueue([order(f"bob{n}", "bob") for n in range(10)])
    ledger.enqueue([order("ann", "ann")])
    names = [claimed(ledger).work.source.name for _ in range(3)]
    assert "ann" in names


def test_what_a_second_submitter_needs_soon_becomes_urgent(ledger: Ledger) -> None:
    ledger.enqueue([order("slow"), order("wanted")])
    ledger.enqueue([order("wanted", "bob", nice=-3)])
    assert claimed(ledger).work.source.name == "wanted"


def test_a_lapsed_lease_is_handed_on_and_its_worker_may_not_publish(
    ledger: Ledger, database: Database
) -> None:
    ledger.enqueue([order()])
    stale = claimed(ledger)
    assert ledger.expired() == []
    lapse(database, stale)
    (row,) = ledger.expired()
    assert ledger.expire(row, Decision(again=True, elsewhere=True), OUTCOME)
    assert not ledger.expire(row, Decision(again=True), OUTCOME), "it is handed on once"
    assert ledger.claim(ask("w1")) is None, "its last worker is to be spared"
    fresh = claimed(ledger, "w2")
    with database.writing() as connection, pytest.raises(LeaseLostError):
        fence(stale)(connection)
    with database.writing() as connection:
        fence(fresh)(connection)
    assert ledger.beat([stale, fresh]) == [stale]
    with pytest.raises(LeaseLostError):
        ledger.succeed(stale, OUTCOME, None)
    ledger.succeed(fresh, OUTCOME, "k" * 64)
    row = ledger.job(fresh.job_id)
    assert (row.state, row.build_key, row.tries) == ("succeeded", "k" * 64, {"lost": 1})


def test_a_renewed_lease_does_not_lapse(ledger: Ledger, database: Database) -> None:
    ledger.enqueue([order()])
    claim = claimed(ledger)
    lapse(database, claim)
    (row,) = ledger.expired()
    assert ledger.beat([claim]) == []
    assert not ledger.expire(row, Decision(again=True), OUTCOME)
    assert ledger.job(claim.job_id).state == "running"


def test_a_failure_waits_moves_up_or_ends_as_it_was_decided(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    told = {"outcome": OUTCOME}
    ledger.fail(claimed(ledger), "infrastructure", Decision(again=True, wait_seconds=600), told)
    assert ledger.claim(ask()) is None, "it waits"
    ledger.cancel(job, "enough")
    ledger.again(job)
    ledger.fail(claimed(ledger), "memory", Decision(again=True, larger=True), told)
    assert ledger.claim(ask()) is None
    claim = ledger.claim(ask("w9", QUEUE, LARGER))
    assert claim is not None
    assert claim.queue == LARGER
    ledger.fail(claim, "build", FINAL, told | {"build_key": "b" * 64, "log_sha256": "c" * 64})
    row = ledger.job(job)
    assert (row.state, row.failure, row.tries) == ("failed", "build", {"memory": 1, "build": 1})
    assert row.finished_at is not None
    assert row.owner is None


def test_a_worker_is_forgiven_where_there_is_no_other(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    told = {"outcome": OUTCOME}
    ledger.fail(claimed(ledger), "timeout", Decision(again=True, elsewhere=True), told)
    assert [row.id for row in ledger.avoiding()] == [job]
    assert ledger.claim(ask()) is None
    ledger.forgive([job])
    assert claimed(ledger).job_id == job


def test_a_cancelled_job_is_lost_to_its_worker_and_can_be_wanted_again(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    claim = claimed(ledger)
    ledger.cancel(job, "not wanted")
    assert ledger.beat([claim]) == [claim]
    with pytest.raises(TransitionError, match="is cancelled"):
        ledger.cancel(job, "twice")
    ledger.again(job)
    assert claimed(ledger).token == 2


def test_one_that_was_asked_for_anew_meanwhile_is_not_run_twice(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    ledger.cancel(job, "not wanted")
    (other,) = ledger.enqueue([order()])
    assert other != job
    with pytest.raises(TransitionError, match=f"job {other} is doing the same work"):
        ledger.again(job)


def test_a_job_that_is_over_cannot_be_tried_again(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([order()])
    ledger.succeed(claimed(ledger), OUTCOME, None)
    with pytest.raises(TransitionError, match="is succeeded"):
        ledger.again(job)
    with pytest.raises(UnknownJobError):
        ledger.cancel(10**6, "none")


def test_giving_up_is_for_those_that_wait(ledger: Ledger) -> None:
    first, second = ledger.enqueue([order(), order("rye")])
    assert [row.id for row in ledger.waiting_since(QUEUE, timedelta(seconds=-1))] == [first, second]
    assert ledger.waiting_since(QUEUE, timedelta(hours=1)) == []
    claim = claimed(ledger)
    assert not ledger.give_up(claim.job_id, "no-worker", OUTCOME)
    assert ledger.give_up(second, "no-worker", OUTCOME)
    assert ledger.job(second).failure == "no-worker"


def test_no_piece_of_a_live_log_outlives_its_job_however_it_ends(
    ledger: Ledger, database: Database
) -> None:
    def left() -> int:
        with database.reading() as connection:
            return len(connection.execute(select(log_pieces)).all())

    for name, end in (("a", "cancel"), ("b", "expire")):
        (job,) = ledger.enqueue([order(name)])
        claim = claimed(ledger)
        ledger.write_log(claim, 0, b"gcc ...")
        assert left() == 1
        if end == "cancel":
            ledger.cancel(job, "for a test")
        else:
            lapse(database, claim)
            (row,) = ledger.expired()
            assert ledger.expire(row, FINAL, OUTCOME)
        assert left() == 0
