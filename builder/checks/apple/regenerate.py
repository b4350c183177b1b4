"""Makes the list of macOS's libraries anew: `python -m builder.checks.apple.regenerate --help`.

ORIGIN.md says what is given to it. Only names are kept, and since when each is known to be there.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
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
_FRAMEWORK: Final = re.compile(r"/(\w[^/]*)\.framework/(Versions/[^/]+/)?\1$")
_ALWAYS: Final = "0.0"

_folder = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--ziglang", metavar="DIR", type=_folder, required=True, help="Wheels of ziglang.")
@click.option("--wheels", metavar="DIR", type=_folder, help="Wheels of other projects for macOS.")
@click.option("--sdk", metavar="DIR", type=_folder, multiple=True, help="An unpacked macOS SDK.")
def main(ziglang: Path, wheels: Path | None, sdk: tuple[Path, ...]) -> None:
    """Write names.json anew from what is given."""
    found = [*_of_stubs(ziglang)]
    found += [(name, _ALWAYS) for name in _of_wheels(wheels)] if wheels else []
    names = with_sdks(names_since(found), _of_sdks(sdk))
    LIST.write_text(json.dumps(names, indent=0, sort_keys=True) + "\n", "ascii")
    click.echo(f"{LIST.name}: {len(names)} names")


def names_since(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Install name -> the oldest release with which it was found; other folders' are left out."""
    since: dict[str, str] = {}
    for name, release in found:
        if name.startswith(SYSTEM) and name.isascii():
            since[name] = min(since.get(name, release), release, key=_order)
    return since


def with_sdks(since: Mapping[str, str], found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """`since` with what SDKs have: a name that they alone know may be older than the oldest."""
    listed = [*found]
    dated = names_since((name, release) for name, release in listed if name in since)
    names = names_since((name, _ALWAYS) for name, _ in listed)
    older = {name: min(since[name], release, key=_order) for name, release in dated.items()}
    return {**names, **since, **older}


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
    """What an SDK's stubs name, and where they lie, with the release of the SDK."""
    for folder in folders:
        release = _release_of(folder)
        for place in ("usr/lib", "System/Library/Frameworks"):
            for path in sorted(path for path in (folder / place).rglob("*") if path.is_file()):
                if name := installed_as(f"/{path.relative_to(folder).as_posix()}"):
                    yield name, release
                if path.suffix == ".tbd":
                    text = path.read_text("utf-8")
                    yield from ((inner, release) for inner in install_names(text))


def installed_as(path: str) -> str | None:
    """Where macOS has the library whose stub lies at `path` of its SDK; None for other files.

    Stubs have been dynamic libraries, and texts since 10.11.
    """
    if path.endswith(".dylib") or _FRAMEWORK.search(path):
        return path
    if not path.endswith(".tbd"):
        return None
    plain = path.removesuffix(".tbd")
    return plain if _FRAMEWORK.search(plain) else f"{plain}.dylib"


def _release_of(folder: Path) -> str:
    """The release of an SDK, by its settings, or by its folder where it is older than those."""
    settings = folder / "SDKSettings.json"
    if settings.is_file():
        text = str(json.loads(settings.read_text("utf-8"))["Version"])
    else:
        text = folder.name.removeprefix("MacOSX").removesuffix(".sdk").rstrip("u")
    if not re.fullmatch(r"\d+(\.\d+)*", text):
        raise click.UsageError(f"no SDK of macOS: {folder}")
    major, minor = f"{text}.0".split(".")[:2]
    return f"{major}.{minor}"


if __name__ == "__main__":
    main()
