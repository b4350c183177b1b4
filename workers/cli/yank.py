"""`wheelfarm yank`: hide releases from installers that do not pin them."""

from __future__ import annotations

from typing import Any

import click

from workers.cli.invalidating import invalidating_options, run


@click.command(short_help="Hide releases from installers that do not pin them.")
@invalidating_options
def command(**given: Any) -> None:
    """Yank releases (PEP 592): only who pins them gets them still.

    WHAT is a wheel's file name or digest, NAME or NAME==VERSION; the options say it by anything
    else that is known of a build. All that is said must hold. The blast radius comes first: what
    was built with them, whom they serve, who was given them, and what clients should clean.
    """
    run("yank", **given)
