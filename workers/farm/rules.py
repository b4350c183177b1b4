"""What follows from each kind of failure: tried again or not, where, when, and for how long known.

Pure, so that every rule can be read and tested in one place. The kinds are those of the builder,
and three that only a farm has: `lost` (the worker went silent), `died` (the process of the build
was killed, maybe for its memory) and `no-worker`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from builder.stages import FailureKind

JobFailure = FailureKind | Literal["lost", "died", "no-worker"]

FIRST_WAIT_SECONDS: Final = 5
LONGEST_WAIT_SECONDS: Final = 300
LOSING_RUN: Final = 3
"""Builds that a worker fails one after the other before its word alone is not enough."""
STRIKES: Final = 3
"""Jobs that a worker failed and another one built before it is set aside."""
LARGEST_MEMORY_CLASS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How one kind of failure is treated.

    `remembered`: a build with the same BuildKey fails at once, for a time. `tries`: how many
    failures of this kind one job may have; the last one is final. `waits`: it waits before it is
    tried again, twice as long each time. `elsewhere`: another worker is to try, where there is
    one. `larger`: it moves up a class of memory where there is a worker of the next one; with
    `only_larger` it is not tried again otherwise.
    """

    remembered: bool = False
    tries: int = 1
    waits: bool = False
    elsewhere: bool = False
    larger: bool = False
    only_larger: bool = False


RULES: Final[Mapping[JobFailure, Rule]] = MappingProxyType(
    {
        "build": Rule(remembered=True),
        "unsupported": Rule(remembered=True),
        "policy": Rule(remembered=True),
        "verification": Rule(remembered=True),
        "timeout": Rule(remembered=True, tries=2, elsewhere=True),
        "silence": Rule(remembered=True, tries=2, elsewhere=True),
        "memory": Rule(remembered=True, tries=LARGEST_MEMORY_CLASS, larger=True, only_larger=True),
        "infrastructure": Rule(tries=4, waits=True, elsewhere=True),
        "lost": Rule(tries=5, elsewhere=True),
        "died": Rule(tries=3, elsewhere=True, larger=True),
        "no-worker": Rule(),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision depends on.

    `tries` counts this job's failures by kind, this one included; `losing_run` the builds that
    this worker has failed in a row, this one included; `others` the other ready workers that take
    the job's queue; `larger` says whether one takes the next class of memory.
    """

    tries: Mapping[str, int]
    losing_run: int = 0
    others: int = 0
    larger: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What becomes of a failed job. `wait_seconds` counts from now."""

    again: bool
    wait_seconds: int = 0
    elsewhere: bool = False
    larger: bool = False
    remembered: bool = False


def decide(kind: JobFailure, situation: Situation) -> Decision:
    """What is to be done about a failure of `kind`."""
    rule = RULES[kind]
    count = situation.tries.get(kind, 1)
    if kind == "build" and _needs_second_opinion(situation):
        return Decision(again=True, elsewhere=True)
    if count >= rule.tries or (rule.only_larger and not situation.larger):
        return Decision(again=False, remembered=rule.remembered)
    return Decision(
        again=True,
        wait_seconds=backoff(count) if rule.waits else 0,
        elsewhere=rule.elsewhere and situation.others > 0,
        larger=rule.larger and situation.larger,
    )


def backoff(count: int) -> int:
    """Seconds to wait after the failure of that number: 5, 10, 20 … 300."""
    doublings = min(max(count, 1) - 1, 10)
    return min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS << doublings)


def _needs_second_opinion(situation: Situation) -> bool:
    """A worker that fails one build after the other may itself be broken (no compiler, say)."""
    return (
        situation.losing_run >= LOSING_RUN
        and situation.others > 0
        and situation.tries.get("build", 1) == 1
    )
