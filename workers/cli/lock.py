"""``wheelfarm lock``: one environment's wheels, pinned by digest, for pip and uv."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

import click
from packaging.pylock import is_valid_pylock_path
from packaging.requirements import Requirement

from store.channel import RELEASE, parse_channel
from store.disk import disk_trouble, write_whole
from store.errors import UnknownIndexError, UsageError
from store.fingerprint import parse_fingerprint
from store.publish import Store
from store.resolve import DEFAULT_PORT
from workers.choose import Chosen, Index, choose
from workers.cli.options import open_store
from workers.locks import MADE_BY, Place, pylock_toml, requirements_txt
from workers.requirements import read_requirements

_LOCAL_SERVER: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
_OURS: Final = (f"# made by {MADE_BY} ", f'created-by = "{MADE_BY}"')
_HEAD: Final = 4_096
_FILE: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(name="lock")
@click.argument("requirements", nargs=-1, metavar="[REQUIREMENT]...")
@click.option("-r", "files", multiple=True, type=_FILE, help="A requirements file. Repeatable.")
@click.option("--fingerprint", required=True, metavar="F", help="Whose wheels to choose from.")
@click.option("--channel", default=RELEASE, show_default=True, help="Of which channel.")
@click.option(
    "--server",
    default=_LOCAL_SERVER,
    show_default=True,
    metavar="URL",
    help="The base URL of the store, as installers reach it.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    type=_FILE,
    default=(Path("pylock.toml"), Path("requirements-locked.txt")),
    show_default="pylock.toml and requirements-locked.txt",
    help="A file to write: a pylock.toml or pylock.NAME.toml, or else requirements. Repeatable.",
)
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print what was chosen as JSON.")
def command(  # noqa: PLR0917  # click hands every option over by name
    requirements: tuple[str, ...],
    files: tuple[Path, ...],
    fingerprint: str,
    channel: str,
    server: str,
    outputs: tuple[Path, ...],
    folder: Path | None,
    as_json: bool,
) -> None:
    """Choose wheels of one index and write them down, each with its digest.

    Writes a pylock.toml (PEP 751) and a requirements file with hashes, which `pip install -r`
    and `uv pip install -r` install from the store and from nowhere else. Without a REQUIREMENT
    or -r every project of the index is locked at its newest version. A file that something else
    made is left alone.
    """
    wanted = read_requirements(requirements, files)
    with closing(open_store(folder)) as store:
        place = _place(store, channel, fingerprint, server)
        index = Index.of(store, place.channel, place.fingerprint, place.target)
        everything = [Requirement(name) for name in index.by_project]
        chosen = choose(index, wanted or everything)
    for output in outputs:
        _write(output, chosen, place)
    _say(chosen, outputs, as_json)


def _place(store: Store, channel: str, fingerprint: str, server: str) -> Place:
    names = parse_channel(channel), parse_fingerprint(fingerprint)
    if not store.catalogue.has_index(*names):
        raise UnknownIndexError(
            f"the channel {names[0]} has no index for {names[1]}",
            hint="`wheelfarm index-url` says which one is yours",
        )
    if not server.startswith(("http://", "https://")):
        raise UsageError(f"not the URL of a server: {server[:80]!r}")
    target = store.catalogue.targets(names[0])[names[1]]
    return Place(channel=names[0], fingerprint=names[1], target=target, server=server)


def _write(output: Path, chosen: Sequence[Chosen], place: Place) -> None:
    """The file, whole or not at all, in the form that its name says."""
    write = pylock_toml if is_valid_pylock_path(output) else requirements_txt
    text = write(chosen, place)
    with disk_trouble("write to", output):
        _spare_others(output)
    write_whole(output, text.encode())


def _spare_others(output: Path) -> None:
    """Raises UsageError for a file that is there and that this command did not make."""
    if not output.exists():
        return
    with output.open("rb") as file:
        head = file.read(_HEAD).decode("utf-8", "replace")
    if not any(mark in head for mark in _OURS):
        raise UsageError(
            f"{output} is there and was not made by `wheelfarm lock`; it was left as it is",
            hint="give another name with -o, or remove it",
        )


def _say(chosen: Sequence[Chosen], outputs: Sequence[Path], as_json: bool) -> None:
    if as_json:
        packages = [{"needs": [*one.needs], **one.release.to_json()} for one in chosen]
        click.echo(json.dumps({"files": [*map(str, outputs)], "packages": packages}))
        return
    for one in chosen:
        click.echo(f"{one.release.name}=={one.release.version}  {one.release.filename}", err=True)
    click.echo(f"{len(chosen)} wheels locked in {' and '.join(map(str, outputs))}")
