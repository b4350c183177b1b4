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
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from builder.binaries.image import ElfFile
from builder.binaries.read import read_binary
from builder.checks.symbols.lists import CPYTHON, LIBSYSTEM, MUSL
from builder.checks.symbols.stable_abi import is_cpython_name
from builder.errors import BinaryError

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


NEW_IN_MUSL: Final = {
    "_Fork": "1.2.2",
    "gettid": "1.2.2",
    "reallocarray": "1.2.2",
    "tcgetwinsize": "1.2.2",
    "tcsetwinsize": "1.2.2",
}
"""What musl's release notes call new in 1.2.0 to 1.2.2, older than which no list is."""
_OLDEST_MUSL: Final = (1, 2, 2)
_ALWAYS_IN_MUSL: Final = "1.1"
# musl 1.2.0 made time_t 64 bits wide on 32-bit machines, under new names.
_TIME64: Final = re.compile(r"__\w*time\w*64(_r)?")
# Since musl 1.2.4 the loader itself answers to these, for files that are linked already.
_LFS64: Final = re.compile(r"\w+64(_r)?")
_WITHOUT_LFS64: Final = (1, 2, 4)
# Debian's musl brings a library that musl's authors do not.
_DEBIAN_S_OWN: Final = re.compile(r"fts_\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Musl:
    """What one build of musl's libc exports, by its release and its architecture."""

    release: str
    arch: str
    exports: frozenset[str]

    @property
    def version(self) -> tuple[int, ...]:
        """The release, in an order."""
        return tuple(map(int, self.release.split(".")))


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
@click.option(
    "--musl",
    metavar="RELEASE=FILE",
    multiple=True,
    help="Make musl's list from these libraries (1.2.3=lib/ld-musl-x86_64.so.1).",
)
def main(ziglang: Path | None, libpython: tuple[str, ...], musl: tuple[str, ...]) -> None:
    """Write the lists that lie beside this file anew, from what is given."""
    if ziglang:
        _write(LIBSYSTEM, libsystem_list(_stubs(ziglang)))
    if musl:
        _write(MUSL, musl_list(_musl(release, file) for release, file in _libraries(musl)))
    if libpython:
        _write(CPYTHON, cpython_list((abi, file.exports) for abi, file in _libraries(libpython)))


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


def musl_list(libraries: Iterable[Musl]) -> dict[str, dict[str, str]]:
    """Architectures -> release -> the names that came with it; two builds of one add up.

    A name is as old as the oldest library of any architecture that has it.
    """
    builds = [*libraries]
    since = _musl_since(builds)
    known = _by_loader(builds)
    has: dict[str, set[str]] = {build.arch: set(known) for build in builds}
    for build in builds:
        has[build.arch] |= build.exports
    groups: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, release in sorted(since.items()):
        groups[" ".join(sorted(a for a, names in has.items() if name in names))][release] += [name]
    return {
        archs: {release: " ".join(names) for release, names in sorted(releases.items())}
        for archs, releases in sorted(groups.items())
    }


def _musl_since(builds: Iterable[Musl]) -> dict[str, str]:
    """Name -> the release since which musl is known to have it.

    What the oldest build for an architecture has may be older; another architecture tells, or none.
    """
    since: dict[str, str] = {}
    seen: dict[str, set[str]] = defaultdict(set)
    for build in sorted(builds, key=lambda build: build.version):
        told = build.arch in seen or build.version <= _OLDEST_MUSL
        for name in build.exports - seen[build.arch] if told else ():
            release = build.release if build.version > _OLDEST_MUSL else _ALWAYS_IN_MUSL
            since.setdefault(name, release)
        seen[build.arch] |= build.exports
    since |= {n: _ALWAYS_IN_MUSL for names in seen.values() for n in names if n not in since}
    newer = {name: "1.2.0" for name in since if _TIME64.fullmatch(name)} | NEW_IN_MUSL
    since |= {name: release for name, release in newer.items() if name in since}
    return {name: first for name, first in since.items() if not _DEBIAN_S_OWN.fullmatch(name)}


def _by_loader(builds: Iterable[Musl]) -> frozenset[str]:
    """The names that libc no longer has and the loader finds all the same, on every machine."""
    old, new = set[str](), set[str]()
    for build in builds:
        (old if build.version < _WITHOUT_LFS64 else new).update(build.exports)
    return frozenset(filter(_LFS64.fullmatch, old - new)) if new else frozenset()


def _musl(release: str, file: ElfFile) -> Musl:
    if not re.fullmatch(r"\d+\.\d+\.\d+", release):
        raise click.UsageError(f"no release of musl: {release}")
    return Musl(release=release, arch=file.arch, exports=file.exports)


def _stubs(folder: Path) -> Iterator[tuple[str, str]]:
    for release, version, name in STUBS:
        found = sorted(folder.glob(f"ziglang-{version}-*.whl"))
        if not found:
            raise click.UsageError(f"there is no wheel of ziglang {version} in {folder}")
        with zipfile.ZipFile(found[0]) as wheel:
            ending = f"lib/libc/darwin/{name}"
            paths = [path for path in wheel.namelist() if path.endswith(ending)]
            if not paths:
                raise click.UsageError(f"there is no {ending} in {found[0]}")
            yield release, wheel.read(paths[0]).decode("utf-8")


def _libraries(given: tuple[str, ...]) -> Iterator[tuple[str, ElfFile]]:
    for pair in given:
        word, _, path = pair.partition("=")
        if not path:
            raise click.UsageError(f"not of the form NAME=FILE: {pair}")
        yield word, _elf_file(Path(path))


def _elf_file(path: Path) -> ElfFile:
    try:
        file = read_binary(path.read_bytes())
    except OSError as error:
        raise click.UsageError(f"cannot read {path}: {error.strerror}") from error
    except BinaryError as error:
        raise click.UsageError(f"no ELF file: {path}: {error.message}") from error
    if not isinstance(file, ElfFile):
        raise click.UsageError(f"no ELF file: {path}")
    return file


def _write(path: Path, table: object) -> None:
    """Write `table` so that the same content is the same bytes."""
    text = json.dumps(table, sort_keys=True, separators=(",", ":"))
    path.write_bytes(gzip.compress(text.encode("ascii"), compresslevel=9, mtime=0))
    click.echo(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
