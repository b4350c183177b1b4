"""Which extension modules a build tried to make, by what its tools wrote down.

setuptools goes on without an extension whose compiler failed, when the project says so; a wheel
that is poorer than its source then looks like a success. Backends on Meson and CMake stop at the
first error, and their link lines do not tell where in the package a module will go, so nothing is
concluded from those.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

_MAX_LOG_BYTES: Final = 64 << 20
_BUILDING: Final = re.compile(rb"^building '([^'\s]{1,300})' extension\s*$", re.MULTILINE)
_BUILD_LIB: Final = re.compile(r"lib(\.[\w.-]+)?")
_DOTTED: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_SUFFIX: Final = re.compile(r"(\.cpython-[\w-]+|\.abi3t?|\.pypy[\w-]+)?\.(so|pyd)$")


def tool_calls(log: Path) -> Iterator[Mapping[str, Any]]:
    """The calls in a tool log (one JSON object a line), up to a limit; other lines are left out."""
    for line in _read(log).splitlines():
        try:
            call = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(call, dict):
            yield call


def linked_modules(calls: Iterator[Mapping[str, Any]]) -> frozenset[str]:
    """Dotted names of the modules whose link was tried, where the output path tells them."""
    outputs = (call.get("output") for call in calls if call.get("links") is True)
    names = (_dotted(output) for output in outputs if isinstance(output, str))
    return frozenset(name for name in names if name)


def announced_modules(log: Path) -> frozenset[str]:
    """Dotted names of the extensions that setuptools says it is building, in a build's log."""
    names = (name.decode(errors="replace") for name in _BUILDING.findall(_read(log)))
    return frozenset(name for name in names if _DOTTED.fullmatch(name))


def attempted(linked: frozenset[str], announced: frozenset[str]) -> frozenset[str]:
    """Both together; a name without its package (``ext_package``) gives way to the full one."""
    short = {name for name in announced if any(full.endswith(f".{name}") for full in linked)}
    return linked | (announced - short)


def _dotted(output: str) -> str | None:
    # build/lib.macosx-11.0-arm64-cpython-311/package/module.cpython-311-darwin.so
    parts = PurePosixPath(output).parts
    starts = [at for at, part in enumerate(parts) if _BUILD_LIB.fullmatch(part)]
    if not starts or "build" not in parts or not _SUFFIX.search(output):
        return None
    name = ".".join([*parts[starts[-1] + 1 : -1], _SUFFIX.sub("", parts[-1])])
    return name if _DOTTED.fullmatch(name) else None


def _read(path: Path) -> bytes:
    # The build could write here: a link is not followed, and a pipe would never end.
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        regular = stat.S_ISREG(os.fstat(handle).st_mode)
        return os.read(handle, _MAX_LOG_BYTES) if regular else b""
    finally:
        os.close(handle)
