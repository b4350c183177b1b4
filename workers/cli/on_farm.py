"""``wheelfarm build --farm``: submitting to a farm, and following what was submitted."""

from __future__ import annotations

import click

from workers.cli.following import quietly, visibly
from workers.cli.plans import show_plan
from workers.cli.result_files import ResultFiles
from workers.farm.attend import Attendance, put_into_words
from workers.farm.patience import patiently
from workers.farm.remote import RemoteDesk
from workers.matrix import Watcher
from workers.outcome import Outcome, exit_status
from workers.plan import Call


def build_on_farm(
    desk: RemoteDesk, call: Call, results: ResultFiles, *, dry_run: bool, as_json: bool
) -> int:
    """Submit `call` and follow it; the exit status is that of the same build here."""
    words = put_into_words(desk, call)
    if dry_run:
        return show_plan(desk.plan(words).items, as_json=as_json)
    submission = desk.submit(words).id
    click.echo(f"submission {submission}", err=True)
    outcomes = follow(desk, submission, as_json=as_json)
    if outcomes is None:
        return 130
    results.write(outcomes)
    return exit_status(outcomes)


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
