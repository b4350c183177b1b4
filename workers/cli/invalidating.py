"""What `wheelfarm yank` and `wheelfarm disown` have in common: what is meant, first the blast
radius, then the question, then the deed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from pydantic import ValidationError

from store.digest import parse_sha256
from store.errors import MalformedError, NotFoundError, UsageError
from store.invalidate import Verb
from workers.cli.asking import asking_options, desk, show_json, show_table, submitter
from workers.farm.answers import Lifted, Order, Orders, Radius, Strike, Struck
from workers.farm.calls import SaidSelection, SaidStrike, SaidUndo
from workers.farm.desk import Desk
from workers.text import printable

F = TypeVar("F", bound=Callable[..., Any])

_PAST: Final = {"yank": "yanked", "disown": "disowned"}
_MOST_ROWS: Final = 50
_TEXT_OPTIONS: Final = {
    "channel": ("NAME", "Only in this channel."),
    "fingerprint": ("F", "Only what was built for this fingerprint."),
    "file": ("NAME|SHA256", "A wheel, by its file name or digest."),
    "package": ("NAME[==V]", "A project, or one version of it."),
    "build-key": ("KEY", "One build."),
    "requirement": ("SHA256|NAME==V", "What was built with this build requirement."),
    "worker": ("ID", "What this worker built."),
    "toolchain": ("TEXT", "What was built by this toolchain: its digest, or text in it."),
    "interpreter": (
        "TEXT",
        "What was built for this interpreter build: a fingerprint or a part of one, or the name "
        "of its libpython, or a digest of its build.",
    ),
    "sdist": ("SHA256|FILE", "What was built from this sdist."),
}
_FLAGS: Final = (
    click.option("--linked", is_flag=True, help="Only wheels bound to their interpreter build."),
    click.option(
        "--field",
        "fields",
        multiple=True,
        metavar="PATH=VALUE",
        help="A field of the BuildKey, as in epoch=3 or recipe.env.CFLAGS=-O2. Repeatable.",
    ),
    click.option("--reason", metavar="TEXT", help="Why; it is shown to everyone."),
    click.option("--deep/--shallow", default=None, help="Also what was built with them, or not."),
    click.option("--undo", is_flag=True, help="Undo it: an order by number, or what is selected."),
    click.option("--list", "listed", is_flag=True, help="List the orders."),
    click.option("--dry-run", is_flag=True, help="Show the blast radius; change nothing."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the command line says."""

    verb: Verb
    selection: SaidSelection | None
    order: int | None
    reason: str | None
    deep: bool | None
    dry_run: bool
    yes: bool
    as_json: bool

    def strike(self, *, dry_run: bool) -> SaidStrike:
        """The order in the words of the farm. Raises MalformedError, UsageError."""
        if self.selection is None:
            raise UsageError("nothing is selected", hint="name a wheel, a package, a worker, …")
        said: SaidStrike = in_words(
            SaidStrike,
            selection=self.selection,
            by=submitter(),
            reason=self.reason,
            deep=self.deep,
            dry_run=dry_run,
        )
        return said


def invalidating_options(command: F) -> F:
    """Every option of the two commands, and the argument WHAT."""
    command = asking_options(command)
    for option in reversed(_FLAGS):
        command = option(command)
    for name, (metavar, text) in reversed(_TEXT_OPTIONS.items()):
        command = click.option(f"--{name}", metavar=metavar, help=text)(command)
    return click.argument("what", required=False, metavar="[WHAT]")(command)


def run(
    verb: Verb,
    *,
    what: str | None,
    reason: str | None,
    deep: bool | None,
    undo: bool,
    listed: bool,
    dry_run: bool,
    yes: bool,
    farm_url: str | None,
    settings_file: Path | None,
    store_option: Path | None,
    as_json: bool,
    **conditions: Any,
) -> None:
    """Do what one of the two commands was asked for."""
    order = _order_number(what) if undo else None
    chosen = _selection(None if order else what, conditions)
    wish = Wish(
        verb=verb,
        selection=chosen,
        order=order,
        reason=reason,
        deep=deep,
        dry_run=dry_run,
        yes=yes,
        as_json=as_json,
    )
    with desk(farm_url, settings_file, store_option) as asked:
        if listed:
            _show_orders(asked.orders(), as_json=as_json)
        elif undo:
            _undo(asked, wish)
        else:
            _strike(asked, wish)


def _order_number(what: str | None) -> int | None:
    return int(what) if what and what.isascii() and what.isdigit() and len(what) < 10 else None


def _selection(what: str | None, conditions: Mapping[str, Any]) -> SaidSelection | None:
    """The selection; None where nothing is said. Raises MalformedError."""
    said = {name: value for name, value in conditions.items() if value}
    if "fields" in said:
        said["fields"] = dict(_field(text) for text in said["fields"])
    if what is not None:
        said = {**meant(what), **said}
    return in_words(SaidSelection, **said) if said else None


