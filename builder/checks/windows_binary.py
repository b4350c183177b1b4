"""Windows extension modules in a wheel that is not for Windows.

Programs and DLLs there are data: launchers (pip, setuptools, distlib) are in wheels for any system.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.binaries.image import PeFile
from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import Member, OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "windows-binary"
TITLE: Final = "Windows extension modules are in Windows wheels only"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each .pyd that no claimed platform imports."""
    windows = any(
        isinstance(parse_platform(tag.platform), WindowsPlatform) for tag in wheel.claimed
    )
    for member in wheel.members.values():
        if member.name.lower().endswith(".pyd") and not windows:
            yield _finding(member)


def _finding(member: Member) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=member.binary.arch if isinstance(member.binary, PeFile) else None,
        message="a Windows extension module in a wheel that is not for Windows",
        evidence={"format": member.format, "claimed_by_name": ".pyd"},
        hint="build a wheel for each platform",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
