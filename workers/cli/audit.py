"""`wheelfarm audit`: who changed what."""

from __future__ import annotations

import json
import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click

from store.audit import AuditFilter, AuditRow, audit_rows
from store.errors import UsageError
from workers.cli.asking import show_table, store_options
from workers.farm.farm import store_of
from workers.settings import load_settings

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.command(short_help="List who changed what.")
@click.option("--who", help="Only deeds of this user, token's name or worker.")
@click.option("--token", metavar="ID", help="Only deeds by this token.")
@click.option("--action", help="Only this action, such as submit, publish or token-create.")
@click.option("--object", "on", metavar="TEXT", help="Only objects that begin so, as `job 7`.")
@click.option("--result", help="Only this result: done, asked, or the code of an error.")
@click.option("--since", metavar="WHEN", help="A date, a time (UTC), or 30m, 12h, 7d ago.")
@click.option("--before", type=click.IntRange(1), help="Only rows with a lower number than this.")
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="How many."
)
@store_options
def command(
    *,
    who: str | None,
    token: str | None,
    action: str | None,
    on: str | None,
    result: str | None,
    since: str | None,
    before: int | None,
    limit: int,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
) -> None:
    """List who changed what in a store and its farm, the newest first.

    It takes access to the catalogue: there is no way by HTTP. A row that says `asked` is of
    something that was begun, and whose end nobody saw.
    """
    chosen = AuditFilter(
        who=_word(who),
        token=_word(token),
        action=_word(action),
        object=_word(on),
        result=_word(result),
        since=None if since is None else _moment(since),
        before=before,
    )
    settings = load_settings(file=settings_file, store=store_option)
    with closing(store_of(settings, create=False)) as store:
        found = audit_rows(store.database, chosen, limit)
    if as_json:
        click.echo(json.dumps({"rows": [row.to_json() for row in found]}))
        return
    show_table(("row", "when (UTC)", "who", "from", "what", "on", "result"), map(_row, found))
    if len(found) == limit:
        click.echo(f"older ones: --before {found[-1].id}")


def _word(text: str | None) -> str | None:
    """A word of the command line; one that is not UTF-8 is in no catalogue."""
    if text is not None and not text.isprintable():
        raise UsageError(f"not a text to look for: {text[:80]!a}")
    return text


def _moment(text: str) -> datetime:
    """A moment: ISO 8601, in UTC unless it says otherwise, or so long ago. Raises UsageError."""
    if ago := re.fullmatch(r"([0-9]{1,5})([mhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"not a moment: {text[:80]!a}", hint="2026-01-31, 2026-01-31T12:00, 30m, 12h or 7d"
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _row(row: AuditRow) -> tuple[object, ...]:
    who = f"{row.who} ({row.token})" if row.token else row.who
    when = f"{row.at:%Y-%m-%d %H:%M:%S}"
    return (row.id, when, who, row.address or "", row.action, row.object, row.result)
