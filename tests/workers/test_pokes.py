"""Pokes through a real Redis: heard, lost, late, twice, forged; and a Redis that goes away."""

from __future__ import annotations

import json
import pickle
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import select

from builder.interpreter import measure
from store.schema import job_events
from tests.services import Redis
from tests.workers.yard import Worker, Yard, ended, running, until
from workers.app import CeleryPoker, listening, make_app
from workers.farm.abilities import find_abilities
from workers.farm.farm import Farm
from workers.farm.poke import Poke
from workers.farm.station import Shift, Station
from workers.farm.work import capability_of, queue_of
from workers.tasks import POKE

Pack = Callable[[str], Path]


@pytest.fixture
def yard(tmp_path: Path, redis_url: str) -> Iterator[Yard]:
    made = Yard(tmp_path, broker=redis_url)
    yield made
    made.close()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Redis]:
    """A Redis of one test's own, which it may stop, start and empty."""
    server = Redis(tmp_path)
    server.start()
    yield server
    server.stop()


def forget(server: Redis, how: str) -> None:
    """Let the Redis lose all that it has."""
    if how == "restarted":
        server.stop()
        server.start()
    with redis.Redis.from_url(server.url) as client:
        client.flushall()


@contextmanager
def farm_of(yard: Yard) -> Iterator[tuple[Farm, CeleryPoker]]:
    """The farm as a server has it: with a poker."""
    poker = CeleryPoker(make_app(str(yard.settings.farm.broker)))
    try:
        with yard.farm(poker) as farm:
            yield farm, poker
    finally:
        poker.close()


@contextmanager
def deaf_station(yard: Yard, farm: Farm, app: Any) -> Iterator[Station]:
    """A station that would look by itself only after the test's time: it works by pokes alone."""
    abilities = find_abilities(["native"], yard.settings)
    station = Station(farm, abilities, Shift(slots=2, poll_seconds=86_400))
    station.start()
    with listening(app, station, 2):
        yield station
        station.stop()


def test_a_poke_alone_starts_a_job(yard: Yard, pack: Pack, redis_url: str) -> None:
    with farm_of(yard) as (farm, _), deaf_station(yard, farm, make_app(redis_url)):
        for _ in range(3):
            (row,) = ended(farm, yard.enqueue(farm, pack("pure"), 1, ROUND=str(_)))
            assert row.state == "succeeded"


@pytest.mark.slow
def test_a_visibility_timeout_shorter_than_a_build_does_no_harm(
    yard: Yard, pack: Pack, redis_url: str
) -> None:
    gate = yard.folder / "gate"
    app = make_app(redis_url, visibility_seconds=1)
    with farm_of(yard) as (farm, _), deaf_station(yard, farm, app):
        jobs = yard.enqueue(farm, pack("waits"), 6, GATE=str(gate))
        running(farm, jobs[0])
        threading.Event().wait(4)  # several times the timeout, with pokes unacknowledged
        gate.touch()
        rows = ended(farm, jobs)
        assert [(row.state, row.token) for row in rows] == [("succeeded", 1)] * 6


def test_a_poke_that_comes_twice_or_too_late_does_no_harm(
    yard: Yard, pack: Pack, redis_url: str
) -> None:
    with farm_of(yard) as (farm, poker), deaf_station(yard, farm, make_app(redis_url)):
        (job,) = yard.enqueue(farm, pack("pure"))
        (row,) = ended(farm, [job])
        poker.poke([Poke(job_id=job, queue=row.queue)] * 5)
        (other,) = ended(farm, yard.enqueue(farm, pack("pure"), 1, ROUND="2"))
        assert (farm.ledger.job(job), other.state) == (row, "succeeded")


def test_jobs_go_to_the_worker_that_can_do_them(
    yard: Yard, pack: Pack, interpreters: list[Path]
) -> None:
    others = [path for path in interpreters if path.resolve() != Path(sys.executable).resolve()]
    if not others:
        pytest.skip("the machine has one interpreter")
    mine, other = yard.worker(), yard.worker(target=f"native:{others[-1]}")
    target = measure(others[-1]).target()
    sdist = pack("two-minded")
    with farm_of(yard) as (farm, _):
        farm.store.keep(sdist)
        orders = yard.orders(sdist, 3) + yard.orders(sdist, 3, target=target)
        jobs = farm.ledger.enqueue(orders)
        rows = ended(farm, jobs)
        assert [row.state for row in rows] == ["succeeded"] * 6
        workers = {who(farm, row.id) for row in rows[:3]}, {who(farm, row.id) for row in rows[3:]}
        assert workers == ({mine.id}, {other.id})


def who(farm: Farm, job: int) -> str | None:
    """Who claimed the job last."""
    event = job_events.c
    query = select(event.worker).where(event.job_id == job, event.kind == "claim")
    with farm.store.database.reading() as connection:
        found: list[str | None] = list(connection.execute(query.order_by(event.id)).scalars())
    return found[-1]


@pytest.mark.parametrize("how", ["flushed", pytest.param("restarted", marks=pytest.mark.slow)])
def test_a_redis_that_forgets_loses_no_job(
    yard: Yard, pack: Pack, own_redis: Redis, how: str
) -> None:
    own = Yard(yard.folder / "own", broker=own_redis.url)
    worker = own.worker("--slots", "1")
    try:
        gate = own.folder / "gate"
        with farm_of(own) as (farm, _):
            jobs = own.enqueue(farm, pack("waits"), 4, GATE=str(gate))
            running(farm, jobs[0])
            forget(own_redis, how)
            gate.touch()
            assert {row.state for row in ended(farm, jobs)} == {"succeeded"}
            (late,) = ended(farm, own.enqueue(farm, pack("pure")))
            assert late.state == "succeeded"
        assert worker.stop() == 0
    finally:
        own.close()


