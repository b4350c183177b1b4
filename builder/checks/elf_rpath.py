"""Where an ELF file looks for its libraries: in the wheel, or in the one interpreter it is for.

The loader of another machine follows an absolute RPATH too: to nothing, or to what somebody put
there. A file that loads libpython is the exception: without the folder of its own interpreter the
loader takes any libpython of that name (astral-sh/uv issue 10671).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.binaries.image import ElfFile
from builder.checks.check import Check
from builder.checks.context import Context
from builder.checks.libraries import needed_outside
from builder.checks.policies import is_libpython
from builder.wheel import Member, OpenedWheel
from store.verdict import Finding

CODE: Final = "elf-rpath"
TITLE: Final = "An ELF file looks for libraries in the wheel, or in its own interpreter"


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """A warning for each absolute folder; an error for a libpython that would be another's."""
    for member, file in wheel.elf:
        loads_python = any(is_libpython(name) for name in needed_outside(wheel, file))
        if loads_python and context.libpython_folder:
            yield from _of_another(member, file, context.libpython_folder)
        elif not loads_python:
            yield from _absolute(member, file)


def absolute_folders(file: ElfFile) -> tuple[str, ...]:
    """The folders of RPATH and RUNPATH that are named from the root."""
    return tuple(folder for folder in (*file.rpath, *file.runpath) if folder.startswith("/"))


def _of_another(member: Member, file: ElfFile, folder: str) -> Iterator[Finding]:
    if folder not in absolute_folders(file):
        yield Finding(
            check=CODE,
            severity="error",
            member=member.path,
            slice=file.arch,
            message=f"the file loads libpython, but does not look for it in {folder}",
            evidence={"rpath": list(file.rpath), "runpath": list(file.runpath), "wanted": folder},
            hint="link with -Wl,-rpath to the interpreter's own library folder",
        )


def _absolute(member: Member, file: ElfFile) -> Iterator[Finding]:
    for folder in absolute_folders(file)[:5]:
        yield Finding(
            check=CODE,
            severity="warning",
            member=member.path,
            slice=file.arch,
            message=f"the file looks for libraries in {folder}, a folder of its build machine",
            evidence={"rpath": list(file.rpath), "runpath": list(file.runpath)},
            hint="interpreters that are built with a shared libpython put it there (LDSHARED)",
        )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
