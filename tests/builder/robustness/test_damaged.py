"""Damaged wheels and binaries, the short run of what `make fuzz` does for hours."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builder.robustness.attempt import attempt
from tests.builder.robustness.damage import KINDS, boundaries, damaged
from tests.builder.robustness.seeds import FORMATS, seeds_of

_TRIES = 400
_CUTS = 60
_KEEP = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_ends_in_a_verdict(kind: str, tmp_path: Path) -> None:
    verdicts = set()
    for number in range(_TRIES):
        seeds = seeds_of(kind)
        tried = attempt(kind, damaged(seeds[number % len(seeds)], number), tmp_path)
        assert tried.crashed is None, number
        verdicts.add(tried.judgement.verdict)
    assert "reject" in verdicts, "the damage does not reach what is read"


@pytest.mark.parametrize("kind", FORMATS)
def test_nothing_cut_off_is_accepted(kind: str, tmp_path: Path) -> None:
    for seed in seeds_of(kind):
        places = boundaries(seed)
        for length in places[:: max(1, len(places) // _CUTS)]:
            tried = attempt(kind, seed[:length], tmp_path)
            assert tried.crashed is None, length
            assert tried.judgement.verdict == "reject", (length, len(seed), tried.judgement)


@_KEEP
@given(data=st.data())
def test_edits_of_any_place_end_in_a_verdict(data: st.DataObject, tmp_path: Path) -> None:
    kind = data.draw(st.sampled_from(FORMATS))
    seed = data.draw(st.sampled_from(seeds_of(kind)))
    at = data.draw(st.integers(0, len(seed)))
    cut = data.draw(st.integers(0, 64))
    whole = seed[:at] + data.draw(st.binary(max_size=64)) + seed[at + cut :]
    assert attempt(kind, whole, tmp_path).crashed is None


def test_a_series_is_the_same_each_time() -> None:
    seed = bytes(range(256)) * 40
    assert [damaged(seed, n) for n in range(50)] == [damaged(seed, n) for n in range(50)]
    assert len({damaged(seed, n) for n in range(200)}) > 150
    assert len(KINDS) == 8
