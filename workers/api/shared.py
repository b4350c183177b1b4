"""One look at the database for all who want the same at the same time.

A hundred clients that follow one build ask the same question again and again; whoever asks first
asks the database, and the others get that answer for a moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Look:
    task: asyncio.Task[Any]
    until: float


class Shared:
    """Answers that are good for `seconds` after they were asked for. For one event loop."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._looks: dict[Hashable, _Look] = {}

    async def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """What `read`, called in a thread, gives under `key`. Raises what it raises."""
        now = asyncio.get_running_loop().time()
        self._forget(now)
        look = self._looks.get(key)
        if look is None:
            task = asyncio.create_task(run_in_threadpool(read))
            look = self._looks[key] = _Look(task, now + self._seconds)
        # A client that leaves does not take the answer from the others.
        answer: T = await asyncio.shield(look.task)
        return answer

    def _forget(self, now: float) -> None:
        old = [key for key, look in self._looks.items() if look.until < now and look.task.done()]
        for key in old:
            del self._looks[key]
