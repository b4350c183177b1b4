"""What the commands have in common that ask a farm: which one, and how the answer is shown."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from store.access import Actor
from store.errors import UsageError
from workers.cli.broker import celery_app, pokes
from workers.settings import Settings, load_settings
from workers.text import printable

# A desk is imported when it is known which: one needs the database, the other HTTP.
if TYPE_CHECKING:
    from pydantic import BaseModel

    from workers.farm.desk import Desk
    from workers.farm.remote import RemoteDesk

F = TypeVar("F", bound=Callable[..., Any])

_STORE_OPTIONS: Final = (
    click.option(
        "--settings",
        "settings_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Another wheelfarm.toml.",
    ),
    click.option(
        "--store",
        "store_option",
        type=click.Path(path_type=Path, file_okay=False),
        help="The store's folder.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print JSON."),
)
_FARM_OPTION: Final = click.option(
    "--farm",
    "farm_url",
    metavar="URL",
    help="The farm's server; without one, the farm over the local store.",
)


def asking_options(command: F) -> F:
    """The options that say which farm is asked: --farm, --settings, --store; and --json."""
    return _FARM_OPTION(store_options(command))


def store_options(command: F) -> F:
    """The options that say which store is meant, --settings and --store; and --json."""
    for option in reversed(_STORE_OPTIONS):
        command = option(command)
    return command


@contextmanager
def desk(farm_url: str | None, settings_file: Path | None, store: Path | None) -> Iterator[Desk]:
    """The desk of the farm that is meant: an option, the setting, or the local store's.

    Raises NotAStoreError when there is no local store.
    """
    settings = load_settings(file=settings_file, store=store)
    url = farm_url or (None if store else settings.farm.url)
    if url:
        yield remote_desk(url, settings)
        return
    with _local(settings) as local:
        yield local


def remote_desk(url: str, settings: Settings) -> RemoteDesk:
    """The desk of the server at `url`; every wait for it is told on standard error."""
    from workers.farm.remote import RemoteDesk  # noqa: PLC0415

    return RemoteDesk(url, settings.farm.token, lambda line: click.echo(line, err=True))


def submitter() -> str:
    """Who asks, for fair shares, the audit log and people: USER@HOST."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]


@contextmanager
def _local(settings: Settings) -> Iterator[Desk]:
    from workers.farm.desk import FarmDesk  # noqa: PLC0415
    from workers.farm.farm import farm_over, store_of  # noqa: PLC0415

    with (
        closing(store_of(settings, create=False)) as store,
        pokes(celery_app(settings)) as poker,
    ):
        yield FarmDesk(farm_over(store, settings, poker), Actor(who=submitter()))


def job_number(word: str) -> int:
    """The number of a job. Raises UsageError for another word."""
    if not (word.isascii() and word.isdigit() and len(word) < 16):
        raise UsageError(
            f"not the number of a job: {word[:80]!r}", hint="`wheelfarm jobs` lists them"
        )
    return int(word)


def show_json(answer: BaseModel) -> None:
    """The answer as one JSON object."""
    click.echo(json.dumps(answer.model_dump(mode="json")))


def show_table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table whose cells are folded, never cut short."""
    table = Table(*(Column(name, overflow="fold") for name in names))
    for row in rows:
        table.add_row(*(Text(printable(str(cell))) for cell in row))
    Console(highlight=False).print(table)
