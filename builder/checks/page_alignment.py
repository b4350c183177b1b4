"""Files for 64-bit Android can be mapped on pages of 16 KiB.

From Android 15 on there are devices with such pages; their loader refuses a file whose segments are
aligned to less.
"""

from __future__ import annotations

from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.wheel import Member, OpenedWheel
from store.tags import AndroidPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "page-alignment"
TITLE: Final = "Every ELF file for 64-bit Android fits pages of 16 KiB"
_PAGE: Final = 16 << 10
_WIDE: Final = frozenset({"aarch64", "x86_64"})


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag`, or nothing when a file that is loaded needs smaller pages."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, AndroidPlatform) or not platform.archs <= _WIDE:
        return holds(tag)
    wrong = tuple(
        _finding(member, file, tag)
        for member, file in wheel.elf
        if file.arch in platform.archs and 0 < file.page_size < _PAGE
    )
    return Ruling(tags=frozenset(), findings=wrong) if wrong else holds(tag)


def _finding(member: Member, file: ElfFile, tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=f"segments aligned to {file.page_size} bytes: devices with larger pages refuse it",
        evidence={"alignment": file.page_size, "needed": _PAGE, "claimed": tag.platform},
        hint="link with -Wl,-z,max-page-size=16384",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
