"""No extension module is in `.data/purelib`, where installers put what runs everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.modules import extension_modules
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "purelib-binary"
TITLE: Final = "No extension module is in .data/purelib"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each extension module that would be installed to purelib (PEP 427)."""
    for module in extension_modules(wheel):
        first, _, rest = module.member.path.partition("/")
        if first.endswith(".data") and rest.startswith("purelib/"):
            yield Finding(
                check=CODE,
                severity="error",
                member=module.member.path,
                message="an extension module is installed to purelib, away from its package",
                evidence={"module": module.importable_name},
                hint="the project must put it into platlib",
            )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
