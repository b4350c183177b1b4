"""Why a job is not running: each answer, through the desk, over both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.access import Actor, ChannelPattern
from store.channel import Channel
from tests.workers.farm.conftest import CROSS, LARGER, QUEUE, work, worker
from workers.farm.desk import FarmDesk
from workers.farm.farm import Farm, open_farm
from workers.farm.jobs import Claim
from workers.farm.line import Ask, Order
from workers.farm.rules import Decision
from workers.settings import Settings

OUTCOME = {"status": "trouble", "message": "the disk is full"}


@pytest.fixture
def farm(database_url: str | None, tmp_path: Path) -> Iterator[Farm]:
    settings = Settings(store=tmp_path / "store", cache=tmp_path / "cache", database=database_url)
    with open_farm(settings) as opened:
        yield opened


def queued(farm: Farm, *names: str) -> list[int]:
    return farm.ledger.enqueue([Order(work=work(name), submitter="ann") for name in names])


def claimed(farm: Farm, name: str = "w1") -> Claim:
    claim = farm.ledger.claim(Ask(worker=name, queues=(QUEUE,)))
    assert claim is not None
    return claim


def why(farm: Farm, job: int) -> tuple[str, str]:
    told = FarmDesk(farm, Actor(who="ann")).why(job)
    return told.code, told.sentence


def test_nobody_offers_it_and_the_nearest_is_named(farm: Farm) -> None:
    (job,) = queued(farm, "rye")
    code, sentence = why(farm, job)
    assert code == "no-worker"
    assert "the farm has no worker at all" in sentence
    farm.registry.enter(worker("mac", CROSS))
    farm.registry.enter(worker("big", LARGER))
    code, sentence = why(farm, job)
    assert code == "no-worker"
    assert "mac offers only cross-" in sentence
    assert "big takes memory class 2 at most" in sentence


def test_its_place_in_line_and_who_is_before_it(farm: Farm) -> None:
    farm.registry.enter(worker("w1", slots=1))
    jobs = queued(farm, "rye", "oat", "millet")
    running = claimed(farm)
    assert why(farm, running.job_id)[0] == "running"
    left = [job for job in jobs if job != running.job_id]
    told = [why(farm, job) for job in left]
    assert [code for code, _ in told] == ["in-line", "in-line"]
    assert "it is number 1 in the queue" in told[0][1]
    assert "1 worker with 1 slot take it, 1 of them busy" in told[0][1]
    assert "it is number 2 in the queue" in told[1][1]
    assert "1 job is ahead" in told[1][1]


def test_jobs_of_channels_that_the_caller_may_not_read_are_counted_not_named(farm: Farm) -> None:
    farm.registry.enter(worker("w1", slots=1))
    first, second, third = farm.ledger.enqueue(
        [
            Order(work=work("secret", channel=Channel("dev/theirs")), submitter="ann"),
            Order(work=work("rye", channel=Channel("dev/ours")), submitter="ann"),
            Order(work=work("oat", channel=Channel("dev/ours")), submitter="ann"),
        ]
    )
    desk = FarmDesk(farm, Actor(who="ann"))
    told = desk.why(third, (ChannelPattern("dev/ours"),))
    assert "2 jobs are ahead (rye==1.0, …)" in told.sentence
    assert "secret" not in told.model_dump_json()
    told = desk.why(second, (ChannelPattern("dev/ours"),))
    assert "1 job is ahead;" in told.sentence
    assert "secret==1.0" in desk.why(second).sentence
    assert first < second < third


def test_it_is_held_back_until_a_moment(farm: Farm) -> None:
    farm.registry.enter(worker("w1"))
    (job,) = queued(farm, "rye")
    later = Decision(again=True, wait_seconds=600)
    farm.ledger.fail(claimed(farm), "infrastructure", later, {"outcome": OUTCOME})
    assert farm.ledger.claim(Ask(worker="w1", queues=(QUEUE,))) is None
    code, sentence = why(farm, job)
    assert code == "held"
    assert "after a failure of kind infrastructure (1 of " in sentence
    assert sentence.endswith(": the disk is full")


def test_it_waits_for_another_worker_than_the_one_that_failed_it(farm: Farm) -> None:
    farm.registry.enter(worker("w1"))
    (job,) = queued(farm, "rye")
    elsewhere = Decision(again=True, elsewhere=True)
    farm.ledger.fail(claimed(farm), "infrastructure", elsewhere, {"outcome": OUTCOME})
    assert why(farm, job)[0] == "elsewhere"
    farm.registry.enter(worker("w2"))
    assert why(farm, job)[0] == "in-line"
    assert claimed(farm, "w2").job_id == job


def test_what_is_over_says_how_it_ended(farm: Farm) -> None:
    farm.registry.enter(worker("w1"))
    jobs = queued(farm, "rye", "oat", "millet")
    final = Decision(again=False)
    farm.ledger.fail(
        claimed(farm), "build", final, {"outcome": {**OUTCOME, "first_error": "x.c:1"}}
    )
    farm.ledger.succeed(claimed(farm), {"status": "built", "filename": "oat.whl"}, None)
    farm.ledger.cancel(claimed(farm).job_id, "not wanted")
    told = dict(why(farm, job) for job in jobs)
    assert told == {
        "failed": "it failed (build): x.c:1",
        "succeeded": "it is done: oat.whl is in the store",
        "cancelled": "it was cancelled: not wanted",
    }


def test_a_submission_that_is_not_planned_yet(farm: Farm) -> None:
    desk = FarmDesk(farm, Actor(who="ann"))
    first = farm.submissions.create("ann", {})
    second = farm.submissions.create("bob", {})
    assert "after 1 other submission" in desk.why_submission(second).sentence
    assert desk.why_submission(first).code == "planning"
    claimed_by = farm.submissions.create("eve", {}, planner="server-1")
    assert "server-1 is planning it" in desk.why_submission(claimed_by).sentence
    farm.submissions.cancel(first, "not wanted")
    assert desk.why_submission(first).code == "cancelled"
