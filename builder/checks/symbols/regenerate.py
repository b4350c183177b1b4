"""Makes the lists of symbols anew: `python -m builder.checks.symbols.regenerate --help`.

ORIGIN.md says what is given to it. Only names are kept, and since when each is there.
"""

from __future__ import annotations

import gzip
import json
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

import click

from builder.binaries.image import ElfFile
from builder.binaries.read import read_binary
from builder.checks.symbols.lists import CPYTHON, LIBSYSTEM
from builder.checks.symbols.stable_abi import is_cpython_name

STUBS: Final = (
    ("10.15", "0.9.1", "libSystem.10.tbd"),
    ("11.0", "0.9.1", "libSystem.11.tbd"),
    ("12.0", "0.11.0", "libSystem.12.tbd"),
    ("13.0", "0.11.0", "libSystem.13.tbd"),
    ("14.0", "0.12.1", "libSystem.tbd"),
    ("15.0", "0.14.1", "libSystem.tbd"),
    ("15.0", "0.15.2", "libSystem.tbd"),
    ("26.0", "0.16.0", "libSystem.tbd"),
    ("27.0", "0.17.0", "libSystem.tbd"),
)
"""macOS release, version of ziglang, file in it; releases in their order."""

_ARCHS: Final = {"x86_64": "x86_64-macos", "arm64": "arm64e?-macos"}
_WITH_SYMBOLS: Final = frozenset({"symbols", "weak-symbols", "thread-local-symbols"})
_MARKED: Final = re.compile(r"\$ld\$(?:hide|weak)\$os10\.(\d+)\$(.+)")
# Marks for older releases say only that another library had the symbol then.
_OLDEST_MARK: Final = 6


@click.command()
@click.option(
    "--ziglang",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Make libSystem's list from the ziglang wheels in DIR.",
)
@click.option(
    "--libpython",
    metavar="ABI=FILE",
    multiple=True,
    help="Make CPython's list from these libraries (cp313=/usr/lib/libpython3.13.so.1.0).",
)
def main(ziglang: Path | None, libpython: tuple[str, ...]) -> None:
    """Write the lists that lie beside this file anew, from what is given."""
    if ziglang:
        _write(LIBSYSTEM, libsystem_list(_stubs(ziglang)))
    if libpython:
        _write(CPYTHON, cpython_list(_libraries(libpython)))


def libsystem_list(stubs: Iterable[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Architectures -> release -> the names that came with it, from (release, text of a stub)."""
    since: dict[str, dict[str, str]] = {arch: {} for arch in _ARCHS}
    for release, text in stubs:
        for arch, name in _symbols_of(text):
            since[arch].setdefault(name, release)
    for name, minor in _marks(since["x86_64"]).items():
        if minor >= _OLDEST_MARK and name in since["x86_64"]:
            since["x86_64"][name] = f"10.{minor + 1}"
    return _by_release(since)


def _marks(names: Iterable[str]) -> dict[str, int]:
    """Symbol -> the last minor version of macOS 10 for which the linker must not count on it."""
    marks: dict[str, int] = {}
    for found in filter(None, map(_MARKED.fullmatch, names)):
        marks[found[2]] = max(int(found[1]), marks.get(found[2], 0))
    return marks


def _by_release(since: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """The names without their underscore, those of both architectures once."""
    names: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    intel, arm = since["x86_64"], since["arm64"]
    for name in sorted({*intel, *arm}):
        if "$ld$" in name or not name.startswith(("_", "dyld_")):
            continue
        plain = name.removeprefix("_")
        if _as_arm(intel.get(name)) == arm.get(name):
            names["arm64 x86_64"][intel[name]].append(plain)
        else:
            for arch in _ARCHS:
                if name in since[arch]:
                    names[arch][since[arch][name]].append(plain)
    return {
        archs: {release: " ".join(found) for release, found in sorted(releases.items())}
        for archs, releases in sorted(names.items())
    }


def _as_arm(release: str | None) -> str | None:
    """A release of macOS for Intel, as arm64 counts: from 11.0 on."""
    return "11.0" if release and release.startswith("10.") else release


def _symbols_of(text: str) -> Iterator[tuple[str, str]]:
    """Architecture and name of each symbol that a text stub of version 4 exports."""
    for document in re.split(r"^--- .*$", text, flags=re.MULTILINE):
        _, _, exports = re.sub(r"^reexports:$", "exports:", document, flags=re.MULTILINE).partition(
            "\nexports:"
        )
        for group in re.split(r"^  - targets:", exports, flags=re.MULTILINE)[1:]:
            yield from _symbols_in(group)


def _symbols_in(group: str) -> Iterator[tuple[str, str]]:
    targets, _, rest = group.partition("]")
    archs = [arch for arch, target in _ARCHS.items() if re.search(target, targets)]
    for key, names in re.findall(r"^    ([a-z-]+):\s*\[([^]]*)\]", rest, re.MULTILINE):
        if key in _WITH_SYMBOLS:
            for name in names.split(","):
                yield from ((arch, name.strip().strip("'")) for arch in archs)


def cpython_list(exports: Iterable[tuple[str, frozenset[str]]]) -> dict[str, str]:
    """The ABIs that export a name, parted by spaces -> such names; two files of one ABI add up."""
    abis: dict[str, set[str]] = defaultdict(set)
    for abi, names in exports:
        for name in filter(is_cpython_name, names):
            if not name.startswith("PyInit_"):
                abis[name].add(abi)
    groups: dict[str, list[str]] = defaultdict(list)
    for name, found in sorted(abis.items()):
        groups[" ".join(sorted(found))].append(name)
    return {key: " ".join(names) for key, names in sorted(groups.items())}


def _stubs(folder: Path) -> Iterator[tuple[str, str]]:
    for release, version, name in STUBS:
        found = sorted(folder.glob(f"ziglang-{version}-*.whl"))
        if not found:
            raise click.UsageError(f"there is no wheel of ziglang {version} in {folder}")
        with zipfile.ZipFile(found[0]) as wheel:
            ending = f"lib/libc/darwin/{name}"
            path = next(path for path in wheel.namelist() if path.endswith(ending))
            yield release, wheel.read(path).decode("utf-8")


def _libraries(given: tuple[str, ...]) -> Iterator[tuple[str, frozenset[str]]]:
    for pair in given:
        abi, _, path = pair.partition("=")
        file = read_binary(Path(path).read_bytes())
        if not isinstance(file, ElfFile):
            raise click.UsageError(f"no ELF file: {path}")
        yield abi, file.exports


def _write(path: Path, table: object) -> None:
    """Write `table` so that the same content is the same bytes."""
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))
    click.echo(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
