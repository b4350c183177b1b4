"""What Windows loads into the interpreter is of the architecture that the tag promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import PeFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.wheel import Member, OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding, Severity

CODE: Final = "windows-architecture"
TITLE: Final = "Every Windows file that is loaded is of the tag's architecture"
_RUNS: Final = {
    "x86": frozenset({"x86"}),
    "amd64": frozenset({"amd64", "x86"}),
    "arm64": frozenset({"arm64", "amd64", "arm64ec", "x86", "arm"}),
}
"""Architecture of Windows -> those of the programs that it runs, some by emulation."""


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A note for each file of a Windows wheel that no tag of it is for, and that nothing loads.

    debugpy's wheels, say, carry programs and DLLs of other architectures for the processes that
    they debug.
    """
    archs = _claimed(wheel)
    loaded = {member.path for arch in archs for member, _ in _foreign(wheel, arch)}
    for member, file in wheel.pe:
        foreign = archs and file.arch not in archs and not file.managed
        if foreign and member.path not in loaded:
            message = f"a file for {file.arch}, which the interpreter itself does not load"
            yield _finding(member, file, "note", message, sorted(archs))


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag`, or nothing when a file that is loaded there is of another architecture."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, WindowsPlatform):
        return holds(tag)
    (arch,) = platform.archs
    wrong = tuple(
        _finding(
            member, file, "error", f"`{tag.platform}` cannot load a file for {file.arch}", [arch]
        )
        for member, file in _foreign(wheel, arch)
    )
    return Ruling(tags=frozenset(), findings=wrong) if wrong else holds(tag)


def _claimed(wheel: OpenedWheel) -> frozenset[str]:
    platforms = [parse_platform(tag.platform) for tag in wheel.claimed]
    return frozenset().union(*(p.archs for p in platforms if isinstance(p, WindowsPlatform)))


def _foreign(wheel: OpenedWheel, arch: str) -> Iterator[tuple[Member, PeFile]]:
    """The files of another architecture that an interpreter for `arch` would load or start."""
    native = [(m, f) for m, f in wheel.pe if not f.managed or m.name.lower().endswith(".pyd")]
    asked = _asked_for(native, arch)
    alone = not any(file.arch == arch for _, file in native)
    for member, file in native:
        if file.filetype == "EXE":
            wrong = "/scripts/" in member.path and file.arch not in _RUNS[arch]
        else:
            wrong = file.arch != arch and (alone or _is_loaded(member, asked))
        if wrong:
            yield member, file


def _is_loaded(member: Member, asked: frozenset[str]) -> bool:
    name = member.name.lower()
    return name.endswith(".pyd") or name in asked


def _asked_for(native: list[tuple[Member, PeFile]], arch: str) -> frozenset[str]:
    """The DLLs that files for `arch` import, except those that the wheel has for `arch` too."""
    right = [(member, file) for member, file in native if file.arch == arch]
    imported = {name.lower() for _, file in right for name in (*file.dependencies, *file.delayed)}
    return frozenset(imported - {member.name.lower() for member, _ in right})


def _finding(
    member: Member, file: PeFile, severity: Severity, message: str, claimed: list[str]
) -> Finding:
    return Finding(
        check=CODE,
        severity=severity,
        member=member.path,
        slice=file.arch,
        message=message,
        evidence={
            "arch": file.arch,
            "machine": f"{file.machine:#06x}",
            "type": file.filetype,
            "claimed": [*claimed],
        },
        hint="build every file of the wheel for its tag" if severity == "error" else None,
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
