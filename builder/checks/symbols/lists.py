"""Which symbols macOS, musl and CPython bring: lists of names, read once and only when asked for.

ORIGIN.md says where they come from; `regenerate` makes them anew.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

from store.tags import MacVersion

LIBSYSTEM: Final = Path(__file__).with_name("libsystem.json.gz")
MUSL: Final = Path(__file__).with_name("musl.json.gz")
CPYTHON: Final = Path(__file__).with_name("cpython.json.gz")

MuslVersion: TypeAlias = tuple[int, int, int]
"""Major, minor and patch of a release of musl."""

_OLDEST_LIST: Final = (10, 15)
_ALWAYS: Final = (0, 0)


@cache
def libsystem_since(arch: str) -> Mapping[str, MacVersion] | None:
    """Symbol (as C sees it) -> the macOS since which libSystem has it; None for another `arch`.

    What the oldest list has without saying more counts as there since (0, 0).
    """
    table = {name: _since(release) for name, release in _releases(LIBSYSTEM, arch)}
    return table or None


@cache
def libsystem_at(arch: str, minimum: MacVersion) -> frozenset[str] | None:
    """The symbols that libSystem has on macOS `minimum`; None for an `arch` without a list."""
    since = libsystem_since(arch)
    return None if since is None else frozenset(n for n, first in since.items() if first <= minimum)


def _since(release: str) -> MacVersion:
    major, minor = map(int, release.split("."))
    return _ALWAYS if (major, minor) == _OLDEST_LIST else (major, minor)


@cache
def musl_since(arch: str) -> Mapping[str, MuslVersion] | None:
    """Symbol -> the musl since which libc has it; None for an `arch` without a list.

    What musl 1.1 has counts as there since (1, 1, 0).
    """
    table = {name: _musl_version(release) for name, release in _releases(MUSL, arch)}
    return table or None


def _musl_version(release: str) -> MuslVersion:
    major, minor, patch = map(int, f"{release}.0".split(".")[:3])
    return major, minor, patch


@cache
def cpython_exports() -> Mapping[str, frozenset[str]]:
    """Symbol -> the ABIs (``cp38`` … ``cp313t``) whose CPython exports it."""
    groups = ((frozenset(abis.split()), names) for abis, names in _read(CPYTHON).items())
    return {name: abis for abis, names in groups for name in names.split()}


@cache
def cpython_exports_of(abi: str) -> frozenset[str] | None:
    """What the CPython of `abi` exports; None for an ABI without a list."""
    found = frozenset(name for name, abis in cpython_exports().items() if abi in abis)
    return found or None


def _releases(path: Path, arch: str) -> Iterator[tuple[str, str]]:
    """Each symbol of `arch` with the release that brought it, as the list at `path` says."""
    for archs, listed in _read(path).items():
        if arch in archs.split():
            for release, names in listed.items():
                yield from ((name, release) for name in names.split())


def _read(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return table
