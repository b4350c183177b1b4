"""Waiting for what is away: tried again and again, with longer and longer pauses, for a time."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from store.errors import StoreError, WheelfarmError
from workers.errors import ServerError
from workers.interrupts import interrupts_as_such

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """For which transient errors to wait, how long in all, and how long each time, in seconds."""

    trouble: type[WheelfarmError]
    seconds: float
    first_pause: float
    longest_pause: float


FOR_A_SERVER: Final = Bounds(
    trouble=ServerError, seconds=1_800, first_pause=0.25, longest_pause=15.0
)
"""How a client waits for the farm's server."""
FOR_THE_STORE: Final = Bounds(
    trouble=StoreError, seconds=600, first_pause=0.1, longest_pause=5.0
)  # fmt: skip
"""How a worker waits for the catalogue and the blobs: no build is worth nothing because a server
was started anew, and no slot is held for ever."""


class Patience:
    """Waits longer and longer, and gives up in the end; `reward` begins anew.

    `tell` hears of every wait. It gives up early once `given_up` says so.
    """

    def __init__(
        self,
        bounds: Bounds,
        *,
        tell: Callable[[str], None] = lambda _: None,
        given_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.trouble = bounds.trouble
        self._bounds = bounds
        self._tell = tell
        self._given_up = given_up
        self.reward()

    def reward(self) -> None:
        """There was an answer."""
        self._pause = self._bounds.first_pause
        self._until = time.monotonic() + self._bounds.seconds

    def wait(self, error: WheelfarmError) -> None:
        """Wait before the next try. Raises `error` when that is over, or would not help."""
        if not error.transient or time.monotonic() > self._until or self._given_up():
            raise error
        self._tell(f"{error.message}; trying again in {self._pause:g} s")
        # Not in step with all the others, who wait for the same.
        time.sleep(self._pause * random.uniform(0.75, 1.0))  # noqa: S311
        self._pause = min(2 * self._pause, self._bounds.longest_pause)


def patiently(ask: Callable[[], T], patience: Patience) -> T:
    """What `ask` gives once it can. Raises the trouble after a long time, and what else it raises.

    `ask` must do no harm when it is called again after it failed, or seemed to fail.
    """
    while True:
        try:
            with interrupts_as_such():
                answer = ask()
        except patience.trouble as error:
            patience.wait(error)
        else:
            patience.reward()
            return answer
