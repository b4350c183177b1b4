"""Every ELF member is of the architecture that a Linux tag promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.modules import module_files
from builder.wheel import Member, OpenedWheel
from store.tags import (
    AndroidPlatform,
    GlibcPlatform,
    LinuxPlatform,
    MacPlatform,
    MuslPlatform,
    parse_platform,
)
from store.verdict import Finding

CODE: Final = "elf-architecture"
TITLE: Final = "Every ELF file is of the tag's architecture"
_LOADED: Final = frozenset({"ET_DYN", "ET_EXEC"})
_SAME: Final = {"armv6l": frozenset({"armv7l"}), "armv8l": frozenset({"armv7l"})}
_LINUX: Final = (GlibcPlatform, MuslPlatform, LinuxPlatform, AndroidPlatform)


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A warning for each ELF file in a wheel for macOS alone, where nothing can load it."""
    platforms = [parse_platform(tag.platform) for tag in wheel.claimed]
    if not any(isinstance(platform, MacPlatform) for platform in platforms):
        return
    if any(isinstance(platform, _LINUX) for platform in platforms):
        return
    for member, file in wheel.elf:
        yield Finding(
            check=CODE,
            severity="warning",
            member=member.path,
            slice=file.arch,
            message="an ELF file in a macOS wheel: nothing there can load it",
            evidence={"arch": file.arch, "type": file.filetype},
        )


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` when every ELF file that can be loaded is of its architecture, else nothing.

    Object files (ET_REL) and programs for processors that run no Python (eBPF, CUDA) are data.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, _LINUX):
        return holds(tag)
    archs = platform.archs | frozenset().union(*(_SAME.get(a, set()) for a in platform.archs))
    importable = {module.member.path for module in module_files(wheel)}
    wrong = [
        _reason(member, file, tag)
        for member, file in wheel.elf
        if file.arch not in archs and _is_loaded(member, file, importable)
    ]
    return Ruling(tags=frozenset(), findings=tuple(wrong)) if wrong else holds(tag)


def _is_loaded(member: Member, file: ElfFile, importable: set[str]) -> bool:
    if member.path in importable or file.machine == 0:
        return True
    return file.filetype in _LOADED and not file.arch.startswith("em-")


def _reason(member: Member, file: ElfFile, tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=f"`{tag.platform}` cannot load a file for {file.arch}",
        evidence={"claimed": tag.platform, "arch": file.arch, "machine": file.machine},
        hint="build every file of the wheel for the one architecture of its tag",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
