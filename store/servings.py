"""Who was given which file: first and last day for each index and file, noted on the way out.

Serving never waits for it: a note goes into memory, and a thread writes what is new from time to
time. A file is written once a day for each index, so the record has at most as many rows as the
indexes have files, and a busy server writes little. What a killed server had not written is lost,
some seconds of it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sqlalchemy import Connection, select

from store.catalogue import now
from store.channel import Channel
from store.database import Database, insert
from store.errors import StoreError
from store.fingerprint import Fingerprint
from store.schema import files, servings
from store.selection import in_parts

_LOG: Final = logging.getLogger("wheelfarm.serve")
_SECONDS: Final = 10
_MOST_KNOWN: Final = 200_000
"""What is remembered as written today; beyond it, some is written again."""
_MOST_PENDING: Final = 100_000
"""What waits while the database is away; beyond it, notes are lost."""

_Key = tuple[Channel, Fingerprint, str]


class Servings:
    """The record of one server. `note` may be called from any thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._over = threading.Event()
        self._today = ""
        self._known: set[_Key] = set()
        self._pending: dict[_Key, str] = {}

    def note(self, channel: Channel, fingerprint: Fingerprint, filename: str) -> None:
        """That index gave somebody that file, today. Only memory is touched."""
        key = (channel, fingerprint, filename)
        today = now().date().isoformat()
        with self._guard:
            if today != self._today or len(self._known) >= _MOST_KNOWN:
                self._today, self._known = today, set()
            if key not in self._known and len(self._pending) < _MOST_PENDING:
                self._known.add(key)
                self._pending[key] = today

    def flush(self) -> None:
        """Write what is new. Raises StoreError, and keeps it for the next time."""
        with self._guard:
            taken, self._pending = self._pending, {}
        if not taken:
            return
        try:
            with self._database.writing() as connection:
                _write(connection, taken)
        except StoreError:
            with self._guard:
                self._pending = {**taken, **self._pending}
            raise

    @contextmanager
    def written(self) -> Iterator[None]:
        """Have it written from time to time, and at the end of the ``with`` block."""
        thread = threading.Thread(target=self._live, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _live(self) -> None:
        over = False
        while not over:
            over = self._over.wait(_SECONDS)
            try:
                self.flush()
            except StoreError as error:
                _LOG.warning("who was served what cannot be written now: %s", error)


def _write(connection: Connection, days: dict[_Key, str]) -> None:
    for some in in_parts(days):
        query = select(files.c.filename).where(files.c.filename.in_({key[2] for key in some}))
        there = set(connection.execute(query).scalars())  # it may be garbage by now
        rows = [_row(key, days[key]) for key in some if key[2] in there]
        if rows:
            new = insert(connection, servings).values(rows)
            latest = {"last_on": new.excluded.last_on}
            connection.execute(
                new.on_conflict_do_update(
                    index_elements=list(servings.primary_key),
                    set_=latest,
                    where=servings.c.last_on < new.excluded.last_on,
                )
            )


def _row(key: _Key, day: str) -> dict[str, str]:
    channel, fingerprint, filename = key
    return {
        "channel": channel, "fingerprint": fingerprint, "filename": filename,
        "first_on": day, "last_on": day,
    }  # fmt: skip
