"""Every symbol that a Mach-O slice asks for is somewhere, on the oldest macOS of the tag.

dyld stops at the first strong symbol that it does not find, and then nothing of the file is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import MachSlice
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import is_python_on_mac
from builder.checks.symbols.interpreter import State, modules_of_others, python_state
from builder.checks.symbols.lists import libsystem_at, libsystem_since
from builder.checks.symbols.stable_abi import is_cpython_name
from builder.checks.tag_edits import on_archs
from builder.wheel import LOADED_MACHO, Member, OpenedWheel
from store.digest import JSON
from store.tags import MacPlatform, MacVersion, parse_platform
from store.verdict import Finding

CODE: Final = "link-symbols"
TITLE: Final = "Every symbol that a Mach-O slice asks for is there"
_LIBSYSTEM: Final = ("/usr/lib/libSystem.", "/usr/lib/system/")
# CPython on macOS is linked to CoreFoundation: its symbols are found by whoever does not name it.
_BY_INTERPRETER: Final = ("CF", "kCF", "__CF", "objc_", "OBJC_")
# System libraries that bring nothing but names of these forms; any other may bring any name.
_NAMED: Final[Mapping[str, re.Pattern[str]]] = {
    "/usr/lib/libc++.1.dylib": re.compile("_Z|__cxa_|__gxx_personality_|__dynamic_cast"),
    "/usr/lib/libc++abi.dylib": re.compile("_Z|__cxa_|__gxx_personality_|__dynamic_cast"),
    "/usr/lib/libbz2.1.0.dylib": re.compile("BZ2_"),
    "/usr/lib/libcurl.4.dylib": re.compile("curl_"),
    "/usr/lib/libffi.dylib": re.compile("ffi_"),
    "/usr/lib/libsqlite3.dylib": re.compile("sqlite3_"),
}
_SHOWN: Final = 20
_FEW: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """What one slice asks for and does not surely get, under one tag.

    `newer` are symbols of a later macOS; `missing` are strong ones that nobody brings; `unsure` may
    come from `outside`, libraries that no list tells of, or from a CPython that none does.
    """

    member: Member
    part: MachSlice
    newer: dict[str, MacVersion]
    missing: tuple[str, ...]
    unsure: tuple[str, ...]
    outside: tuple[str, ...]

    def newer_that_are(self, *, weak: bool) -> dict[str, MacVersion]:
        return {n: since for n, since in self.newer.items() if (n in self.part.weak) == weak}

    @property
    def broken(self) -> bool:
        return bool(self.missing or self.newer_that_are(weak=False))


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """The architectures of a macOS tag whose slices find every strong symbol they ask for.

    A strong symbol of a later macOS than the tag's refuses the slice: the build promised a
    deployment target that its code does not keep.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform) or not wheel.mach:
        return holds(tag)
    links = list(_links(wheel, tag, platform))
    findings = tuple(finding for one in links for finding in _findings(one, tag, platform))
    broken = {one.part.arch for one in links if one.broken}
    if not broken:
        return Ruling(tags=frozenset({tag}), findings=findings)
    return Ruling(tags=on_archs(tag, platform, platform.archs - broken), findings=findings)


def all_found(wheel: OpenedWheel, tags: frozenset[Tag]) -> bool:
    """Whether every slice that `tags` promise surely finds all it asks for, by the lists.

    False for a wheel without a Mach-O file, and for one with binaries of other kinds.
    """
    kinds = {member.format for member in wheel.members.values()} - {None}
    if kinds != {"mach-o"} or not wheel.mach:
        return False
    return all(_all_found(wheel, tag) for tag in tags)


def _all_found(wheel: OpenedWheel, tag: Tag) -> bool:
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform):
        return False
    return not any(one.broken or one.unsure for one in _links(wheel, tag, platform))


def _links(wheel: OpenedWheel, tag: Tag, platform: MacPlatform) -> Iterator[_Links]:
    inside = {arch: _inside(wheel, arch) for arch in platform.archs}
    for member, part in _slices(wheel, tag, platform):
        left = part.undefined - _at(part, platform)
        newer = _newer(part, left)
        outside = _outside(part, inside[part.arch])
        left -= newer.keys() | _brought(wheel, part, left)
        states = {name: _state(name, tag, part, outside) for name in left}
        yield _Links(
            member=member,
            part=part,
            newer=newer,
            missing=tuple(sorted(n for n, state in states.items() if state == "missing")),
            unsure=tuple(sorted(n for n, state in states.items() if state == "unsure")),
            outside=outside,
        )


def _slices(
    wheel: OpenedWheel, tag: Tag, platform: MacPlatform
) -> Iterator[tuple[Member, MachSlice]]:
    """The slices that `tag` promises, but for modules of interpreters that it does not name."""
    others = modules_of_others(wheel, tag)
    for member, file in wheel.mach:
        if member.path not in others:
            for part in file.slices:
                if part.arch in platform.archs and part.filetype in LOADED_MACHO:
                    yield member, part


def _at(part: MachSlice, platform: MacPlatform) -> frozenset[str]:
    return libsystem_at(part.arch, platform.minimum_os(part.arch)) or frozenset()


