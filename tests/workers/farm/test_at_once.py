"""Orders that contradict each other, given at the same moment: over both engines, one of the two
orders of events must come out, never a third thing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from store.database import Database
from tests.workers.farm.conftest import work
from workers.errors import TransitionError
from workers.farm.ledger import Ledger
from workers.farm.line import Order
from workers.farm.submissions import Item, Submissions

ROUNDS = 15


def at_once(*acts: Callable[[], object]) -> list[object]:
    """What each act gives, or its TransitionError; all of them begin together."""
    gate = threading.Barrier(len(acts))

    def begin(act: Callable[[], object]) -> object:
        gate.wait(30)
        try:
            return act()
        except TransitionError as error:
            return error

    with ThreadPoolExecutor(len(acts)) as threads:
        return list(threads.map(begin, acts))


def wanting(submissions: Submissions, who: str, name: str) -> str:
    """A planned submission of one item."""
    made = submissions.create(who, {"wanted": 1})
    add(submissions, made, who, name)
    submissions.planned(made)
    return made


def add(submissions: Submissions, submission: str, who: str, name: str) -> None:
    order = Order(work=work(name), submitter=who)
    submissions.add(submission, 0, [Item(target="native", wanted=order)])


def test_a_job_that_two_withdraw_from_at_once_is_wanted_by_nobody(
    database: Database, ledger: Ledger
) -> None:
    submissions = Submissions(database)
    for number in range(ROUNDS):
        first, second = (wanting(submissions, who, f"p{number}") for who in ("ann", "bob"))
        ended = at_once(
            lambda one=first: submissions.cancel(one, "ann"),  # type: ignore[misc]
            lambda one=second: submissions.cancel(one, "bob"),  # type: ignore[misc]
        )
        assert sorted(map(str, ended)) == ["0", "1"]
        assert ledger.waiting() == {}


def test_who_joins_a_job_that_is_withdrawn_at_that_moment_gets_one_that_is_open(
    database: Database, ledger: Ledger
) -> None:
    submissions = Submissions(database)
    for number in range(ROUNDS):
        first = wanting(submissions, "ann", f"p{number}")
        second = submissions.create("bob", {"wanted": 1})
        at_once(
            lambda one=first: submissions.cancel(one, "ann"),  # type: ignore[misc]
            lambda one=second, name=f"p{number}": add(submissions, one, "bob", name),  # type: ignore[misc]
        )
        assert submissions.counts(second) == {"waiting": 1}
    assert sum(ledger.waiting().values()) == ROUNDS


def test_of_two_jobs_for_the_same_work_one_is_tried_again(ledger: Ledger) -> None:
    for number in range(ROUNDS):
        twins = []
        for _ in range(2):
            twins += ledger.enqueue([Order(work=work(f"p{number}"), submitter="ann")])
            ledger.cancel(twins[-1], "not wanted")
        ended = at_once(*(lambda job=job: ledger.again(job) for job in twins))
        assert [each for each in ended if each is None] == [None]
        (refused,) = [each for each in ended if each is not None]
        assert "is doing the same work already" in str(refused)


def test_of_many_who_cancel_a_job_one_does(ledger: Ledger) -> None:
    (job,) = ledger.enqueue([Order(work=work(), submitter="ann")])
    ended = at_once(*[lambda: ledger.cancel(job, "not wanted")] * 6)
    assert sum(each is None for each in ended) == 1
    assert all("is cancelled" in str(each) for each in ended if each is not None)
