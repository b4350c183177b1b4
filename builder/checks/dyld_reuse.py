"""Libraries that dyld does not look for, since one of that install name is loaded already.

A dependency whose name begins with ``@rpath/`` is met by any loaded image that bears it as its
install name, wherever that was loaded from (dyld's ``matchesPath``, and before it ``check()``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from builder.binaries.image import MachSlice
from builder.checks.code_loads import named_by_code
from builder.modules import module_files
from builder.wheel import Member, OpenedWheel

_SHORT: Final = 3

Asked = tuple[Member, MachSlice, str]
"""A file, its slice, and the dependency that it does not find."""
Key = tuple[str, str, str]
"""Path of a file, architecture and dependency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reuse:
    """The library of the wheel that stands in, and who loads it before.

    ``code``: the wheel's Python code, which names it. ``program``: whatever opens a plugin, for
    nothing in Python imports one, nothing can be linked to it.
    """

    path: str
    loaded_by: Literal["code", "program"]


def reused(wheel: OpenedWheel, asked: Iterable[Asked]) -> Mapping[Key, Reuse]:
    """Those of `asked` that a library of the wheel answers that is loaded before."""
    bearers = _bearers(wheel)
    met = [
        one for one in asked if one[2].startswith("@rpath/") and (one[2], one[1].arch) in bearers
    ]
    if not met:
        return {}
    modules = {module.member.path for module in module_files(wheel)}
    named = named_by_code(wheel, {_stem(name) for _, _, name in met}) or frozenset()
    found: dict[Key, Reuse] = {}
    for member, part, name in met:
        path = bearers[name, part.arch]
        if part.filetype == "MH_BUNDLE" and member.path not in modules:
            found[member.path, part.arch, name] = Reuse(path=path, loaded_by="program")
        elif _stem(name) in named:
            found[member.path, part.arch, name] = Reuse(path=path, loaded_by="code")
    return found


def _bearers(wheel: OpenedWheel) -> Mapping[tuple[str, str], str]:
    """Install name and architecture -> the file that bears it."""
    return {
        (part.install_name, part.arch): member.path
        for member, file in wheel.mach
        for part in file.slices
        if part.filetype == "MH_DYLIB" and part.install_name is not None
    }


def _stem(name: str) -> str:
    """``symspg`` of ``@rpath/libsymspg.2.dylib``: what code that looks for the file must say.

    A short one would stand in any code, so it is asked for with its ``lib``.
    """
    base = name.rpartition("/")[2]
    whole = re.split(r"[.-]\d|\.dylib", base)[0] or base
    plain = whole.removeprefix("lib")
    return plain if len(plain) > _SHORT else whole
