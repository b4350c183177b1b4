"""`wheelfarm build`: sdists in, verified wheels in the store."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import click
from rich.console import Console

from store.channel import parse_channel
from store.errors import UsageError
from workers.cli.options import jobs_option
from workers.matrix import Silent, Watcher, show_end, show_how_to_install, watch
from workers.outcome import Outcome, exit_status
from workers.plan import Call, WantedTarget
from workers.requirements import read_wanted
from workers.run import run
from workers.settings import load_settings
from workers.targets import resolve_target

_FOLDER = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, dir_okay=False)

Build = Callable[[Watcher], list[Outcome]]


@click.command(short_help="Build sdists into verified wheels for one or more targets.")
@click.argument("wanted", nargs=-1, metavar="[NAME==VERSION | SDIST]...")
@click.option(
    "-r",
    "--requirement",
    "files",
    multiple=True,
    type=_FILE,
    metavar="FILE",
    help="A requirements file of exact pins, or a pylock.toml. Repeatable.",
)
@click.option(
    "-t",
    "--target",
    "targets",
    multiple=True,
    default=["native"],
    show_default=True,
    help="native, native:/path/to/python, macos-11.0-arm64:cp311, or a name from wheelfarm.toml. "
    "Repeatable.",
)
@click.option(
    "--channel",
    help="Publish to this channel: release, or dev/NAME. Without it, index sdists pinned by hash "
    "go to release, others to dev/unpinned, files to dev/local.",
)
@click.option("--refresh", is_flag=True, help="Resolve build requirements afresh.")
@click.option("--retry", is_flag=True, help="Build also what is remembered to have failed.")
@jobs_option("builds run")
@click.option(
    "--index-url", metavar="URL", help="The simple index of sdists and build requirements."
)
@click.option("--settings", "settings_file", type=_FILE, help="Another wheelfarm.toml.")
@click.option("--store", "store_option", type=_FOLDER, help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object at the end, nothing else.")
def command(
    *,
    wanted: tuple[str, ...],
    files: tuple[Path, ...],
    targets: tuple[str, ...],
    channel: str | None,
    refresh: bool,
    retry: bool,
    jobs: int,
    index_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> int:
    """Build sdists into verified wheels, for every target, and publish them in the store.

    What the store has already is a hit and is not built. Exit status: 0 everything is in the
    store; 1 something was refused or could not be built; 2 wrong usage; 3 trouble with the farm.
    """
    settings = load_settings(file=settings_file, store=store_option)
    if index_url:
        settings = dataclasses.replace(settings, index_url=index_url)
    things = read_wanted(wanted, files)
    if not things:
        raise UsageError("nothing to build", hint="name NAME==VERSION, an sdist, or -r FILE")
    resolved = tuple(resolve_target(word, settings) for word in dict.fromkeys(targets))
    call = Call(
        wanted=things,
        targets=tuple(WantedTarget(name=each.name, target=each.target) for each in resolved),
        submitter=submitter(),
        channel=parse_channel(channel) if channel else None,
        refresh=refresh,
        retry=retry,
    )

    def build(watcher: Watcher) -> list[Outcome]:
        return run(call, resolved, settings, processes=jobs, watcher=watcher)

    return exit_status(_quietly(build) if as_json else _visibly(call, build))


def submitter() -> str:
    """Who asks, for fair shares and for people: USER@HOST."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"[:200]


def _quietly(build: Build) -> list[Outcome]:
    outcomes = build(Silent())
    click.echo(json.dumps({"outcomes": [outcome.to_json() for outcome in outcomes]}))
    return outcomes


def _visibly(call: Call, build: Build) -> list[Outcome]:
    console = Console(highlight=False)
    with watch(console, [target.name for target in call.targets]) as watcher:
        outcomes = build(watcher)
    show_end(console, outcomes)
    show_how_to_install(console, outcomes)
    return outcomes
