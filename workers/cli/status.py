"""``wheelfarm status``: what a channel says of a whole project (PEP 792)."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import click
from packaging.utils import InvalidName, NormalizedName, canonicalize_name

from store.access import Actor
from store.channel import RELEASE, parse_channel
from store.errors import UsageError
from store.status import STATUSES, ProjectStatus, Status
from workers.cli.asking import submitter
from workers.cli.options import open_store
from workers.text import printable

_LONGEST = 255


@click.command(name="status")
@click.argument("project")
@click.argument("status", required=False, type=click.Choice(STATUSES))
@click.option("--reason", metavar="TEXT", help="Why; one line, shown to everyone.")
@click.option("--channel", default=RELEASE, show_default=True, help="Of which channel.")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(
    project: str,
    status: Status | None,
    reason: str | None,
    channel: str,
    folder: Path | None,
    *,
    as_json: bool,
) -> None:
    """Set the status of PROJECT in a channel, or print it.

    \b
    active       as any other
    archived     no new wheel is taken; what is there is served
    quarantined  unsafe: no new wheel is taken, and no wheel is listed or served
    deprecated   obsolete; all goes on as before
    """
    if status is None and reason is not None:
        raise UsageError("--reason is for a status that is set")
    place, name = parse_channel(channel), _name(project)
    with closing(open_store(folder)) as store:
        if status is not None:
            new = ProjectStatus(status=status, reason=reason)
            store.catalogue.set_project_status(place, name, new, Actor(who=submitter()))
        found = store.catalogue.project_status(place, name)
    if as_json:
        said = {"status": found.status, "reason": found.reason}
        click.echo(json.dumps({"project": name, "channel": place, **said}))
    else:
        click.echo(printable(f"{name}  {found.status}  {found.reason or ''}".rstrip()))


def _name(project: str) -> NormalizedName:
    try:
        name = canonicalize_name(project, validate=True)
    except InvalidName as error:
        raise UsageError(f"not a project's name: {printable(project[:80])}") from error
    if len(name) > _LONGEST:
        raise UsageError(f"a project's name has at most {_LONGEST} characters")
    return name
