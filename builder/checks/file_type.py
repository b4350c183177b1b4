"""What the import system would load is of a kind that can be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.binaries.image import Binary, MachFile
from builder.checks.check import Check
from builder.checks.context import Context
from builder.modules import module_files
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "file-type"
TITLE: Final = "An importable file is a bundle or a shared library"
_LOADABLE: Final = frozenset({"MH_BUNDLE", "MH_DYLIB", "ET_DYN", "DLL"})


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each object file or program under an extension module's name."""
    for module in module_files(wheel):
        for arch, kind in _kinds(module.member.binary):
            if kind not in _LOADABLE:
                yield Finding(
                    check=CODE,
                    severity="error",
                    member=module.member.path,
                    slice=arch,
                    message=f"an extension module cannot be of type {kind}",
                    evidence={"type": kind, "loadable": sorted(_LOADABLE)},
                    hint="link it as a bundle or a shared library",
                )


def _kinds(binary: Binary | None) -> Iterator[tuple[str, str]]:
    if isinstance(binary, MachFile):
        yield from ((part.arch, part.filetype) for part in binary.slices)
    elif binary is not None:
        yield binary.arch, binary.filetype


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
