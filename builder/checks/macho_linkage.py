"""Every library that a Mach-O slice loads is part of the system, in the wheel, or declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import Dependency, MachSlice
from builder.checks.apple.names import is_impossible, is_system, known_since
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.dyld import Place, Shelf, places, shelf_of
from builder.checks.dyld_reuse import Key, Reuse, reused
from builder.checks.libraries import is_python_on_mac
from builder.wheel import Member, OpenedWheel
from store.digest import JSON
from store.tags import IosPlatform, MacPlatform, parse_platform
from store.verdict import Finding, Severity

CODE: Final = "macho-linkage"
TITLE: Final = "Every library that a Mach-O slice loads is there"
_PYTHON_ON_IOS: Final = "@rpath/Python.framework/Python"
_FRAMEWORKS: Final = "/System/Library/Frameworks/"
_MOST: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """What one slice loads."""

    member: Member
    part: MachSlice
    dependency: Dependency

    @property
    def name(self) -> str:
        return self.dependency.name

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]

    @property
    def key(self) -> Key:
        return self.member.path, self.part.arch, self.name


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """A note for each library that is outside because the Recipe says so, with its reason.

    A warning for a name in the system's folders that no list knows; a note for a framework.
    """
    for link in _links(wheel):
        if link.base in context.external_libraries:
            message = f"{link.base} comes from outside the wheel, as the Recipe declares"
            reason = context.external_libraries[link.base]
            yield _finding(link, "note", message, {"library": link.base, "reason": reason})
        elif is_system(link.name) and not (link.name in known_since() or is_impossible(link.name)):
            severity: Severity = "note" if link.name.startswith(_FRAMEWORKS) else "warning"
            message = f"no list of the system's libraries has {link.name[:300]}"
            yield _finding(link, severity, message, {"dependency": link.name[:1000]})


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag`, or nothing when a slice that it promises loads what no other machine has.

    A warning where the library must have been loaded before: see `builder.checks.dyld_reuse`.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform | IosPlatform):
        return holds(tag)
    shelf = shelf_of(wheel)
    lost = [
        (link, why)
        for link in _links(wheel)
        if link.part.arch in platform.archs and (why := _why_not(shelf, link, platform, context))
    ]
    early = reused(wheel, [(link.member, link.part, link.name) for link, _ in lost])
    bad = [_bad(shelf, link, why) for link, why in lost if link.key not in early]
    if bad:
        return Ruling(tags=frozenset(), findings=tuple(bad[:_MOST]))
    told = tuple(_told(link, early[link.key]) for link, _ in lost[:_MOST])
    return Ruling(tags=frozenset({tag}), findings=told)


def _links(wheel: OpenedWheel) -> Iterator[_Link]:
    for member, file in wheel.mach:
        for part in file.slices:
            for dependency in part.dependencies:
                yield _Link(member=member, part=part, dependency=dependency)


def _why_not(
    shelf: Shelf, link: _Link, platform: MacPlatform | IosPlatform, context: Context
) -> str | None:
    """Why dyld does not find a library on every machine of the tag; None where it does.

    A weak one may be missing, unless it is another interpreter.
    """
    if is_python_on_mac(link.name):
        own = _is_own_python(link.name, platform, context)
        return None if own else "which is one interpreter build's own"
    if link.base in context.external_libraries or link.dependency.kind == "weak":
        return None
    if is_system(link.name):
        return _why_no_system(link, platform)
    found = list(places(shelf, link.member, link.part, link.name))
    return None if any(link.part.arch in one.held for one in found) else _why_lost(link, found)


def _is_own_python(name: str, platform: MacPlatform | IosPlatform, context: Context) -> bool:
    """Whether the interpreter that imports the module is the one it names.

    On iOS every app brings its Python as a framework, found by one rpath (PEP 730).
    """
    if isinstance(platform, IosPlatform):
        return name == _PYTHON_ON_IOS
    return not context.portable and name == context.libpython_name


def _why_no_system(link: _Link, platform: MacPlatform | IosPlatform) -> str | None:
    if is_impossible(link.name):
        return "which no such system has, or had"
    first = known_since().get(link.name, (0, 0))
    if isinstance(platform, IosPlatform) or first <= platform.minimum_os(link.part.arch):
        return None
    return f"which macOS has only since {first[0]}.{first[1]}"


def _why_lost(link: _Link, found: list[Place]) -> str:
    if found:
        held = ", ".join(found[0].held) or "no Mach-O library"
        return f"and what it leads to lacks {link.part.arch}: {found[0].path[:300]} holds {held}"
    if link.name.startswith("@"):
        return "which leads to nothing in the wheel"
    return "which other machines do not have"


def _bad(shelf: Shelf, link: _Link, why: str) -> Finding:
    reached = [one.path for one in places(shelf, link.member, link.part, link.name)]
    evidence: dict[str, JSON] = {
        "dependency": link.name[:1000],
        "kind": link.dependency.kind,
        "rpaths": list(link.part.rpaths),
        "found": [*reached[:20]],
    }
    return _finding(link, "error", f"the slice loads {link.name[:300]}, {why}", evidence)


def _told(link: _Link, reuse: Reuse) -> Finding:
    who = {
        "code": "the wheel's code has loaded",
        "program": "the program that opens the plugin has loaded",
    }
    message = (
        f"the slice loads {link.name[:300]}, which it does not find: dyld takes the library of "
        f"that name that {who[reuse.loaded_by]}, or fails"
    )
    evidence: dict[str, JSON] = {
        "dependency": link.name[:1000],
        "rpaths": list(link.part.rpaths),
        "library": reuse.path,
        "loaded_by": reuse.loaded_by,
    }
    return _finding(link, "warning", message, evidence)


def _finding(link: _Link, severity: Severity, message: str, evidence: dict[str, JSON]) -> Finding:
    hint = "repair the wheel (delocate), or declare the library in the Recipe with its reason"
    return Finding(
        check=CODE,
        severity=severity,
        member=link.member.path,
        slice=link.part.arch,
        message=message,
        evidence=evidence,
        hint=hint if severity == "error" else None,
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
