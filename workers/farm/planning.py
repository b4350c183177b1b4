"""Planning on the server: threads that turn what was submitted into items, some at a time.

A submission waits in the database until a planner leases it, so one that was accepted survives the
server: whoever runs next plans it. What went wrong with the call itself is told to who submitted;
trouble of the farm leaves the submission for a later try.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import and_, func, or_, select, update

from builder.deposit import deposit
from builder.stages import Sdist
from store.database import clock
from store.digest import Sha256
from store.errors import StoreError, WheelfarmError
from store.schema import blobs, submissions
from workers.errors import ServerError, UnknownJobError
from workers.farm.calls import Place, read_call, said, uploads
from workers.farm.farm import Farm
from workers.farm.submissions import SubmissionRow
from workers.plan import Planner
from workers.sources import place_of

_LOG: Final = logging.getLogger("wheelfarm.serve")
_LOOK_SECONDS: Final = 1.0
_THREADS: Final = 2
"""How many submissions are planned at a time: a long one does not hold up a short one."""


class Planning:
    """The planners of one server, from `start` to `stop`. `nudge` says that there may be work."""

    def __init__(self, farm: Farm) -> None:
        self._farm = farm
        self._name = f"server-{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(3)}"
        self._there_may_be_work = threading.Semaphore(0)
        self._over = threading.Event()
        names = [f"{self._name}-{number}" for number in range(_THREADS)]
        self._threads = [threading.Thread(target=self._live, args=(name,)) for name in names]

    def start(self) -> None:
        """Begin to plan."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop after the batch that is being planned; another server goes on with the rest."""
        self._over.set()
        for _ in self._threads:
            self.nudge()
        for thread in self._threads:
            thread.join()

    def nudge(self) -> None:
        """There may be something to plan: look at once."""
        self._there_may_be_work.release()

    def _live(self, name: str) -> None:
        while not self._over.is_set():
            try:
                if self._plan_next(name):
                    continue
            except StoreError as error:
                _LOG.warning("nothing is planned now: %s", error)
            self._there_may_be_work.acquire(timeout=_LOOK_SECONDS)

    def _plan_next(self, name: str) -> bool:
        if not count_unplanned(self._farm):
            return False  # a look without the lock that a claim takes
        row = self._farm.submissions.claim_planning(name)
        if row is None:
            return False
        with kept_alive(self._farm, row.id, name):
            self._plan(row, name)
        return True

    def _plan(self, row: SubmissionRow, name: str) -> None:
        """Plan `row`, or refuse it and say why."""
        if "local" in row.call:  # a run on some machine that ended before it had planned
            self._farm.submissions.cancel(row.id, "its run is gone")
            return
        try:
            self._add_items(row, name)
        except WheelfarmError as error:
            if error.transient or isinstance(error, StoreError):
                raise StoreError(f"submission {row.id} waits: {error}") from error
            self._farm.submissions.refuse(row.id, error.to_json())
        except Exception:  # noqa: BLE001  # one call must not end the planner for all others
            _LOG.exception("submission %s cannot be planned", row.id)
            trouble = ServerError("the planner broke over it; the server's log says how")
            self._farm.submissions.refuse(row.id, trouble.to_json())

    def _add_items(self, row: SubmissionRow, name: str) -> None:
        place = 0
        call = read_call(said(row.call), fetch_uploads(self._farm, row))
        for items in planner_of(self._farm).plan(call):
            if self._over.is_set() or not self._farm.submissions.beat(row.id, name):
                return  # the lease lapses, and somebody else plans it
            self._farm.submissions.add(row.id, place, items)
            place += len(items)
            if _was_cancelled(self._farm, row.id):
                return
        self._farm.submissions.planned(row.id)


def _was_cancelled(farm: Farm, submission_id: str) -> bool:
    """Whether nobody wants it any more; then what was added since is cancelled as well."""
    if farm.submissions.get(submission_id).cancelled_at is None:
        return False
    farm.submissions.cancel(submission_id, "it was cancelled while it was planned")
    return True


def planner_of(farm: Farm, *, keeps: bool = True) -> Planner:
    """A planner that knows what all workers can do. Unless it `keeps`, it only looks."""
    return Planner(
        store=farm.store,
        failures=farm.failures,
        settings=farm.settings,
        toolchains=farm.registry.toolchains,
        keep=_keeper(farm) if keeps else lambda _: None,
    )


def _keeper(farm: Farm) -> Callable[[Sdist], None]:
    """Puts sdists into the store, where workers fetch them; each once."""

    def keep(sdist: Sdist) -> None:
        if not has_blob(farm, sdist.source.sha256):
            farm.store.keep(sdist.path)

    return keep


def has_blob(farm: Farm, digest: Sha256) -> bool:
    """Whether the store has the blob: a row never names bytes that are not there.

    One that was condemned as garbage has its whole grace before it again.
    """
    query = select(blobs.c.condemned_at).where(blobs.c.sha256 == digest)
    with farm.store.database.reading() as connection:
        row = connection.execute(query).first()
    if row is None or row.condemned_at is None:
        return row is not None
    pardon = update(blobs).where(blobs.c.sha256 == digest).values(condemned_at=None)
    with farm.store.database.writing() as connection:
        return connection.execute(pardon).rowcount > 0


def fetch_uploads(farm: Farm, row: SubmissionRow) -> Place:
    """Have the uploaded sdists of a submission lie in this machine's cache; give where."""
    for upload in uploads(said(row.call)):
        fetch_upload(farm, Sha256(upload.sha256), upload.filename)
    return lambda digest, filename: place_of(digest, filename, farm.settings.cache)


def fetch_upload(farm: Farm, digest: Sha256, filename: str) -> Path:
    """The uploaded sdist in this machine's cache. Raises UnknownJobError when there is none."""
    place = place_of(digest, filename, farm.settings.cache)
    if not place.is_file():
        if not has_blob(farm, digest):
            raise UnknownJobError(f"{filename} ({digest[:12]}…) was not uploaded")
        with farm.store.blobs.opened(digest) as blob:
            deposit(blob, place)
    return place


def count_unplanned(farm: Farm) -> int:
    """How many submissions nobody plans yet."""
    with farm.store.database.reading() as connection:
        column = submissions.c
        free = or_(column.lease_until.is_(None), column.lease_until < clock(connection))
        open_ = and_(column.planned_at.is_(None), column.cancelled_at.is_(None), free)
        return connection.execute(select(func.count()).where(open_)).scalar_one()


@contextmanager
def kept_alive(farm: Farm, submission: str, planner: str) -> Iterator[None]:
    """Renew the lease on a submission for as long as the ``with`` block lasts."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(farm.settings.farm.lease_seconds / 4):
            with suppress(StoreError):  # the next beat may come through
                farm.submissions.beat(submission, planner)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
