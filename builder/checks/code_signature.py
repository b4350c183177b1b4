"""Every arm64 slice for macOS is signed: the kernel kills a process that loads one that is not."""

from __future__ import annotations

from typing import Final

from packaging.tags import Tag

from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.wheel import LOADED_MACHO, Member, OpenedWheel
from store.tags import MacPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "code-signature"
TITLE: Final = "Every arm64 slice for macOS is signed"


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag`, or nothing when it promises arm64 and an arm64 slice has no signature."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform) or "arm64" not in platform.archs:
        return holds(tag)
    unsigned = tuple(
        _unsigned(member)
        for member, file in wheel.mach
        for part in file.slices
        if part.arch == "arm64" and part.filetype in LOADED_MACHO and not part.signed
    )
    return Ruling(tags=frozenset(), findings=unsigned) if unsigned else holds(tag)


def _unsigned(member: Member) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice="arm64",
        message="the slice has no code signature, so macOS kills what loads it",
        evidence={"signed": False},
        hint="sign it ad hoc (codesign -s -), and do not change it after linking",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
