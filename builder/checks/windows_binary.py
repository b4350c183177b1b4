"""Windows code in a wheel that is not for Windows, and in one that is.

PE files are not read yet: what a Windows wheel holds is taken on trust, with a warning.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import Member, OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding, Severity

CODE: Final = "windows-binary"
TITLE: Final = "Windows extension modules are in Windows wheels only"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for a .pyd that no claimed platform imports; a warning for PE that is not read."""
    windows = any(
        isinstance(parse_platform(tag.platform), WindowsPlatform) for tag in wheel.claimed
    )
    for member in wheel.members.values():
        module = member.name.lower().endswith(".pyd")
        if module and not windows:
            message = "a Windows extension module in a wheel that is not for Windows"
            yield _finding(member, "error", message)
        elif member.format == "pe" and windows:
            yield _finding(member, "warning", "Windows binaries are not read: taken on trust")


def _finding(member: Member, severity: Severity, message: str) -> Finding:
    return Finding(
        check=CODE,
        severity=severity,
        member=member.path,
        message=message,
        evidence={"format": member.format},
        hint="build a wheel for each platform" if severity == "error" else None,
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
