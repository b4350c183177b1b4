"""No Mach-O slice needs a newer macOS, or another Apple system, than the tag says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import MachSlice
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.tag_edits import on_minimums, on_platforms
from builder.wheel import Member, OpenedWheel
from store.tags import IosPlatform, MacPlatform, parse_platform, round_up_macos
from store.verdict import Finding

CODE: Final = "minimum-os"
TITLE: Final = "No slice needs a newer or another OS than the tag says"
_FIRST_ARM64_SIMULATOR: Final = (14, 0, 0)


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A warning for each slice of an Apple wheel that does not say what it needs."""
    platforms = [parse_platform(tag.platform) for tag in wheel.claimed]
    if not any(isinstance(p, MacPlatform | IosPlatform) for p in platforms):
        return
    for member, part in _slices(wheel):
        if part.minimum_os is None:
            yield Finding(
                check=CODE,
                severity="warning",
                member=member.path,
                slice=part.arch,
                message="the slice does not say which OS it needs; the tag is taken on trust",
                evidence={"platform": part.platform},
                hint="link with a deployment target (-mmacosx-version-min)",
            )


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` with each architecture's minimum OS raised to what its slices need.

    Rounded up to a version that installers match, never down; a tag above the bytes stays.
    """
    platform = parse_platform(tag.platform)
    if isinstance(platform, MacPlatform):
        return _narrow_mac(wheel, tag, platform)
    if isinstance(platform, IosPlatform):
        return _narrow_ios(wheel, tag, platform)
    return holds(tag)


def _narrow_mac(wheel: OpenedWheel, tag: Tag, platform: MacPlatform) -> Ruling:
    foreign = tuple(_foreign(wheel, "macos", platform.archs))
    if foreign:
        return Ruling(tags=frozenset(), findings=foreign)
    above = [(m, s) for m, s in _slices(wheel) if _is_above(s, platform)]
    if not above and platform.matchable:
        return holds(tag)
    needs = {arch: platform.minimum_os(arch) for arch in platform.archs}
    for _, part in above:
        needs[part.arch] = max(needs[part.arch], _needs(part))
    findings = [_above(m, s, tag) for m, s in above] or [_unmatchable(tag)]
    return Ruling(tags=on_minimums(tag, needs), findings=tuple(findings))


def _narrow_ios(wheel: OpenedWheel, tag: Tag, platform: IosPlatform) -> Ruling:
    system = "iossimulator" if platform.simulator else "ios"
    foreign = tuple(_foreign(wheel, system, platform.archs))
    if foreign:
        return Ruling(tags=frozenset(), findings=foreign)
    claimed = max((platform.major, platform.minor, 0), _floor(platform))
    above = [(m, s) for m, s in _slices(wheel) if s.minimum_os and s.minimum_os > claimed]
    if not above:
        return holds(tag)
    major, minor, patch = max(s.minimum_os for _, s in above if s.minimum_os)
    raised = IosPlatform(
        major=major,
        minor=minor + bool(patch),
        arch=platform.arch,
        simulator=platform.simulator,
    )
    return Ruling(
        tags=on_platforms(tag, [raised]), findings=tuple(_above(m, s, tag) for m, s in above)
    )


def _floor(platform: IosPlatform) -> tuple[int, int, int]:
    """The oldest system that the platform ever had: ARM Macs came with the simulator of iOS 14.

    Compilers write 14.0 into such a slice whatever version they are told, and the tag promises no
    older simulator, for there is none.
    """
    return _FIRST_ARM64_SIMULATOR if platform.simulator and platform.arch == "arm64" else (0, 0, 0)


def _slices(wheel: OpenedWheel) -> Iterator[tuple[Member, MachSlice]]:
    for member, file in wheel.mach:
        for part in file.slices:
            yield member, part


def _needs(part: MachSlice) -> tuple[int, int]:
    return round_up_macos(part.minimum_os or (0, 0, 0), part.arch)


def _is_above(part: MachSlice, platform: MacPlatform) -> bool:
    if part.arch not in platform.archs or part.minimum_os is None:
        return False
    return part.minimum_os > (*platform.minimum_os(part.arch), 0)


def _foreign(wheel: OpenedWheel, system: str, archs: frozenset[str]) -> Iterator[Finding]:
    for member, part in _slices(wheel):
        if part.arch in archs and part.platform not in {None, system}:
            yield Finding(
                check=CODE,
                severity="error",
                member=member.path,
                slice=part.arch,
                message=f"the slice is for {part.platform}, and the tag is for {system}",
                evidence={"platform": part.platform, "claimed": system},
                hint=f"build it with the SDK and target of {system}",
            )


def _above(member: Member, part: MachSlice, tag: Tag) -> Finding:
    needed = ".".join(map(str, part.minimum_os or ()))
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=part.arch,
        message=f"the slice needs OS {needed}, newer than `{tag.platform}` says",
        evidence={"minimum_os": needed, "claimed": tag.platform},
        hint="set MACOSX_DEPLOYMENT_TARGET for the build, or let the tag say what it needs",
    )


def _unmatchable(tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        message=f"no installer matches `{tag.platform}`: from macOS 11 on only N_0 is",
        evidence={"claimed": tag.platform},
        hint="round the version up to the next major one",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
