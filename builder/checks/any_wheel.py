"""A wheel for any platform holds no code that only one platform can run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import MachFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.macho_architecture import shared_archs
from builder.checks.tag_edits import on_minimums, on_platforms
from builder.modules import extension_modules
from builder.wheel import LOADED_MACHO, Member, OpenedWheel
from store.tags import MAC_FORMATS, LinuxPlatform
from store.verdict import Finding

CODE: Final = "any-wheel"
TITLE: Final = "A wheel for any platform holds no binary of one platform"
_ELF_LOADED: Final = frozenset({"ET_DYN", "ET_EXEC"})


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A note for each binary that an any-wheel carries as data."""
    if not any(tag.platform == "any" for tag in wheel.claimed) or _is_bound(wheel):
        return
    for member in wheel.members.values():
        if member.format is not None and member.malformed is None:
            yield Finding(
                check=CODE,
                severity="note",
                member=member.path,
                message="a binary that the wheel carries as data: no platform depends on it alone",
                evidence={"format": member.format},
            )


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` on the one platform that its binaries are for.

    It stands when there are none, or only Windows launchers, or libraries for several platforms
    among which the project's code chooses.
    """
    if tag.platform != "any" or not _is_bound(wheel):
        return holds(tag)
    findings = tuple(_reason(member) for member in _code(wheel))
    if len(_kinds(wheel)) > 1:
        return Ruling(tags=frozenset(), findings=findings)
    return Ruling(tags=_on_true_platform(wheel, tag), findings=findings)


def _is_bound(wheel: OpenedWheel) -> bool:
    kinds = _kinds(wheel)
    windows = any(member.format == "pe" for member in wheel.members.values())
    return bool(extension_modules(wheel)) or (len(kinds) == 1 and not windows)


def _kinds(wheel: OpenedWheel) -> frozenset[str]:
    """The platforms that the wheel holds code for: macOS as one, Linux by architecture."""
    elf = {file.arch for _, file in wheel.elf if file.filetype in _ELF_LOADED}
    return frozenset(elf | ({"macos"} if wheel.mach else set()))


def _code(wheel: OpenedWheel) -> list[Member]:
    elf = [member for member, file in wheel.elf if file.filetype in _ELF_LOADED]
    return [*(member for member, _ in wheel.mach), *elf]


def _on_true_platform(wheel: OpenedWheel, tag: Tag) -> frozenset[Tag]:
    if not wheel.mach:
        return on_platforms(tag, [LinuxPlatform(arch=arch) for arch in _kinds(wheel)])
    minimums: dict[str, tuple[int, ...]] = {
        arch: (0, 0, 0) for arch in shared_archs(wheel) if arch in MAC_FORMATS
    }
    for _, file in wheel.mach:
        for part in file.slices:
            if part.arch in minimums and part.filetype in LOADED_MACHO:
                minimums[part.arch] = max(minimums[part.arch], part.minimum_os or (0, 0, 0))
    return on_minimums(tag, minimums)


def _reason(member: Member) -> Finding:
    assert member.binary is not None
    mach = isinstance(member.binary, MachFile)
    archs = (
        [part.arch for part in member.binary.slices]
        if isinstance(member.binary, MachFile)
        else [member.binary.arch]
    )
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=archs[0] if len(archs) == 1 else None,
        message="the tag says any platform, and this file runs on one only",
        evidence={"format": "mach-o" if mach else "elf", "archs": archs},
        hint="the project's build must mark the wheel as platform-specific",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
