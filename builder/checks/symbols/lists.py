"""Which symbols macOS and CPython bring: lists of names, read once and only when asked for.

ORIGIN.md says where they come from; `regenerate` makes them anew.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from store.tags import MacVersion

LIBSYSTEM: Final = Path(__file__).with_name("libsystem.json.gz")
CPYTHON: Final = Path(__file__).with_name("cpython.json.gz")

_OLDEST_LIST: Final = (10, 15)
_ALWAYS: Final = (0, 0)


@cache
def libsystem_since(arch: str) -> Mapping[str, MacVersion] | None:
    """Symbol (as C sees it) -> the macOS since which libSystem has it; None for another `arch`.

    What the oldest list has without saying more counts as there since (0, 0).
    """
    lists = (listed for archs, listed in _read(LIBSYSTEM).items() if arch in archs.split())
    groups = ((_since(release), names) for listed in lists for release, names in listed.items())
    table = {name: since for since, names in groups for name in names.split()}
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
def cpython_exports() -> Mapping[str, frozenset[str]]:
    """Symbol -> the ABIs (``cp38`` … ``cp313t``) whose CPython exports it."""
    groups = ((frozenset(abis.split()), names) for abis, names in _read(CPYTHON).items())
    return {name: abis for abis, names in groups for name in names.split()}


@cache
def cpython_exports_of(abi: str) -> frozenset[str] | None:
    """What the CPython of `abi` exports; None for an ABI without a list."""
    found = frozenset(name for name, abis in cpython_exports().items() if abi in abis)
    return found or None


def _read(path: Path) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return table
