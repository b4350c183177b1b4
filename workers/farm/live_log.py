"""The log of a build while it runs: its growth is copied into the database, piece by piece.

Live logs are for watching; the whole log is a blob when the build is over. So trouble with the
database costs a while, or the rest of the live log, but never the build.
"""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from sqlalchemy import select

from store.database import Database
from store.errors import StoreError, StoreUnreachableError
from store.schema import log_pieces
from workers.errors import LeaseLostError
from workers.farm.jobs import Claim
from workers.farm.ledger import Ledger

MOST_BYTES: Final = 4 << 20
"""How much of a log is shown live."""

_LOG: Final = logging.getLogger("wheelfarm.worker")
_PIECE: Final = 64 << 10
_SECONDS: Final = 0.5
_CUT: Final = b"\n[the live log ends here; the whole log is kept when the build is over]\n"


class LiveLog:
    """Copies what is written to `path` for as long as the ``with`` block lasts."""

    def __init__(self, claim: Claim, database: Database, path: Path) -> None:
        self._claim = claim
        self._ledger = Ledger(database)
        self._path = path
        self._copied = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._copy, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _copy(self) -> None:
        try:
            while not self._over.wait(_SECONDS):
                with suppress(StoreUnreachableError):  # the next round goes on where it was
                    self._copy_growth()
            self._copy_growth()
        except LeaseLostError:
            return  # the worker stops this build at its next heartbeat
        except StoreError as error:
            _LOG.warning("the live log of job %d stops: %s", self._claim.job_id, error)

    def _copy_growth(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._copied)
            while self._copied < MOST_BYTES and (piece := file.read(_PIECE)):
                self._ledger.write_log(self._claim, self._copied, piece)
                self._copied += len(piece)
            if self._copied >= MOST_BYTES and file.read(1):
                self._ledger.write_log(self._claim, self._copied, _CUT)
                self._copied = 1 << 62


def read_pieces(database: Database, job_id: int, token: int, start: int = 0) -> bytes:
    """What the try `token` of a job has printed so far, from byte `start` on."""
    piece = log_pieces.c
    query = (
        select(piece.start, piece.data)
        .where(piece.job_id == job_id, piece.token == token, piece.start > start - _PIECE)
        .order_by(piece.start)
    )
    with database.reading() as connection:
        return b"".join(data[max(0, start - first) :] for first, data in connection.execute(query))
