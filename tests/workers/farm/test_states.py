"""The table of states: what may happen when, and that every job can come to an end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.errors import TransitionError
from workers.farm.states import EVENTS, FINAL, OPEN, STATES, TRANSITIONS, State, after, sources

states = st.sampled_from(sorted(STATES))
events = st.sampled_from(sorted(EVENTS))


@given(state=states, happened=st.lists(events, max_size=40))
def test_whatever_happens_a_job_is_in_a_known_state_or_it_is_refused(
    state: State, happened: list[str]
) -> None:
    for event in happened:
        if (state, event) in TRANSITIONS:
            state = after(state, event)  # type: ignore[arg-type]
            assert state in STATES
            continue
        with pytest.raises(TransitionError, match=state):
            after(state, event)  # type: ignore[arg-type]


def test_open_and_final_are_all_there_is() -> None:
    assert OPEN | FINAL == STATES
    assert not OPEN & FINAL


def test_a_wheel_in_the_store_is_final() -> None:
    assert not [event for state, event in TRANSITIONS if state == "succeeded"]


@pytest.mark.parametrize("state", sorted(STATES))
def test_from_every_open_state_each_final_one_can_be_reached(state: State) -> None:
    reached, seen = {state}, set[str]()
    while reached - seen:
        one = (reached - seen).pop()
        seen.add(one)
        reached |= {to for (known, _), to in TRANSITIONS.items() if known == one}
    assert reached >= FINAL if state in OPEN else state in FINAL


def test_sources_are_the_inverse_of_the_table() -> None:
    for event in EVENTS:
        assert sources(event) == {s for s in STATES if (s, event) in TRANSITIONS}
