"""Every Mach-O member holds every architecture that a macOS or iOS tag promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import MachFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.tag_edits import on_archs
from builder.wheel import Member, OpenedWheel
from store.tags import IosPlatform, MacPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "macho-architecture"
TITLE: Final = "Every Mach-O file holds every architecture of the tag"


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """The part of a macOS tag whose architectures every Mach-O member holds; all or none for iOS.

    arm64e does not stand in for arm64, nor x86_64h for x86_64: those slices run on some
    machines only.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform | IosPlatform) or not wheel.mach:
        return holds(tag)
    shared = shared_archs(wheel)
    if platform.archs <= shared:
        return holds(tag)
    tags = frozenset[Tag]()
    if isinstance(platform, MacPlatform):
        kept = platform.archs & shared or _corrected(wheel, platform)
        tags = on_archs(tag, platform, kept)
    return Ruling(tags=tags, findings=tuple(_reasons(wheel, platform, shared)))


def shared_archs(wheel: OpenedWheel) -> frozenset[str]:
    """The architectures that every Mach-O member holds."""
    held = [frozenset(part.arch for part in file.slices) for _, file in wheel.mach]
    return frozenset.intersection(*held)


def _corrected(wheel: OpenedWheel, platform: MacPlatform) -> frozenset[str]:
    """arm64 for an x86_64 claim over binaries that are all arm64 alone; nothing the other way.

    The first is a build that an x86_64 view of Python tagged: it is whole, and its tag kept it from
    the machines that it is for. The second was promised to machines that cannot load it.
    """
    held = {part.arch for _, file in wheel.mach for part in file.slices}
    claimed_intel = platform.archs == frozenset({"x86_64"})
    return frozenset({"arm64"}) if claimed_intel and held == {"arm64"} else frozenset()


def _reasons(
    wheel: OpenedWheel, platform: MacPlatform | IosPlatform, shared: frozenset[str]
) -> Iterator[Finding]:
    for member, file in wheel.mach:
        held = [part.arch for part in file.slices]
        for arch in sorted(platform.archs - set(held)):
            yield _reason(member, file, arch, platform, shared)


def _reason(
    member: Member,
    file: MachFile,
    arch: str,
    platform: MacPlatform | IosPlatform,
    shared: frozenset[str],
) -> Finding:
    held = [part.arch for part in file.slices]
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=arch,
        message=f"`{platform}` promises {arch}, which this file lacks; it holds {', '.join(held)}",
        evidence={
            "claimed": sorted(platform.archs),
            "held": held,
            "fat": file.fat,
            "shared_by_all": sorted(shared),
        },
        hint=f"build the file for {arch} too, or let the tag promise less",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
