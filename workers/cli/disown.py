"""`wheelfarm disown`: take releases back, with all that was built with them."""

from __future__ import annotations

from typing import Any

import click

from workers.cli.invalidating import invalidating_options, run


@click.command(short_help="Take releases back, with all that was built with them.")
@invalidating_options
def command(**given: Any) -> None:
    """Disown releases: gone from every index, page, file address and plan at once.

    What was built with them goes with them. Their bytes stay in the store for the inquiry, and
    --undo brings them back.

    WHAT is a wheel's file name or digest, NAME or NAME==VERSION; the options say it by anything
    else that is known of a build. All that is said must hold. The blast radius comes first: what
    was built with them, whom they serve, who was given them, and what clients should clean.
    """
    run("disown", **given)
