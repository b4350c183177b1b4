"""Makes the list of macOS's libraries anew: `python -m builder.checks.apple.regenerate --help`.

ORIGIN.md says what is given to it. Only names are kept, and since when each is known to be there.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import click

from builder.checks.apple.names import LIST, SYSTEM
from builder.errors import RefusedWheelError
from builder.wheel import open_wheel

STUBS: Final = (
    ("0.0", "0.9.1", "libSystem.10.tbd"),
    ("11.0", "0.9.1", "libSystem.11.tbd"),
    ("12.0", "0.11.0", "libSystem.12.tbd"),
    ("13.0", "0.11.0", "libSystem.13.tbd"),
    ("14.0", "0.12.1", "libSystem.tbd"),
    ("15.0", "0.14.1", "libSystem.tbd"),
    ("26.0", "0.16.0", "libSystem.tbd"),
    ("27.0", "0.17.0", "libSystem.tbd"),
)
"""macOS release, version of ziglang, file in it, in the order of the releases.

What the oldest list has may be older than that, so it counts as always there.
"""
_INSTALL_NAME: Final = re.compile(r"^install-name:\s*'?([^'\s]+)'?\s*$", re.MULTILINE)
_ALWAYS: Final = "0.0"

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--ziglang", metavar="DIR", type=_folder, required=True, help="Wheels of ziglang.")
@click.option("--wheels", metavar="DIR", type=_folder, help="Wheels of other projects for macOS.")
@click.option("--sdk", metavar="DIR", type=_folder, multiple=True, help="An unpacked macOS SDK.")
def main(ziglang: Path, wheels: Path | None, sdk: tuple[Path, ...]) -> None:
    """Write names.json anew from what is given."""
    found = [*_of_stubs(ziglang), *_of_sdks(sdk)]
    found += [(name, _ALWAYS) for name in _of_wheels(wheels)] if wheels else []
    names = names_since(found)
    LIST.write_text(json.dumps(names, indent=0, sort_keys=True) + "\n", "ascii")
    click.echo(f"{LIST.name}: {len(names)} names")


def names_since(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Install name -> the oldest release with which it was found; other folders' are left out."""
    since: dict[str, str] = {}
    for name, release in found:
        if name.startswith(SYSTEM) and name.isascii():
            since[name] = min(since.get(name, release), release, key=_order)
    return since


def _order(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _of_stubs(folder: Path) -> Iterator[tuple[str, str]]:
    """The install names in libSystem's stubs: its own, and those of what it hands on."""
    for release, version, file in STUBS:
        paths = sorted(folder.glob(f"ziglang-{version}-*.whl"))
        if not paths:
            raise click.UsageError(f"there is no wheel of ziglang {version} in {folder}")
        with zipfile.ZipFile(paths[0]) as wheel:
            ending = f"lib/libc/darwin/{file}"
            path = next(path for path in wheel.namelist() if path.endswith(ending))
            text = wheel.read(path).decode("utf-8")
        yield from ((name, release) for name in install_names(text))


def install_names(stub: str) -> Iterator[str]:
    """The install names that a text stub describes."""
    yield from _INSTALL_NAME.findall(stub)


def _of_wheels(folder: Path) -> Iterator[str]:
    """What the slices of published wheels load; those that cannot be opened are passed over."""
    for path in sorted(folder.glob("*macosx*.whl")):
        try:
            wheel = open_wheel(path)
        except RefusedWheelError as refusal:
            click.echo(f"{path.name}: {refusal}", err=True)
            continue
        for _, file in wheel.mach:
            yield from (d.name for part in file.slices for d in part.dependencies)


def _of_sdks(folders: Iterable[Path]) -> Iterator[tuple[str, str]]:
    """The install names in an SDK's own stubs, with the release that its settings name."""
    for folder in folders:
        settings = json.loads((folder / "SDKSettings.json").read_text("utf-8"))
        major, minor = f"{settings['Version']}.0".split(".")[:2]
        for place in ("usr/lib", "System/Library"):
            for path in sorted((folder / place).rglob("*.tbd")):
                text = path.read_text("utf-8")
                yield from ((name, f"{major}.{minor}") for name in install_names(text))


if __name__ == "__main__":
    main()
