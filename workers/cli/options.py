"""Options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from workers.settings import Settings, load_settings

if TYPE_CHECKING:
    from store.keyring import KeyRing
    from store.publish import Store

F = TypeVar("F", bound=Callable[..., Any])


def jobs_option(what: str) -> Callable[[F], F]:
    """``--jobs N``: how many of `what` at a time, the cores of the machine by default."""
    return click.option(
        "-j",
        "--jobs",
        type=click.IntRange(1, 256),
        default=os.cpu_count() or 1,
        show_default="the cores of this machine",
        help=f"How many {what} at a time.",
    )


def key_ring(folder: Path | None = None) -> KeyRing:
    """The keys that are set, or those of the store that is set, or of the one in `folder`."""
    return keys_of(load_settings(store=folder))


def keys_of(settings: Settings) -> KeyRing:
    """The keys that the settings name."""
    # Imported here: `verify` on its own does without keys.
    from store.keyring import FOLDER, KeyRing  # noqa: PLC0415

    return KeyRing(folder=settings.keys or settings.store / FOLDER)


def open_store(folder: Path | None) -> Store:
    """The store that is set, or the one in `folder`, to be read. Raises what `Store.open` does."""
    # Imported here: `verify` needs no database, and starts twice as fast without.
    from workers.farm.farm import store_of  # noqa: PLC0415

    return store_of(load_settings(store=folder), create=False)
