"""``wheelfarm adopt``: wheels that an index has, verified and taken into the channel upstream."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import click

from store.access import Actor
from store.channel import UPSTREAM
from store.errors import DONE, REFUSED, NotFoundError, UsageError
from store.fingerprint import parse_fingerprint
from store.publish import Store
from store.target import Target
from workers.adopt import Adopted, adopt
from workers.cli.asking import show_table, store_options, submitter
from workers.farm.farm import store_of
from workers.requirements import read_pins
from workers.settings import Settings, load_settings
from workers.targets import resolve_identity
from workers.upstream import Upstream

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(name="adopt")
@click.argument("wanted", nargs=-1, metavar="[NAME==VERSION]...")
@click.option("-r", "files", multiple=True, type=_FILE, help="A requirements file or pylock.toml.")
@click.option("--target", "words", multiple=True, metavar="T", help="For this target. Repeatable.")
@click.option(
    "--fingerprint", "names", multiple=True, metavar="F", help="For one that the store knows."
)
@store_options
def command(  # noqa: PLR0917  # click hands every option over by name
    wanted: tuple[str, ...],
    files: tuple[Path, ...],
    words: tuple[str, ...],
    names: tuple[str, ...],
    settings_file: Path | None,
    store_option: Path | None,
    *,
    as_json: bool,
) -> int:
    """Take wheels of the index into the channel upstream, for each target the one that fits best.

    Each is held against the hash that the index gives (and those of the file), judged as any other
    wheel, and kept as it is, retagged to what holds, or refused. What is there by its hash is not
    fetched again. Without anything wanted the targets alone are made known, so that a server that
    pulls through has an index for them. Exit status: 0 all of it is there; 1 something is not.
    """
    pins = read_pins(wanted, files)
    settings = load_settings(file=settings_file, store=store_option)
    with closing(store_of(settings)) as store:
        targets = _targets(store, settings, words, names)
        upstream = Upstream.of(store, settings, Actor(who=submitter()))
        outcomes = list(adopt(upstream, pins, targets))
    if as_json:
        click.echo(json.dumps({"adoptions": [each.to_json() for each in outcomes]}))
    else:
        _show(outcomes, targets)
    return REFUSED if any(each.status == "refused" for each in outcomes) else DONE


def _targets(
    store: Store, settings: Settings, words: Sequence[str], names: Sequence[str]
) -> dict[str, Target]:
    if not words and not names:
        raise UsageError("for which target?", hint="--target native, or --fingerprint F")
    targets = {word: resolve_identity(word, settings) for word in words}
    known = store.catalogue.targets() if names else {}
    for name in map(parse_fingerprint, names):
        if name not in known:
            raise NotFoundError(f"the store knows no target {name}", hint="give it as --target")
        targets[name] = known[name]
    return targets


def _show(outcomes: Sequence[Adopted], targets: dict[str, Target]) -> None:
    if not outcomes:
        click.echo(f"known: {', '.join(targets)}")
        return
    names = ("package", "target", "status", "file or reason")
    show_table(names, map(_row, outcomes))
    for each in outcomes:
        if each.error is not None and each.error.hint:
            click.echo(f"{each.package}: {each.error.hint}", err=True)
    count = sum(each.status in {"adopted", "there"} for each in outcomes)
    click.echo(f"in {UPSTREAM}: {count} of {len(outcomes)}")


def _row(each: Adopted) -> tuple[object, ...]:
    error = each.error
    told = f"{error.code}: {error.message}" if error else each.filename or "its marker"
    return (f"{each.package} {each.version}", each.target, each.status, told)
