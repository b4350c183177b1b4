"""The rules of failure: every kind comes to an end, and goes on only as its rule says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.farm.rules import (
    LARGEST_MEMORY_CLASS,
    LONGEST_WAIT_SECONDS,
    LOSING_RUN,
    RULES,
    JobFailure,
    Situation,
    backoff,
    decide,
)

kinds = st.sampled_from(sorted(RULES))
situations = st.builds(
    Situation,
    tries=st.dictionaries(kinds, st.integers(1, 6)),
    losing_run=st.integers(0, 6),
    others=st.integers(0, 3),
    larger=st.booleans(),
)


@given(kind=kinds, situation=situations)
def test_a_decision_never_asks_for_what_is_not_there(
    kind: JobFailure, situation: Situation
) -> None:
    decision = decide(kind, situation)
    assert not decision.elsewhere or situation.others
    assert not decision.larger or situation.larger
    assert not (decision.again and decision.remembered)
    assert 0 <= decision.wait_seconds <= LONGEST_WAIT_SECONDS
    assert not decision.remembered or RULES[kind].remembered


@given(kind=kinds, others=st.integers(0, 3), larger=st.booleans(), run=st.integers(0, 9))
def test_every_kind_ends_after_so_many_tries(
    kind: JobFailure, others: int, larger: bool, run: int
) -> None:
    for count in range(1, 10):
        situation = Situation(tries={kind: count}, losing_run=run, others=others, larger=larger)
        if not decide(kind, situation).again:
            break
    assert count <= max(RULES[kind].tries, 2)


@pytest.mark.parametrize("kind", ["build", "unsupported", "policy", "verification"])
def test_the_sdists_own_fault_is_final_at_once_and_remembered(kind: JobFailure) -> None:
    decision = decide(kind, Situation(tries={kind: 1}, others=3, larger=True))
    assert (decision.again, decision.remembered) == (False, True)


def test_a_worker_that_fails_one_build_after_the_other_is_not_believed() -> None:
    losing = Situation(tries={"build": 1}, losing_run=LOSING_RUN, others=1)
    assert decide("build", losing).elsewhere
    alone = Situation(tries={"build": 1}, losing_run=LOSING_RUN, others=0)
    assert not decide("build", alone).again
    second = Situation(tries={"build": 2}, losing_run=LOSING_RUN, others=1)
    assert decide("build", second).remembered


def test_out_of_memory_goes_up_a_class_while_there_is_one() -> None:
    assert decide("memory", Situation(tries={"memory": 1}, larger=True)).larger
    assert not decide("memory", Situation(tries={"memory": 1}, larger=False)).again
    last = Situation(tries={"memory": LARGEST_MEMORY_CLASS}, larger=True)
    assert not decide("memory", last).again


def test_waiting_doubles_up_to_a_limit() -> None:
    assert [backoff(count) for count in range(1, 9)] == [5, 10, 20, 40, 80, 160, 300, 300]
    assert backoff(10**9) == LONGEST_WAIT_SECONDS


def test_the_farms_trouble_is_never_remembered() -> None:
    for kind in ("infrastructure", "lost", "died", "no-worker"):
        assert not RULES[kind].remembered
