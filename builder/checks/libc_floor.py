"""No ELF file needs a newer libc, or another one, than the tag says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import inside, libpython_of
from builder.checks.policies import (
    GlibcVersion,
    Need,
    glibc_policies,
    needs_of,
    uses_glibc,
    uses_musl,
)
from builder.checks.tag_edits import on_platforms
from builder.wheel import Member, OpenedWheel
from store.tags import GlibcPlatform, LinuxPlatform, MuslPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "libc-floor"
TITLE: Final = "No ELF file needs a newer or another libc than the tag says"


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` raised to the glibc that is needed; ``linux_ARCH`` made exact; none for a wrong libc.

    The floor is the GLIBC version itself (PEP 600 has one tag for each), or that of the first
    policy that grants the other symbols and libraries, whichever is newer.
    """
    platform = parse_platform(tag.platform)
    if isinstance(platform, MuslPlatform):
        return _without(wheel, tag, uses_glibc, "glibc")
    if isinstance(platform, GlibcPlatform):
        wrong = _without(wheel, tag, uses_musl, "musl")
        return wrong if wrong.findings else _raised(wheel, tag, platform)
    if isinstance(platform, LinuxPlatform):
        return _made_exact(wheel, tag, platform)
    return holds(tag)


def _without(wheel: OpenedWheel, tag: Tag, uses: Callable[[ElfFile], bool], libc: str) -> Ruling:
    wrong = tuple(_wrong_libc(m, f, tag, libc) for m, f in wheel.elf if uses(f))
    return Ruling(tags=frozenset(), findings=wrong) if wrong else holds(tag)


def _raised(wheel: OpenedWheel, tag: Tag, platform: GlibcPlatform) -> Ruling:
    claimed = (platform.major, platform.minor)
    above = list(_needs_above(wheel, platform.arch, claimed))
    if not above:
        return holds(tag)
    findings = tuple(_above(member, need, tag, platform.arch) for member, need in above)
    floors = [need.floor for _, need in above]
    if None in floors:
        return Ruling(tags=frozenset(), findings=findings)
    return Ruling(tags=_at(tag, platform.arch, max(f for f in floors if f)), findings=findings)


def _made_exact(wheel: OpenedWheel, tag: Tag, platform: LinuxPlatform) -> Ruling:
    """The manylinux tag that a ``linux_ARCH`` wheel has earned.

    It keeps its tag when it holds no ELF file, when it is bound to one interpreter build, and
    when it is linked to musl, whose version the bytes do not tell.
    """
    musl = [(m, f) for m, f in wheel.elf if uses_musl(f)]
    if musl and any(uses_glibc(file) for _, file in wheel.elf):
        wrong = tuple(_wrong_libc(m, f, tag, "musl") for m, f in musl)
        return Ruling(tags=frozenset(), findings=wrong)
    policies = glibc_policies(platform.arch)
    if not wheel.elf or musl or not policies or libpython_of(wheel):
        return holds(tag)
    above = list(_needs_above(wheel, platform.arch, policies[0].version))
    if bad := [(m, need) for m, need in above if need.floor is None]:
        findings = tuple(_above(m, need, tag, platform.arch) for m, need in bad)
        return Ruling(tags=frozenset(), findings=findings)
    floor = max([policies[0].version, *(need.floor for _, need in above if need.floor)])
    return Ruling(
        tags=_at(tag, platform.arch, floor), findings=(_inexact(wheel, tag, floor, above),)
    )


def _at(tag: Tag, arch: str, floor: GlibcVersion) -> frozenset[Tag]:
    return on_platforms(tag, [GlibcPlatform(major=floor[0], minor=floor[1], arch=arch)])


def _needs_above(
    wheel: OpenedWheel, arch: str, claimed: GlibcVersion
) -> Iterator[tuple[Member, Need]]:
    names = inside(wheel)
    for member, file in wheel.elf:
        if file.arch == arch and file.filetype in {"ET_DYN", "ET_EXEC"}:
            for need in needs_of(file, names):
                if need.floor is None or need.floor > claimed:
                    yield member, need


def _wrong_libc(member: Member, file: ElfFile, tag: Tag, libc: str) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=f"the file is linked to {libc}, which `{tag.platform}` rules out",
        evidence={"libc": libc, "needed": list(file.needed)[:50], "claimed": tag.platform},
        hint="build it on a system with the libc of the tag",
    )


def _above(member: Member, need: Need, tag: Tag, arch: str) -> Finding:
    floor = None if need.floor is None else "manylinux_{}_{}".format(*need.floor)
    first = f"first granted by {floor}" if floor else "granted by no manylinux policy"
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=arch,
        message=f"the file needs {need.what} of {need.library}, {first}",
        evidence={
            "library": need.library,
            "needs": need.what,
            "floor": floor,
            "claimed": tag.platform,
        },
        hint="build on an older system, or let the tag say what it needs",
    )


def _inexact(
    wheel: OpenedWheel, tag: Tag, floor: GlibcVersion, above: list[tuple[Member, Need]]
) -> Finding:
    highest = [(m, need) for m, need in above if need.floor == floor]
    member = highest[0][0] if highest else wheel.elf[0][0]
    return Finding(
        check=CODE,
        severity="warning",
        member=member.path,
        slice=parse_arch(tag),
        message=f"`{tag.platform}` says no libc; the bytes ask for glibc {floor[0]}.{floor[1]}",
        evidence={
            "floor": f"manylinux_{floor[0]}_{floor[1]}",
            "needs": sorted({need.what for _, need in highest})[:20],
            "claimed": tag.platform,
        },
    )


def parse_arch(tag: Tag) -> str | None:
    """The one architecture of a tag, None when it has none or several."""
    archs = sorted(parse_platform(tag.platform).archs)
    return archs[0] if len(archs) == 1 else None


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
