"""A run as a person sees it, on this machine or on a farm: live, then the reasons; or JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click
from rich.console import Console

from workers.matrix import Silent, Watcher, show_end, show_how_to_install, watch
from workers.outcome import Outcome

Build = Callable[[Watcher], list[Outcome]]


def quietly(build: Build) -> list[Outcome]:
    """Nothing but one JSON object at the end."""
    outcomes = build(Silent())
    click.echo(json.dumps({"outcomes": [outcome.to_json() for outcome in outcomes]}))
    return outcomes


def visibly(targets: Sequence[str], build: Build, server: str | None = None) -> list[Outcome]:
    """The live matrix, the table at the end, and what to type next."""
    console = Console(highlight=False)
    with watch(console, targets) as watcher:
        outcomes = build(watcher)
    show_end(console, outcomes)
    show_how_to_install(console, outcomes, server)
    return outcomes
