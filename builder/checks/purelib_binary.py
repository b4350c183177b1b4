"""No binary is in `.data/purelib`, where installers put what runs everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.modules import extension_modules
from builder.wheel import Member, OpenedWheel
from store.verdict import Finding

CODE: Final = "purelib-binary"
TITLE: Final = "No binary is in .data/purelib"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each binary that would be installed to purelib (PEP 427).

    A library in a wheel for any platform is data, among which the project's code chooses; an
    extension module never is.
    """
    modules = {module.member.path: module.importable_name for module in extension_modules(wheel)}
    anywhere = any(tag.platform == "any" for tag in wheel.claimed)
    for member in _loaded(wheel):
        if _in_purelib(member) and (member.path in modules or not anywhere):
            yield Finding(
                check=CODE,
                severity="error",
                member=member.path,
                message="a binary is installed to purelib, where only what runs everywhere goes",
                evidence={"module": modules.get(member.path), "format": member.format},
                hint="the project must put it into platlib",
            )


def _loaded(wheel: OpenedWheel) -> Iterator[Member]:
    yield from (member for member, _ in (*wheel.mach, *wheel.elf, *wheel.pe))


def _in_purelib(member: Member) -> bool:
    first, _, rest = member.path.partition("/")
    return first.endswith(".data") and rest.startswith("purelib/")


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
