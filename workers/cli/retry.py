"""`wheelfarm retry`: try again what failed."""

from __future__ import annotations

from pathlib import Path

import click

from workers.cli.asking import asking_options, desk, show_json


@click.command(short_help="Try failed or cancelled jobs again.")
@click.argument("word", metavar="JOB|NAME|NAME==VERSION")
@asking_options
def command(
    *,
    word: str,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """Try a failed or cancelled job again, or every one of a package, and forget that it failed.

    Without a farm the jobs wait for the next `wheelfarm build` that wants them.
    """
    with desk(farm_url, settings_file, store_option) as asked:
        done = asked.retry(int(word)) if word.isdigit() else asked.retry_all(word)
    if as_json:
        show_json(done)
        return
    jobs = ", ".join(map(str, done.jobs)) or "none"
    click.echo(f"jobs that are tried again: {jobs}; failures forgotten: {done.forgotten}")
