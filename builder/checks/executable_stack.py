"""No ELF file asks for an executable stack: glibc 2.41 and later refuse to load one that does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "executable-stack"
TITLE: Final = "No ELF file asks for an executable stack"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each shared library that asks for an executable stack."""
    for member, file in wheel.elf:
        if file.executable_stack and file.filetype == "ET_DYN":
            yield Finding(
                check=CODE,
                severity="error",
                member=member.path,
                slice=file.arch,
                message="the file asks for an executable stack, which glibc 2.41 refuses to load",
                evidence={"executable_stack": True},
                hint="assemble with -Wa,--noexecstack and link with -Wl,-z,noexecstack",
            )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
