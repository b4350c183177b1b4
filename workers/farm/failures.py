"""Failures of builds, remembered by BuildKey for a time: the same build would fail the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, insert, select

from store.database import Database, clock
from store.digest import JSON
from store.schema import failures

TTL_SECONDS: Final = 24 * 3600
"""How long a failure is remembered: what a BuildKey does not hold (system packages) may change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """A failure that is remembered: its outcome, on which worker, since and until when."""

    build_key: str
    kind: str
    outcome: Mapping[str, Any]
    worker: str | None
    recorded_at: datetime
    expires_at: datetime


class Failures:
    """The remembered failures of one database. Every method raises StoreError."""

    def __init__(self, database: Database, *, ttl_seconds: int = TTL_SECONDS) -> None:
        self._database = database
        self._ttl = timedelta(seconds=ttl_seconds)

    def remember(self, key: str, kind: str, outcome: Mapping[str, JSON], worker: str) -> None:
        """Remember that the build of that BuildKey failed; the newest failure counts."""
        with self._database.transaction() as connection:
            now = clock(connection)
            row = {
                "build_key": key, "kind": kind, "outcome": outcome, "worker": worker,
                "recorded_at": now, "expires_at": now + self._ttl,
            }  # fmt: skip
            connection.execute(delete(failures).where(failures.c.build_key == key))
            connection.execute(insert(failures).values(row))

    def known(self, keys: Collection[str]) -> dict[str, Remembered]:
        """What is remembered of those BuildKeys."""
        with self._database.reading() as connection:
            alive = failures.c.expires_at > clock(connection)
            query = select(failures).where(failures.c.build_key.in_(keys), alive)
            found = [Remembered(**row._mapping) for row in connection.execute(query)]
        return {failure.build_key: failure for failure in found}

    def forget(self, key: str) -> bool:
        """Forget the failure of that BuildKey, so that it is built again; whether there was one."""
        with self._database.transaction() as connection:
            query = delete(failures).where(failures.c.build_key == key)
            return connection.execute(query).rowcount > 0
