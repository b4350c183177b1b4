"""Every binary can be read to its end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.modules import module_files
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "malformed-binary"
TITLE: Final = "Every Mach-O, ELF and PE file is whole"
_WORDS: Final = {"elf": "ELF", "pe": "PE", "mach-o": "Mach-O"}


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each binary that breaks its format.

    In an any-wheel, where a broken file may be data of a project that reads such files, it is a
    warning, unless the import system would pick the file up.
    """
    pure = all(tag.platform == "any" for tag in wheel.claimed)
    importable = {module.member.path for module in module_files(wheel)}
    for member in wheel.members.values():
        if member.malformed is not None:
            data = pure and member.path not in importable
            kind = _WORDS.get(member.format or "", "binary")
            yield Finding(
                check=CODE,
                severity="warning" if data else "error",
                member=member.path,
                message=f"the {kind} file is broken: {member.malformed}",
                evidence={"size": member.size, "reason": member.malformed},
                hint="the file was cut off or tampered with: build the wheel again",
            )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
