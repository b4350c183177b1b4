"""Whoever asks the farm for builds during the chaos: over HTTP, as `wheelfarm build --farm` does.

It submits, looks, cancels and asks again; a thread for each of the newest submissions follows it to
its end. The server is killed meanwhile, so everything is tried again.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from tests.chaos.orders import Catalogue
from workers.errors import FarmRefusedError, ServerError
from workers.farm.attend import Attendance, put_into_words
from workers.farm.listing import Filter
from workers.farm.remote import RemoteDesk
from workers.farm.states import State
from workers.matrix import Silent
from workers.outcome import Outcome

_PAUSE: Final = 0.3
_FEWEST_OPEN: Final = 24
_AT_ONCE: Final = 12
_FOLLOWED_AT_ONCE: Final = 16
_AGAIN: Final = ("lost", "died", "infrastructure")


class Client(threading.Thread):
    """Asks for `wanted` builds at least, and for more as long as `more` is set.

    `faults` are refusals of what is right, and `told` what the followers were told of the end of
    each submission.
    """

    def __init__(self, url: str, catalogue: Catalogue, wanted: int, seed: int) -> None:
        super().__init__(name="client")
        self._url = url
        self._desk = RemoteDesk(url)
        self._catalogue = catalogue
        self._wanted = wanted
        self._random = random.Random(seed)
        self._asked = 0
        self.more = threading.Event()
        self._over = threading.Event()
        self._followers = ThreadPoolExecutor(max_workers=_FOLLOWED_AT_ONCE)
        self._followed: dict[str, Future[list[Outcome]]] = {}
        self.faults: list[str] = []
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        """Until all is asked for. What the server does not answer is asked again."""
        while not self._over.is_set() and (self._asked < self._wanted or self.more.is_set()):
            with suppress(ServerError):
                self._step()
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """Ask for no more, whatever was wanted, and wait for no server that does not answer."""
        self._over.set()
        self.join()
        self._followers.shutdown(cancel_futures=True)

    @property
    def progress(self) -> float:
        """How much of what is wanted was asked for: the harm is spread over all of the work."""
        return self._asked / self._wanted

    @property
    def following(self) -> int:
        """How many submissions are followed whose end was not told yet."""
        return sum(not future.done() for future in self._followed.values())

    def told(self) -> dict[str, list[Outcome]]:
        """What was told of each submission that was followed to its end."""
        found = {}
        for name, future in self._followed.items():
            if future.cancelled() or not future.done():
                self.faults.append(f"the follower of submission {name} was told of no end")
            elif error := future.exception():
                self.faults.append(f"the follower of submission {name} met {error!r}")
            else:
                found[name] = future.result()
        return found

    def _step(self) -> None:
        if self._open() < _FEWEST_OPEN:
            self._submit()
        if self._random.random() < 0.06:
            self._cancel()
        if self._random.random() < 0.06:
            self._ask_again()
        if self._random.random() < 0.02:
            self._change_its_mind()

    def _submit(self) -> str:
        """The next builds; now and then some that were asked for before."""
        numbers = list(range(self._asked, self._asked + _AT_ONCE))
        if self._asked and self._random.random() < 0.3:
            numbers += [self._random.randrange(self._asked) for _ in range(3)]
        call = self._catalogue.call(numbers, f"team-{self._random.randrange(3)}")
        try:
            made = self._desk.submit(put_into_words(self._desk, call)).id
        except FarmRefusedError as error:
            self.faults.append(f"a submission was refused: {error}")
            raise ServerError("refused") from error
        self._asked += _AT_ONCE  # not when that was in vain: then they are asked for again
        self.done["submission"] += 1
        self._followed[made] = self._followers.submit(self._follow, made)
        return made

    def _follow(self, submission: str) -> list[Outcome]:
        desk = RemoteDesk(self._url, tell=self._before_waiting)
        return Attendance(desk, submission, Silent()).outcomes()

    def _before_waiting(self, trouble: str) -> None:
        if self._over.is_set():
            raise FarmRefusedError(f"the run is over: {trouble}")

    def _change_its_mind(self) -> None:
        """Submit, and withdraw the submission while it is planned or built."""
        self._wanted += _AT_ONCE  # what is withdrawn does not count
        made = self._submit()
        time.sleep(self._random.uniform(0, 2))
        self._desk.cancel_submission(made)
        self.done["submission cancelled"] += 1

    def _cancel(self) -> None:
        job = self._some_job("waiting", "running")
        with suppress(FarmRefusedError):  # it may have ended meanwhile
            if job is not None:
                self._desk.cancel(job)
                self.done["job cancelled"] += 1

    def _ask_again(self) -> None:
        job = self._some_job("failed", "cancelled")
        with suppress(FarmRefusedError):  # another job may do its work by now
            if job is not None:
                self._desk.retry(job)
                self.done["job asked for again"] += 1

    def _some_job(self, *states: State) -> int | None:
        """One of the newest jobs; of the failed only what chaos made fail."""
        found = [
            job.id
            for job in self._desk.jobs(Filter(states=states)).jobs
            if job.state != "failed" or job.failure in _AGAIN
        ]
        return self._random.choice(found) if found else None

    def _open(self) -> int:
        """How many builds are waited for; a submission that nobody has planned counts as full."""
        found = self._desk.queues()
        return (
            sum(queue.waiting + queue.held + queue.running for queue in found.queues)
            + _AT_ONCE * found.unplanned
        )
