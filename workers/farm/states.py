"""The states of a job, and the one table of how it gets from one to another. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, get_args

from workers.errors import TransitionError

State = Literal["waiting", "running", "succeeded", "failed", "cancelled"]
Event = Literal[
    "enqueue",  # it is new
    "claim",  # a worker leases it
    "succeed",  # its wheel is in the store
    "fail",  # it will not be tried again by itself
    "retry",  # it failed, and is to be tried again
    "hand-back",  # its worker stops, and was not to blame
    "expire",  # its worker let the lease lapse
    "cancel",  # nobody wants it any more
    "again",  # a person, or a new submission, wants it after all
]

STATES: Final = frozenset(get_args(State))
EVENTS: Final = frozenset(get_args(Event))
OPEN: Final = frozenset[State]({"waiting", "running"})
"""There is still something to come; at most one open job for one piece of work."""
FINAL: Final = STATES - OPEN

TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        ("waiting", "claim"): "running",
        ("waiting", "fail"): "failed",
        ("waiting", "cancel"): "cancelled",
        ("running", "succeed"): "succeeded",
        ("running", "fail"): "failed",
        ("running", "retry"): "waiting",
        ("running", "hand-back"): "waiting",
        ("running", "expire"): "waiting",
        ("running", "cancel"): "cancelled",
        ("failed", "again"): "waiting",
        ("cancelled", "again"): "waiting",
    }
)


def after(state: State, event: Event) -> State:
    """The state after `event`. Raises TransitionError when it cannot happen in `state`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise TransitionError(f"a job that is {state} cannot {event}") from None


def sources(event: Event) -> frozenset[State]:
    """The states in which `event` can happen."""
    return frozenset(state for state, known in TRANSITIONS if known == event)
