"""A line on standard error that says how far a long run is; only where a person looks at it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import Final, TypeVar

import click

_FEW: Final = 5
_CLEAR: Final = "\r\x1b[K"
_T = TypeVar("_T")


def counted(results: Iterable[_T], total: int) -> Iterator[_T]:
    """The `results`, with a line ``3 of 80`` on standard error between them.

    There is none for a few results, nor where standard error is no terminal. It is gone while a
    result is handled, so that it never mixes with what is printed.
    """
    shown = total > _FEW and sys.stderr.isatty()
    if not shown:
        yield from results
        return
    _say(f"0 of {total}")
    for done, result in enumerate(results, 1):
        _say("")
        yield result
        _say(f"{done} of {total}" if done < total else "")


def _say(text: str) -> None:
    click.echo(f"{_CLEAR}{text}", nl=False, err=True, color=True)
