"""Every library that an ELF file needs is in the policy, in the wheel, or declared."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import needed_outside
from builder.checks.policies import glibc_policies, is_libpython, is_loader, musl_libraries
from builder.wheel import Member, OpenedWheel
from store.tags import GlibcPlatform, LinuxPlatform, MuslPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "elf-linkage"
TITLE: Final = "Every library that an ELF file needs is there"
_Linux = GlibcPlatform | MuslPlatform | LinuxPlatform


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """A note for each library that is outside because the Recipe says so, with its reason."""
    for member, file in wheel.elf:
        for name in needed_outside(wheel, file):
            if name in context.external_libraries:
                yield Finding(
                    check=CODE,
                    severity="note",
                    member=member.path,
                    slice=file.arch,
                    message=f"{name} comes from outside the wheel, as the Recipe declares",
                    evidence={"library": name, "reason": context.external_libraries[name]},
                )


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag`, or nothing when a library is missing or binds the wheel to another interpreter."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, _Linux):
        return holds(tag)
    missing = [
        _missing(member, file, name, tag)
        for member, file in wheel.elf
        for name in needed_outside(wheel, file)
        if not _is_there(name, platform, context)
    ]
    return Ruling(tags=frozenset(), findings=tuple(missing)) if missing else holds(tag)


def _is_there(name: str, platform: _Linux, context: Context) -> bool:
    if is_libpython(name):
        exact = not context.portable and name == context.libpython_name
        return exact and isinstance(platform, LinuxPlatform)
    if is_loader(name) or name in context.external_libraries:
        return True
    return name in _granted(platform)


def _granted(platform: _Linux) -> frozenset[str]:
    glibc = glibc_policies(platform.arch)[-1:]
    granted = frozenset().union(*(policy.libraries for policy in glibc))
    if isinstance(platform, GlibcPlatform):
        return granted
    musl = musl_libraries(platform.arch)
    return musl if isinstance(platform, MuslPlatform) else granted | musl


def _missing(member: Member, file: ElfFile, name: str, tag: Tag) -> Finding:
    python = is_libpython(name)
    message = (
        f"the file is linked to {name}, so it serves one interpreter build only"
        if python
        else f"the file needs {name}, which is neither in the wheel nor on every such system"
    )
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=message,
        evidence={"library": name, "claimed": tag.platform, "needed": list(file.needed)[:50]},
        hint="an extension module does not link libpython"
        if python
        else "repair the wheel (auditwheel), or declare the library in the Recipe with its reason",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
