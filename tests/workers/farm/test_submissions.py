"""Submissions over both engines: shared jobs, withdrawal, planning that survives its planner."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from store.database import Database, clock
from store.schema import submissions as table
from tests.workers.farm.conftest import QUEUE, work
from workers.errors import UnknownJobError
from workers.farm.ledger import Ledger
from workers.farm.line import Ask, Order
from workers.farm.submissions import Item, Submissions
from workers.outcome import outcome_of


@pytest.fixture
def submissions(database: Database) -> Submissions:
    return Submissions(database)


def item(name: str = "wheaty", target: str = "native") -> Item:
    return Item(target=target, wanted=Order(work=work(name), submitter="ann"))


def done(name: str) -> Item:
    return Item(target="native", wanted=outcome_of(work(name), "native", "hit"))


def lapse(database: Database, submission: str) -> None:
    with database.transaction() as connection:
        past = clock(connection) - timedelta(seconds=1)
        connection.execute(update(table).where(table.c.id == submission).values(lease_until=past))


def test_items_are_jobs_or_outcomes_in_order(submissions: Submissions, ledger: Ledger) -> None:
    name = submissions.create("ann", {"wanted": 3})
    submissions.add(name, 0, [item(), done("rye")])
    submissions.add(name, 2, [item("oats", "mac")])
    rows = submissions.items(name)
    assert [(row.place, row.label, row.state) for row in rows] == [
        (0, "wheaty==1.0", "waiting"),
        (1, "rye==1.0", "done"),
        (2, "oats==1.0", "waiting"),
    ]
    assert rows[1].outcome == outcome_of(work("rye"), "native", "hit")
    assert submissions.counts(name) == {"waiting": 2, "done": 1}
    claim = ledger.claim(Ask(worker="w", queues=(QUEUE,)))
    assert claim is not None
    outcome = replace(outcome_of(work(), "its own name", "built"), filename="wheaty.whl")
    ledger.succeed(claim, outcome.to_json(), None)
    (row,) = submissions.items(name, [0])
    assert row.outcome == replace(outcome, target="native")
    assert submissions.states(name) == {0: ("succeeded", 1), 2: ("waiting", 0)}
    kinds = [event.kind for event in submissions.events(name)]
    assert kinds == ["enqueue", "enqueue", "claim", "succeed"]


def test_what_another_one_wants_is_not_cancelled(submissions: Submissions, ledger: Ledger) -> None:
    first, second = (submissions.create(who, {}) for who in ("ann", "bob"))
    submissions.add(first, 0, [item(), item("rye")])
    submissions.add(second, 0, [item("rye")])
    shared = submissions.items(second)[0].job_id
    assert submissions.cancel(first, "enough") == 1
    assert [row.state for row in submissions.items(first)] == ["cancelled", "waiting"]
    assert submissions.items(first)[0].outcome is not None
    assert submissions.cancel(second, "enough, too") == 1
    assert shared is not None
    assert ledger.job(shared).state == "cancelled"
    assert submissions.cancel(second, "twice") == 0


def test_a_planner_that_is_gone_is_followed_by_another(
    submissions: Submissions, database: Database
) -> None:
    name = submissions.create("ann", {"wanted": ["a"]})
    found = submissions.claim_planning("p1")
    assert found is not None
    assert (found.id, found.call) == (name, {"wanted": ["a"]})
    assert submissions.claim_planning("p2") is None
    submissions.add(name, 0, [item()])
    lapse(database, name)
    assert submissions.claim_planning("p2") is not None
    assert not submissions.beat(name, "p1")
    assert submissions.beat(name, "p2")
    submissions.add(name, 0, [item(), item("rye")])
    assert [row.label for row in submissions.items(name)] == ["wheaty==1.0", "rye==1.0"]
    submissions.planned(name)
    lapse(database, name)
    assert submissions.claim_planning("p3") is None


def test_a_refused_one_says_why_and_leaves_nothing_behind(
    submissions: Submissions, ledger: Ledger
) -> None:
    name = submissions.create("ann", {})
    submissions.add(name, 0, [item()])
    submissions.refuse(name, {"code": "conflicting-sources"})
    assert submissions.get(name).error == {"code": "conflicting-sources"}
    assert submissions.claim_planning("p") is None
    assert ledger.waiting() == {}


def test_a_local_run_that_is_gone_takes_its_jobs_with_it(
    submissions: Submissions, database: Database, ledger: Ledger
) -> None:
    local = submissions.create("ann", {}, planner="run-1")
    submissions.add(local, 0, [item(), item("rye")])
    submissions.planned(local, stays=False)
    lasting = submissions.create("bob", {})
    submissions.add(lasting, 0, [item("rye")])
    submissions.planned(lasting)
    assert submissions.cancel_lapsed() == 0
    lapse(database, local)
    lapse(database, lasting)
    assert submissions.cancel_lapsed() == 1
    assert [row.state for row in submissions.items(local)] == ["cancelled", "waiting"]
    assert submissions.cancel_lapsed() == 0


def test_a_name_that_is_none_is_a_sentence(submissions: Submissions) -> None:
    for call in (submissions.get, lambda name: submissions.cancel(name, "why")):
        with pytest.raises(UnknownJobError, match="no submission"):
            call("' OR 1=1")
