"""`wheelfarm log`: what a build printed, or prints."""

from __future__ import annotations

import json
from pathlib import Path

import click

from workers.cli.asking import asking_options, desk, job_number
from workers.text import printable_lines


@click.command(short_help="Print the log of a job, or follow it.")
@click.argument("word", metavar="JOB")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job is over.")
@asking_options
def command(
    *,
    word: str,
    follow: bool,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """Print what a job's build has printed so far, or, with -f, follow it to the end of the job.

    With --json each piece is one JSON object in a line of its own.
    """
    with desk(farm_url, settings_file, store_option) as asked:
        for text in asked.log(job_number(word), follow=follow):
            if as_json and text:
                click.echo(json.dumps({"text": text}))
            elif text:
                click.echo(printable_lines(text), nl=False)
