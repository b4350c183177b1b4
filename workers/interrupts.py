"""Ctrl-C, seen for what it is also where it met a library in the middle of its work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_LONGEST_CHAIN: Final = 100


@contextmanager
def interrupts_as_such() -> Iterator[None]:
    """Raises KeyboardInterrupt in place of an error that follows from one.

    A library that is interrupted cleans up, and may fail at that: psycopg, for one, in the middle
    of a query. Who would wait or try again for such an error is to stop.
    """
    try:
        yield
    except Exception as error:
        if _follows_interrupt(error):
            raise KeyboardInterrupt from error
        raise


def _follows_interrupt(error: BaseException) -> bool:
    link: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if link is None or isinstance(link, KeyboardInterrupt):
            return link is not None
        link = link.__cause__ or link.__context__
    return False