def meant(what: str) -> dict[str, str]:
    """A condition that WHAT is, by its look: a wheel's name or path, a digest, or a package."""
    if what.endswith(".whl"):
        return {"file": Path(what).name}
    try:
        return {"file": parse_sha256(what)}
    except MalformedError:
        return {"package": what}


def _field(text: str) -> tuple[str, str]:
    path, equals, value = text.partition("=")
    if not path or not equals:
        raise UsageError(f"not PATH=VALUE: {text[:80]!r}", hint="as in --field epoch=3")
    return path, value


def in_words(model: type[Any], **values: Any) -> Any:
    """The call in the words of the farm. Raises MalformedError."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedError(str(first["msg"])[:300], path=place) from error


def _strike(asked: Desk, wish: Wish) -> None:
    looked = asked.strike(wish.verb, wish.strike(dry_run=True))
    if wish.dry_run:
        _show(looked, wish)
        return
    if not looked.radius.selected:
        raise NotFoundError("no release that stands is meant", hint="--dry-run shows what is")
    if not wish.as_json:
        _show(looked, wish)
    _confirm(wish, looked.radius)
    done = asked.strike(wish.verb, wish.strike(dry_run=False))
    if wish.as_json:
        show_json(done)
    elif done.order is not None:
        count = done.radius.totals["selected"] + done.radius.totals["made_with"]
        click.echo(
            f"{_PAST[wish.verb]}: {count} (order {done.order.id}); "
            f"`wheelfarm {wish.verb} --undo {done.order.id}` brings them back"
        )


def _confirm(wish: Wish, radius: Radius) -> None:
    if wish.reason is None:
        raise UsageError("no reason is given", hint="--reason TEXT; --dry-run needs none")
    if wish.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", hint="--dry-run looks, --yes does it")
    count = radius.totals["selected"] + radius.totals["made_with"]
    click.confirm(f"{wish.verb} {count} releases?", abort=True, err=True)


def _undo(asked: Desk, wish: Wish) -> None:
    if wish.dry_run:
        raise UsageError("--undo has no dry run", hint="--list lists the orders")
    call = in_words(SaidUndo, by=submitter(), order=wish.order, selection=wish.selection)
    lifted = asked.undo(wish.verb, call)
    if wish.as_json:
        show_json(lifted)
    else:
        _show_lifted(lifted)


def _show(strike: Strike, wish: Wish) -> None:
    if wish.as_json:
        show_json(strike)
        return
    radius = strike.radius
    _show_part("selected", radius.selected, radius, _release_row)
    _show_part("made_with", radius.made_with, radius, _release_row)
    _show_part("widened", radius.widened, radius, lambda w: (w.filename, w.fingerprint, w.reason))
    _show_part(
        "served",
        radius.served,
        radius,
        lambda s: (s.filename, f"{s.channel} {s.fingerprint}", f"{s.first_on} to {s.last_on}"),
    )
    _show_part("same_bytes", radius.same_bytes, radius, _release_row)
    click.echo(f"channels: {', '.join(radius.channels) or 'none'}")
    click.echo(f"fingerprints: {', '.join(radius.fingerprints) or 'none'}")
    if radius.cleaning:
        click.echo("on every machine that had them:")
    for each in radius.cleaning:
        click.echo(f"  {each.command}    # {each.drops}")


_TITLES: Final = {
    "selected": "selected",
    "made_with": "built with them",
    "widened": "widened from them",
    "served": "served to",
    "same_bytes": "the same bytes elsewhere, left alone",
}


def _show_part(
    name: str, rows: Sequence[Any], radius: Radius, row: Callable[[Any], tuple[object, ...]]
) -> None:
    total = radius.totals[name]
    click.echo(f"{_TITLES[name]}: {total}")
    if rows:
        show_table(("file", "where", "note"), map(row, rows[:_MOST_ROWS]))
    if total > _MOST_ROWS:
        click.echo(f"… and {total - _MOST_ROWS} more: --json lists them")


def _release_row(each: Struck) -> tuple[object, ...]:
    note = f"built with {each.because}" if each.because else each.yanked or ""
    return (each.filename, f"{each.channel} {each.fingerprint}", note)


def _show_lifted(lifted: Lifted) -> None:
    click.echo(f"brought back: {len(lifted.restored)}")
    for each in lifted.restored:
        click.echo(f"  {printable(each.filename)} in {each.channel}")
    for each in lifted.replaced:
        click.echo(f"  {printable(each.filename)} stays away: its build has a newer release")
    for each in lifted.held:
        click.echo(f"  {printable(each.filename)} stays away: another order holds it")


def _show_orders(orders: Orders, *, as_json: bool) -> None:
    if as_json:
        show_json(orders)
    else:
        names = ("order", "what", "selection", "reason", "by", "when")
        show_table(names, map(_order_row, orders.orders))


def _order_row(order: Order) -> tuple[object, ...]:
    chosen = ", ".join(f"{name}={value}" for name, value in order.selection.items())
    undone = f"\nundone by {order.undone_by}" if order.undone_at else ""
    when = f"{order.at:%Y-%m-%d %H:%M}{undone}"
    return (order.id, order.verb, chosen, order.reason, order.by, when)
