"""Every library that a Mach-O slice loads is part of macOS, in the wheel, or declared."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import Dependency, MachSlice
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import is_python_on_mac
from builder.wheel import Member, OpenedWheel
from store.tags import MacPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "macho-linkage"
TITLE: Final = "Every library that a Mach-O slice loads is there"
_SYSTEM: Final = ("/usr/lib/", "/System/Library/")


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """A note for each library that is outside because the Recipe says so, with its reason."""
    for member, file in wheel.mach:
        for part in file.slices:
            for dependency in part.dependencies:
                name = _base(dependency.name)
                if name in context.external_libraries:
                    yield Finding(
                        check=CODE,
                        severity="note",
                        member=member.path,
                        slice=part.arch,
                        message=f"{name} comes from outside the wheel, as the Recipe declares",
                        evidence={"library": name, "reason": context.external_libraries[name]},
                    )


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag`, or nothing when a slice that it promises loads what no other machine has."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform):
        return holds(tag)
    bad = [
        _bad(member, part, dependency)
        for member, file in wheel.mach
        for part in file.slices
        for dependency in part.dependencies
        if part.arch in platform.archs and not _is_there(wheel, member, part, dependency, context)
    ]
    return Ruling(tags=frozenset(), findings=tuple(bad)) if bad else holds(tag)


def _is_there(
    wheel: OpenedWheel, member: Member, part: MachSlice, dependency: Dependency, context: Context
) -> bool:
    name = dependency.name
    if is_python_on_mac(name):
        return not context.portable and name == context.libpython_name
    if _base(name) in context.external_libraries:
        return True
    if name.startswith(_SYSTEM):
        return posixpath.normpath(name) == name
    return dependency.kind == "weak" or _resolves(wheel, member, part, name)


def _resolves(wheel: OpenedWheel, member: Member, part: MachSlice, name: str) -> bool:
    """Whether dyld finds `name` in the wheel: below @loader_path, or by an rpath below it.

    dyld also searches the rpaths of what loaded the file, so those count.
    """
    inside = {other.site_path for other in wheel.members.values() if other.site_path}
    if name.startswith("@loader_path/"):
        return _from_loader(member, name) in inside
    if not name.startswith("@rpath/"):
        return False
    rest = name.removeprefix("@rpath/")
    return any(
        _from_loader(holder, posixpath.join(rpath, rest)) in inside
        for holder, rpath in _rpaths(wheel, member, part)
    )


def _rpaths(wheel: OpenedWheel, member: Member, part: MachSlice) -> Iterator[tuple[Member, str]]:
    yield from ((member, rpath) for rpath in part.rpaths)
    for other, file in wheel.mach:
        for loading in file.slices:
            if loading.arch == part.arch and _loads(loading, member):
                yield from ((other, rpath) for rpath in loading.rpaths)


def _loads(part: MachSlice, member: Member) -> bool:
    return any(_base(dependency.name) == member.name for dependency in part.dependencies)


def _from_loader(member: Member, path: str) -> str | None:
    """Where a path from @loader_path lands below site-packages; None for any other path."""
    if member.site_path is None or not path.startswith("@loader_path"):
        return None
    rest = path.removeprefix("@loader_path").lstrip("/")
    return posixpath.normpath(posixpath.join(posixpath.dirname(member.site_path), rest))


def _base(name: str) -> str:
    return name.rpartition("/")[2]


def _bad(member: Member, part: MachSlice, dependency: Dependency) -> Finding:
    name = dependency.name
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=part.arch,
        message=f"the slice loads {name[:300]}, {_why(name)}",
        evidence={"dependency": name[:1000], "kind": dependency.kind, "rpaths": list(part.rpaths)},
        hint="repair the wheel (delocate), or declare the library in the Recipe with its reason",
    )


def _why(name: str) -> str:
    if is_python_on_mac(name):
        return "which is one interpreter build's own"
    if name.startswith("@"):
        return "which leads to nothing in the wheel"
    return "which other machines do not have"


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
