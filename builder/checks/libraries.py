"""Which shared libraries a wheel brings, which it asks for, and which bind it to an interpreter."""

from __future__ import annotations

import re
from typing import Final

from builder.binaries.image import ElfFile
from builder.checks.policies import is_libpython
from builder.wheel import Member, OpenedWheel

_PYTHON_ON_MAC: Final = re.compile(
    r"(^|/)(libpython\d+(\.\d+)?[a-z]*\.dylib|Python(T)?\.framework/.+|libpypy\d[\w.-]*\.dylib)$"
)


def inside(wheel: OpenedWheel) -> frozenset[str]:
    """The names under which the wheel's own ELF files can be needed: file names and SONAMEs."""
    return wheel.elf_names


def needed_outside(wheel: OpenedWheel, file: ElfFile) -> tuple[str, ...]:
    """What `file` needs that the wheel does not bring."""
    names = inside(wheel)
    return tuple(name for name in file.needed if name not in names)


def is_python_on_mac(dependency: str) -> bool:
    """Whether a Mach-O dependency is an interpreter: libpython, or Python.framework."""
    return _PYTHON_ON_MAC.search(dependency) is not None


def libpython_of(wheel: OpenedWheel) -> tuple[tuple[Member, str], ...]:
    """The members that load an interpreter's library from outside, each with its name."""
    found = [
        (member, name)
        for member, file in wheel.elf
        for name in needed_outside(wheel, file)
        if is_libpython(name)
    ]
    found += [
        (member, name)
        for member, file in wheel.mach
        for name in sorted({d.name for part in file.slices for d in part.dependencies})
        if is_python_on_mac(name)
    ]
    return tuple(found)
