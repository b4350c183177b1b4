"""The farm's broker, for the commands that send pokes or hear them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from store.errors import UsageError
from workers.farm.poke import SILENT, Poker
from workers.settings import Settings

if TYPE_CHECKING:
    from celery import Celery


def celery_app(settings: Settings) -> Celery | None:
    """The Celery application where a broker is set; None without. Raises UsageError."""
    if settings.farm.broker is None:
        return None
    try:
        # Imported here: only a farm with a broker needs it.
        from workers.app import make_app  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(
            f"a broker is set, and {error.name} is not installed",
            hint="pip install 'wheelfarm[farm]'",
        ) from error
    return make_app(settings.farm.broker)


@contextmanager
def pokes(app: Celery | None) -> Iterator[Poker]:
    """What tells workers of jobs, as long as the ``with`` block lasts."""
    if app is None:
        yield SILENT
        return
    from workers.app import CeleryPoker  # noqa: PLC0415

    poker = CeleryPoker(app)
    try:
        yield poker
    finally:
        poker.close()
