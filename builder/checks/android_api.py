"""No file needs a newer Android than the tag says: the NDK writes the API level into each file."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.tag_edits import on_platforms
from builder.wheel import Member, OpenedWheel
from store.tags import AndroidPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "android-api"
TITLE: Final = "No file needs a newer Android than the tag says"


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` raised to the highest API level that a file states; files without one say nothing."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, AndroidPlatform):
        return holds(tag)
    above = [(m, f, f.android_api) for m, f in wheel.elf if (f.android_api or 0) > platform.api]
    if not above:
        return holds(tag)
    raised = replace(platform, api=max(level for _, _, level in above if level))
    findings = tuple(_above(member, file, tag) for member, file, _ in above)
    return Ruling(tags=on_platforms(tag, [raised]), findings=findings)


def _above(member: Member, file: ElfFile, tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=f"the file needs API level {file.android_api}, newer than `{tag.platform}` says",
        evidence={"api": file.android_api, "claimed": tag.platform},
        hint="build for the API level of the tag, or let the tag say what is needed",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
