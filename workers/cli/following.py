"""A run as a person sees it, on this machine or on a farm: live, then the reasons, then JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import click
from rich.console import Console

from workers.farm.attend import Attendance
from workers.farm.patience import patiently
from workers.farm.remote import RemoteDesk
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


def follow(desk: RemoteDesk, submission_id: str, *, as_json: bool) -> list[Outcome] | None:
    """Follow a submission on a farm; None when the follower was interrupted.

    The farm goes on then, and what to type is said.
    """

    def build(watcher: Watcher) -> list[Outcome]:
        return Attendance(desk, submission_id, watcher).outcomes()

    try:
        if as_json:
            return quietly(build)
        submission = patiently(lambda: desk.submission(submission_id), desk.patience())
        return visibly(submission.targets, build, desk.url)
    except KeyboardInterrupt:
        click.echo(
            f"the farm goes on with it: `wheelfarm attach {submission_id}` follows it again, "
            f"`wheelfarm cancel {submission_id}` ends it",
            err=True,
        )
        return None
