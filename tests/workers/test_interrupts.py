"""Ctrl-C in the middle of a library's work, which fails at cleaning up."""

from __future__ import annotations

import pytest

from store.errors import StoreUnreachableError
from workers.farm.patience import FOR_THE_STORE, Patience, patiently
from workers.interrupts import interrupts_as_such
from workers.pool import JobProcess


def fail_at_cleaning_up(error: Exception) -> None:
    try:
        raise KeyboardInterrupt
    finally:
        raise error


def fail_twice(_: object = None) -> None:
    try:
        fail_at_cleaning_up(RuntimeError("in a transaction"))
    except RuntimeError as error:
        raise StoreUnreachableError("the catalogue cannot be used") from error


def test_an_error_that_follows_from_an_interrupt_is_one() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, interrupts_as_such():
        fail_twice()
    assert isinstance(caught.value.__cause__, StoreUnreachableError)


def test_any_other_error_is_itself() -> None:
    with pytest.raises(ValueError, match="nonsense"), interrupts_as_such():
        int("nonsense")
    first, second = ValueError("first"), ValueError("second")
    first.__context__, second.__context__ = second, first
    with pytest.raises(ValueError, match="first"), interrupts_as_such():
        raise first


def test_nothing_is_tried_again_after_it() -> None:
    told: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        patiently(fail_twice, Patience(FOR_THE_STORE, tell=told.append))
    assert told == []


def test_the_process_of_a_job_ends_without_an_answer_and_without_a_traceback() -> None:
    assert "ended with status 0" in str(JobProcess(fail_twice, None).result())
    assert "ended with status 0" in str(JobProcess(fail_at_cleaning_up, RuntimeError()).result())
