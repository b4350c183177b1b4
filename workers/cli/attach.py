"""`wheelfarm attach`: follow a submission again."""

from __future__ import annotations

from pathlib import Path

import click

from store.errors import UsageError
from workers.cli.asking import asking_options, remote_desk
from workers.cli.on_farm import follow
from workers.cli.result_files import ResultFiles, result_options
from workers.farm.desk import is_submission
from workers.outcome import exit_status
from workers.settings import load_settings


@click.command(short_help="Follow a submission again.")
@click.argument("submission", metavar="SUBMISSION")
@result_options
@asking_options
def command(
    *,
    submission: str,
    junit: Path | None,
    summary: Path | None,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> int:
    """Follow a submission to its end, and exit as the `wheelfarm build` that made it would have."""
    settings = load_settings(file=settings_file, store=store_option)
    url = farm_url or settings.farm.url
    if not url:
        raise UsageError("which farm?", hint="--farm URL, farm.url or $WHEELFARM_FARM names it")
    if not is_submission(submission):
        raise UsageError(f"not the id of a submission: {submission[:80]!r}")
    outcomes = follow(remote_desk(url, settings), submission, as_json=as_json)
    if outcomes is None:
        return 130
    ResultFiles(junit=junit, summary=summary).write(outcomes)
    return exit_status(outcomes)
