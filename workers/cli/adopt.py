"""``wheelfarm adopt``: wheels that an index has, verified and taken into the channel upstream."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import click

from store.access import Actor
from store.channel import UPSTREAM
from store.errors import DONE, REFUSED, UsageError
from workers.cli.asking import asking_options, remote_desk, show_json, show_table, submitter
from workers.farm.answers import Adoption, Adoptions
from workers.farm.calls import MOST_ADOPTED, say_adoption
from workers.farm.desk import Desk, FarmDesk
from workers.farm.farm import farm_over, store_of
from workers.requirements import read_pins
from workers.settings import Settings, load_settings
from workers.targets import resolve_identity

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(name="adopt")
@click.argument("wanted", nargs=-1, metavar="[NAME==VERSION]...")
@click.option("-r", "files", multiple=True, type=_FILE, help="A requirements file or pylock.toml.")
@click.option("--target", "words", multiple=True, metavar="T", help="For this target. Repeatable.")
@click.option(
    "--fingerprint", "names", multiple=True, metavar="F", help="For one that the store knows."
)
@asking_options
def command(  # noqa: PLR0917  # click hands every option over by name
    wanted: tuple[str, ...],
    files: tuple[Path, ...],
    words: tuple[str, ...],
    names: tuple[str, ...],
    farm_url: str | None,
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
    if not words and not names:
        raise UsageError("for which target?", hint="--target native, or --fingerprint F")
    pins = read_pins(wanted, files)
    settings = load_settings(file=settings_file, store=store_option)
    targets = {word: resolve_identity(word, settings) for word in words}
    url = farm_url or (None if store_option else settings.farm.url)
    with _desk(url, settings) as asked:
        outcomes = [
            one
            for first in range(0, max(len(pins), 1), MOST_ADOPTED)
            for one in asked.adopt(
                say_adoption(pins[first : first + MOST_ADOPTED], targets, names)
            ).adoptions
        ]
    if as_json:
        show_json(Adoptions(adoptions=outcomes))
    else:
        _show(outcomes, [*words, *names])
    return REFUSED if any(each.status == "refused" for each in outcomes) else DONE


@contextmanager
def _desk(url: str | None, settings: Settings) -> Iterator[Desk]:
    """The desk of the farm's server, or of the local store, which is made when there is none."""
    if url:
        yield remote_desk(url, settings)
        return
    with closing(store_of(settings)) as store:
        yield FarmDesk(farm_over(store, settings), Actor(who=submitter()))


def _show(outcomes: Sequence[Adoption], targets: Sequence[str]) -> None:
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


def _row(each: Adoption) -> tuple[object, ...]:
    error = each.error
    told = f"{error.code}: {error.message}" if error else each.filename or "its marker"
    return (f"{each.package} {each.version}", each.target, each.status, told)