def _newer(part: MachSlice, names: frozenset[str]) -> dict[str, MacVersion]:
    since = libsystem_since(part.arch) or {}
    return {name: since[name] for name in sorted(names) if name in since}


def _brought(wheel: OpenedWheel, part: MachSlice, names: frozenset[str]) -> frozenset[str]:
    """Those of `names` that a binary of the wheel exports for the same architecture."""
    exports = (
        other.exports & names
        for _, file in wheel.mach
        for other in file.slices
        if names and other.arch == part.arch
    )
    return frozenset().union(*exports)


def _inside(wheel: OpenedWheel, arch: str) -> dict[str, MachSlice]:
    """File name -> the slice for `arch` of each Mach-O file of the wheel."""
    return {
        member.name: part
        for member, file in wheel.mach
        for part in file.slices
        if part.arch == arch
    }


def _outside(part: MachSlice, inside: Mapping[str, MachSlice]) -> tuple[str, ...]:
    """The libraries, neither the wheel's nor libSystem, that the slice may get symbols from.

    A symbol that was left to dyld (``-undefined dynamic_lookup``) is looked for in all that is
    loaded, so what the wheel's own libraries load counts as well.
    """
    found, seen = set[str](), set[str]()
    todo = [part]
    while todo:
        for dependency in todo.pop().dependencies:
            base = dependency.name.rpartition("/")[2]
            if base not in inside:
                found.add(dependency.name)
            elif base not in seen:
                seen.add(base)
                todo.append(inside[base])
    return tuple(
        sorted(n for n in found if not n.startswith(_LIBSYSTEM) and not is_python_on_mac(n))
    )


def _state(name: str, tag: Tag, part: MachSlice, outside: tuple[str, ...]) -> State:
    """Whether a symbol is there that is neither libSystem's nor the wheel's."""
    if is_cpython_name(name) and (known := python_state(name, tag)) is not None:
        state = known
    elif _may_come_from(name, outside) or libsystem_since(part.arch) is None:
        state = "unsure"
    else:
        state = "missing"
    return "found" if state == "missing" and name in part.weak else state


def _may_come_from(name: str, outside: tuple[str, ...]) -> bool:
    if name.startswith(_BY_INTERPRETER):
        return True
    return any(path not in _NAMED or _NAMED[path].match(name) for path in outside)


def _findings(links: _Links, tag: Tag, platform: MacPlatform) -> Iterator[Finding]:
    if strong := links.newer_that_are(weak=False):
        yield _newer_finding(links, strong, platform)
    if weak := links.newer_that_are(weak=True):
        yield _weak_finding(links, weak, platform)
    if links.missing:
        yield _missing_finding(links, tag)
    if links.unsure:
        yield _unsure_finding(links)


def _newer_finding(links: _Links, newer: dict[str, MacVersion], platform: MacPlatform) -> Finding:
    last = max(newer, key=lambda name: newer[name])
    return Finding(
        check=CODE,
        severity="error",
        member=links.member.path,
        slice=links.part.arch,
        message=f"{last} is in macOS since {_text(newer[last])}, and `{platform}` starts earlier",
        evidence=_evidence(newer, platform, links.part),
        hint="compile for the deployment target that the tag names, so that the reference is weak",
    )


def _weak_finding(links: _Links, newer: dict[str, MacVersion], platform: MacPlatform) -> Finding:
    last = max(newer, key=lambda name: newer[name])
    return Finding(
        check=CODE,
        severity="warning",
        member=links.member.path,
        slice=links.part.arch,
        message=f"{last} is in macOS since {_text(newer[last])}; before, the code must do without",
        evidence=_evidence(newer, platform, links.part),
        hint="see that the code asks whether the function is there before it calls it",
    )


def _evidence(
    newer: dict[str, MacVersion], platform: MacPlatform, part: MachSlice
) -> dict[str, JSON]:
    shown = sorted(newer, key=lambda name: (newer[name], name), reverse=True)[:_SHOWN]
    return {
        "claimed": str(platform),
        "minimum_os": _text(platform.minimum_os(part.arch)),
        "symbols": {name: _text(newer[name]) for name in shown},
        "count": len(newer),
    }


def _missing_finding(links: _Links, tag: Tag) -> Finding:
    rest = len(links.missing) - 1
    what = f"{links.missing[0][:200]} (and {rest} more)" if rest else links.missing[0][:200]
    return Finding(
        check=CODE,
        severity="error",
        member=links.member.path,
        slice=links.part.arch,
        message=f"nothing that the slice can load under `{tag}` has {what}",
        evidence={
            "claimed": str(tag),
            "symbols": [name[:200] for name in links.missing[:_SHOWN]],
            "count": len(links.missing),
            "dependencies": [one.name for one in links.part.dependencies[:_SHOWN]],
        },
        hint="a library was not linked, or was there for another architecture only",
    )


def _unsure_finding(links: _Links) -> Finding:
    return Finding(
        check=CODE,
        severity="note",
        member=links.member.path,
        slice=links.part.arch,
        message="some symbols are left to libraries whose contents are not known here",
        evidence={
            "symbols": [name[:200] for name in links.unsure[:_FEW]],
            "count": len(links.unsure),
            "libraries": list(links.outside[:_SHOWN]),
        },
    )


def _text(version: MacVersion) -> str:
    return "{}.{}".format(*version)


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
