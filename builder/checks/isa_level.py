"""No ELF file says that it needs a newer processor than the tag, or the target, promises.

``x86_64`` in a tag is the baseline of the psABI. A linker that was told so writes the level that a
file needs (x86-64-v2 and up) into its GNU property note, and glibc refuses to load such a file
elsewhere. What a file merely uses when it is there (runtime dispatch) is no need.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.modules import extension_modules
from builder.wheel import Member, OpenedWheel
from store.tags import parse_platform
from store.verdict import Finding, Severity

CODE: Final = "isa-level"
TITLE: Final = "No ELF file needs a newer processor than the tag or the target says"
_ARCH: Final = "x86_64"
_BASELINE: Final = 1
_UNKNOWN: Final = 99


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """A note for each file that needs more than the baseline and may: it is loaded by choice."""
    allowed = _level(context.isa)
    loaded = _always_loaded(wheel)
    for member, file in wheel.elf:
        level = _level(file.isa_needed)
        if level > _BASELINE and (level <= allowed or member.path not in loaded):
            yield _finding(member, file, context, "note")


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag`, or nothing when a module, or a library that one links, needs more than is promised."""
    if _ARCH not in parse_platform(tag.platform).archs:
        return holds(tag)
    allowed = _level(context.isa)
    loaded = _always_loaded(wheel)
    above = tuple(
        _finding(member, file, context, "error")
        for member, file in wheel.elf
        if _level(file.isa_needed) > allowed and member.path in loaded
    )
    return Ruling(tags=frozenset(), findings=above) if above else holds(tag)


def _level(isa: str | None) -> int:
    """1 for the baseline, also where nothing is said, up to 4; 99 for what is not known."""
    if isa is None or isa == "x86-64-baseline":
        return _BASELINE
    found = re.fullmatch(r"x86-64-v(\d)", isa)
    return int(found[1]) if found else _UNKNOWN


def _always_loaded(wheel: OpenedWheel) -> frozenset[str]:
    """The extension modules, and the libraries of the wheel that they link, one after another.

    Any other file is opened by code, which may look at the processor before.
    """
    by_name = {file.soname or member.name: (member, file) for member, file in wheel.elf}
    by_name |= {member.name: (member, file) for member, file in wheel.elf}
    todo = [m.member for m in extension_modules(wheel) if isinstance(m.member.binary, ElfFile)]
    seen = set[str]()
    while todo:
        member = todo.pop()
        if member.path not in seen and isinstance(member.binary, ElfFile):
            seen.add(member.path)
            todo += [by_name[name][0] for name in member.binary.needed if name in by_name]
    return frozenset(seen)


def _finding(member: Member, file: ElfFile, context: Context, severity: Severity) -> Finding:
    promised = context.isa or "the baseline"
    return Finding(
        check=CODE,
        severity=severity,
        member=member.path,
        slice=file.arch,
        message=f"the file needs {file.isa_needed}, and what is promised is {promised}",
        evidence={"needs": file.isa_needed, "target": context.isa},
        hint="compile with -march=x86-64, or choose the faster code at run time",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
