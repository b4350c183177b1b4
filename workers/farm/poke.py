"""Pokes: a word to whoever can do a job that it waits. They may be lost, late or repeated.

The database owns the truth: a worker that hears nothing looks by itself from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from workers.farm.work import Queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Poke:
    """A job that waits in a queue from now on."""

    job_id: int
    queue: Queue


class Poker(Protocol):
    """Tells workers of jobs. Called after the jobs were committed; never raises, never waits."""

    def poke(self, pokes: Sequence[Poke]) -> None:
        """Tell whoever takes jobs of those queues."""
        ...


class _Silent:
    """Tells nobody: workers look by themselves."""

    def poke(self, pokes: Sequence[Poke]) -> None:
        """Nothing."""


SILENT: Final[Poker] = _Silent()


class Bell:
    """Wakes whoever listens in this very process."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[], None]] = []

    def wakes(self, listener: Callable[[], None]) -> None:
        """Call `listener` at each poke from now on."""
        self._listeners.append(listener)

    def poke(self, pokes: Sequence[Poke]) -> None:
        """Wake all listeners, if there is anything to tell."""
        for listener in self._listeners if pokes else ():
            listener()
