"""`wheelfarm cancel`: end a submission or a job that nobody needs any more."""

from __future__ import annotations

from pathlib import Path

import click

from workers.cli.asking import asking_options, desk, job_number, show_json
from workers.farm.desk import is_submission


@click.command(short_help="Cancel a submission or a job.")
@click.argument("word", metavar="SUBMISSION|JOB")
@asking_options
def command(
    *,
    word: str,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """Cancel a submission, and those of its jobs that no other one wants; or one job for all.

    A running build is stopped with everything that it started, at its worker's next heartbeat.
    """
    with desk(farm_url, settings_file, store_option) as asked:
        known = is_submission(word)
        done = asked.cancel_submission(word) if known else asked.cancel(job_number(word))
    if as_json:
        show_json(done)
    else:
        click.echo(f"jobs cancelled: {done.jobs}")