@pytest.mark.slow
def test_without_its_broker_a_worker_looks_by_itself_and_says_so_once(
    yard: Yard, pack: Pack, own_redis: Redis
) -> None:
    own_redis.stop()
    own = Yard(yard.folder / "own", broker=own_redis.url)
    worker = own.worker()
    try:
        with farm_of(own) as (farm, _):
            (row,) = ended(farm, own.enqueue(farm, pack("pure")))
            assert row.state == "succeeded"
            until(lambda: "the broker is away" in worker.log())
            own_redis.start()
            until(lambda: "listening for pokes at redis://" in worker.log())
            (row,) = ended(farm, own.enqueue(farm, pack("pure"), 1, ROUND="2"))
            assert row.state == "succeeded"
        assert worker.stop() == 0
        assert worker.log().count("the broker is away") == 1
    finally:
        own.close()


def test_a_poke_that_cannot_be_acknowledged_costs_a_line_of_the_log(
    own_redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with make_app(own_redis.url).connection_for_read() as connection:
        queue = connection.SimpleQueue("some")
        queue.put({})
        message = queue.get(timeout=60)
        own_redis.stop()
        message.ack_log_error(None, ())
        assert "a poke that was heard may come again" in caplog.text
        own_redis.start()


def envelope(body: bytes, **more: Any) -> dict[str, Any]:
    """A message as Celery puts it into Redis."""
    headers = {"lang": "py", "task": POKE, "id": "x", "root_id": "x", "argsrepr": "", **more}
    return {
        "body": b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": headers,
        "properties": {
            "correlation_id": "x", "delivery_mode": 2, "priority": 0, "body_encoding": "base64",
            "delivery_tag": "x", "delivery_info": {"exchange": "", "routing_key": "x"},
        },
    }  # fmt: skip


def poke_with(*arguments: Any) -> bytes:
    return json.dumps(envelope(json.dumps([arguments, {}, {}]).encode())).encode()


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/wheelfarm-bomb"),))


PICKLED = envelope(pickle.dumps(Bomb()))
PICKLED["content-type"] = "application/x-python-serialize"

GARBAGE = {
    "not JSON": b"\x00\xff garbage",
    "a number": b"5",
    "a list": b"[1, 2]",
    "an empty object": b"{}",
    "deep": b"[" * 100_000,
    "no body": json.dumps({"properties": {"delivery_tag": "x"}}).encode(),
    "pickle": json.dumps(PICKLED).encode(),
    "another task": json.dumps(envelope(b"[[1], {}, {}]", task="os.system")).encode(),
    "a body that is no JSON": json.dumps(envelope(b"no")).encode(),
    "a body of 10 MB": json.dumps(envelope(b"[[" + b"1" * (10 << 20) + b"], {}, {}]")).encode(),
    "a string of 10 MB": poke_with("x" * (10 << 20)),
    "a path": poke_with("../x"),
    "negative": poke_with(-1),
    "huge": poke_with(10**30),
    "true": poke_with(True),
    "two": poke_with(1, 2),
    "none": poke_with(),
    "a job that is not there": poke_with(1 << 40),
}


@pytest.fixture(scope="module")
def hardened(
    tmp_path_factory: pytest.TempPathFactory, redis_server: str
) -> Iterator[tuple[Yard, Worker]]:
    yard = Yard(tmp_path_factory.mktemp("hardened"), broker=redis_server)
    yield yard, yard.worker()
    yard.close()


@pytest.mark.xdist_group("hardened")
@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_in_the_queue_is_dropped_and_the_worker_works_on(
    hardened: tuple[Yard, Worker], redis_server: str, what: str
) -> None:
    yard, worker = hardened
    queue = queue_of(capability_of(yard.native), 1)
    lines = len(worker.log().splitlines())
    with redis.Redis.from_url(redis_server) as client, farm_of(yard) as (_, poker):
        client.lpush(queue, GARBAGE[what])
        until(lambda: client.llen(queue) == 0)
        if what != "a job that is not there":
            until(lambda: "dropped" in "".join(worker.log().splitlines()[lines:]))
        # It hears still: a second piece of garbage is dropped too.
        client.lpush(queue, GARBAGE["negative"])
        lines = len(worker.log().splitlines())
        until(lambda: client.llen(queue) == 0)
        poker.poke([Poke(job_id=1, queue=queue)])
        until(lambda: client.llen(queue) == 0)
    assert worker.process.poll() is None
    assert not Path("/tmp/wheelfarm-bomb").exists()
    assert max(map(len, worker.log().splitlines())) < 2_000


def test_a_broker_that_fails_fails_no_submission(yard: Yard, pack: Pack) -> None:
    poker = CeleryPoker(make_app("redis://127.0.0.1:1/0"))
    with yard.farm(poker) as farm:
        jobs = yard.enqueue(farm, pack("pure"), 50)
        assert [farm.ledger.job(job).state for job in jobs] == ["waiting"] * 50
    poker.close()
