"""Waiting for what is away: for trouble that passes, for a time, as long as anybody wants it."""

from __future__ import annotations

import pytest

from store.errors import StoreError, StoreUnreachableError
from workers.errors import LeaseLostError
from workers.farm.patience import Bounds, Patience, patiently

QUICK = Bounds(trouble=StoreError, seconds=60, first_pause=0.001, longest_pause=0.004)


class Store:
    """Answers after so many failures."""

    def __init__(self, failures: int, error: Exception) -> None:
        self.calls, self._failures, self._error = 0, failures, error

    def ask(self) -> int:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error
        return self.calls


def test_what_is_away_is_asked_again_and_every_wait_is_told() -> None:
    told: list[str] = []
    store = Store(4, StoreUnreachableError("away"))
    assert patiently(store.ask, Patience(QUICK, tell=told.append)) == 5
    pauses = ["0.001", "0.002", "0.004", "0.004"]
    assert told == [f"away; trying again in {pause} s" for pause in pauses]


@pytest.mark.parametrize("error", [StoreError("the disk is full"), LeaseLostError("gone")])
def test_what_does_not_pass_is_not_asked_again(error: Exception) -> None:
    store = Store(1, error)
    with pytest.raises(type(error)):
        patiently(store.ask, Patience(QUICK))
    assert store.calls == 1


def test_it_ends_when_its_time_is_over_or_nobody_wants_it() -> None:
    store = Store(1_000_000, StoreUnreachableError("away"))
    none = Bounds(trouble=StoreError, seconds=0, first_pause=0.001, longest_pause=0.001)
    with pytest.raises(StoreUnreachableError):
        patiently(store.ask, Patience(none))
    with pytest.raises(StoreUnreachableError):
        patiently(store.ask, Patience(QUICK, given_up=lambda: store.calls > 3))
    assert store.calls > 3
