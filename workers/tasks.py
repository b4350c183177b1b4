"""The one task that Celery knows: a job waits."""

from __future__ import annotations

import logging
from typing import Final

from celery import Celery

from store.errors import StoreError
from workers.farm.station import Station

POKE: Final = "wheelfarm.poke"

_LOG: Final = logging.getLogger("wheelfarm.broker")
_LARGEST_ID: Final = (1 << 63) - 1
_SHOWN: Final = 100


def register(app: Celery, station: Station) -> None:
    """Let `app` do the task by waking `station`."""

    def poke(*arguments: object, **named: object) -> None:
        """Work as long as there is work: what it was told of may be gone, and other jobs there."""
        if not _is_poke(arguments, named):
            _LOG.warning("dropped a poke for no job: %s", f"{arguments!r:.{_SHOWN}}")
            return
        try:
            while station.work_once(wait=True):
                pass
        except StoreError as error:
            _LOG.warning("a poke in vain: %s", error)

    app.task(poke, name=POKE, shared=False, ignore_result=True, acks_late=False)


def _is_poke(arguments: tuple[object, ...], named: dict[str, object]) -> bool:
    if named or len(arguments) != 1 or type(arguments[0]) is not int:
        return False
    return 0 < arguments[0] <= _LARGEST_ID
