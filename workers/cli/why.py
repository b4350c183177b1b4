"""`wheelfarm why`: the reason why a job is not running."""

from __future__ import annotations

from pathlib import Path

import click

from workers.cli.asking import asking_options, desk, job_number, show_json
from workers.farm.desk import is_submission
from workers.text import printable


@click.command(short_help="Say why a job is not running.")
@click.argument("word", metavar="JOB|SUBMISSION")
@asking_options
def command(
    *,
    word: str,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """Say in a sentence why a job is not running, where it runs, or how it ended.

    JOB is a number, as `wheelfarm jobs` shows it; SUBMISSION an id, as `wheelfarm build` shows it.
    """
    with desk(farm_url, settings_file, store_option) as asked:
        known = is_submission(word)
        reason = asked.why_submission(word) if known else asked.why(job_number(word))
    if as_json:
        show_json(reason)
    else:
        click.echo(f"{reason.code}: {printable(reason.sentence)}")
