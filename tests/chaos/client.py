"""Whoever asks the farm for builds during the chaos: submits, cancels, and asks again."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import func, select

from store.errors import StoreError
from store.schema import jobs, submissions
from tests.chaos.orders import Catalogue
from workers.errors import TransitionError, UnknownJobError
from workers.farm.farm import Farm
from workers.farm.states import OPEN

_PAUSE: Final = 0.3
_FEWEST_OPEN: Final = 24
_AT_ONCE: Final = 12
_AGAIN: Final = ("lost", "died", "infrastructure")


class Client(threading.Thread):
    """Asks for `wanted` builds at least, and for more as long as `more` is set."""

    def __init__(self, farm: Farm, catalogue: Catalogue, wanted: int, seed: int) -> None:
        super().__init__(name="client")
        self._farm = farm
        self._catalogue = catalogue
        self._wanted = wanted
        self._random = random.Random(seed)
        self._asked = 0
        self.more = threading.Event()
        self._over = threading.Event()
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        """Until all is asked for. What the database refuses is tried again."""
        while not self._over.is_set() and (self._asked < self._wanted or self.more.is_set()):
            with suppress(StoreError, TransitionError, UnknownJobError):
                self._step()
            time.sleep(_PAUSE)

    def stop(self) -> None:
        """Ask for no more, whatever was wanted."""
        self._over.set()

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
        works = [self._catalogue.work(number).to_json() for number in numbers]
        who = f"team-{self._random.randrange(3)}"
        made = self._farm.submissions.create(who, {"works": works})
        self._asked += _AT_ONCE  # not when that was in vain: then they are asked for again
        self.done["submission"] += 1
        return made

    def _change_its_mind(self) -> None:
        """Submit, and withdraw the submission while it is planned or built."""
        self._wanted += _AT_ONCE  # what is withdrawn does not count
        made = self._submit()
        time.sleep(self._random.uniform(0, 2))
        self._farm.submissions.cancel(made, "for the chaos")
        self.done["submission cancelled"] += 1

    def _cancel(self) -> None:
        if (job := self._some_job(jobs.c.state.in_(OPEN))) is not None:
            self._farm.ledger.cancel(job, "for the chaos")
            self.done["job cancelled"] += 1

    def _ask_again(self) -> None:
        lost = (jobs.c.state == "failed") & jobs.c.failure.in_(_AGAIN)
        if (job := self._some_job(lost | (jobs.c.state == "cancelled"))) is not None:
            self._farm.ledger.again(job)
            self.done["job asked for again"] += 1

    def _some_job(self, which: Any) -> int | None:
        with self._farm.store.database.reading() as connection:
            found = list(connection.execute(select(jobs.c.id).where(which)).scalars())
        return self._random.choice(found) if found else None

    def _open(self) -> int:
        """How many builds are waited for; a submission that nobody has planned counts as full."""
        open_ = select(func.count()).where(jobs.c.state.in_(OPEN))
        unplanned = select(func.count()).where(
            submissions.c.planned_at.is_(None), submissions.c.cancelled_at.is_(None)
        )
        with self._farm.store.database.reading() as connection:
            planned = int(connection.execute(open_).scalar_one())
            return planned + _AT_ONCE * int(connection.execute(unplanned).scalar_one())
