"""``wheelfarm promote``: have releases of one channel in another one, for a reason."""

from __future__ import annotations

from pathlib import Path

import click

from store.channel import RELEASE
from store.errors import UsageError
from workers.cli.asking import asking_options, desk, show_json, show_table
from workers.cli.invalidating import in_words, meant
from workers.farm.answers import Promoted
from workers.farm.calls import SaidPromotion, SaidSelection


@click.command(name="promote")
@click.argument("what")
@click.option("--from", "source", required=True, metavar="CHANNEL", help="Where it is.")
@click.option(
    "--to", "target", default=RELEASE, show_default=True, metavar="CHANNEL", help="Where it goes."
)
@click.option("--reason", metavar="TEXT", help="Why; it is kept with each release.")
@click.option("--fingerprint", metavar="F", help="Only what was built for this fingerprint.")
@click.option("--dry-run", is_flag=True, help="Say what would be promoted; change nothing.")
@asking_options
def command(  # noqa: PLR0917  # click hands every option over by name
    what: str,
    source: str,
    target: str,
    reason: str | None,
    fingerprint: str | None,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Have releases of one channel in another one: the same bytes under the same name.

    WHAT is NAME or NAME==VERSION, or a wheel's file name or digest. Yanked releases are left
    where they are. A local, uploaded or unpinned build gets into release only when the index has
    no project of its name, which is asked at that moment.
    """
    if reason is None and not dry_run:
        raise UsageError("no reason is given", hint="--reason TEXT; --dry-run needs none")
    only = {"fingerprint": fingerprint} if fingerprint else {}
    call = in_words(
        SaidPromotion,
        selection=in_words(SaidSelection, **meant(what), **only),
        source=source,
        target=target,
        reason=reason or "only looked at",
        dry_run=dry_run,
    )
    with desk(farm_url, settings_file, store_option) as asked:
        done = asked.promote(call)
    if as_json:
        show_json(done)
    else:
        _show(done, dry_run=dry_run)


def _show(done: Promoted, *, dry_run: bool) -> None:
    rows = [(each.filename, each.fingerprint, "") for each in done.made]
    rows += [(each.filename, each.fingerprint, "there already") for each in done.there]
    show_table(("file", "fingerprint", "note"), rows)
    click.echo(f"{'would be promoted' if dry_run else 'promoted'}: {len(done.made)}")
