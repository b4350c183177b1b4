"""Every symbol that a Mach-O slice asks for is somewhere, on the oldest macOS of the tag.

dyld stops at the first strong symbol that it does not find, and then nothing of the file is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import MachSlice
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import is_python_on_mac
from builder.checks.symbols.asked import Asked, Words, first_names, sort_out, version_text
from builder.checks.symbols.interpreter import modules_of_others
from builder.checks.symbols.lists import libsystem_at, libsystem_since
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
_WORDS: Final = Words(
    code=CODE,
    system="macOS",
    part="slice",
    unlinked="a library was not linked, or was there for another architecture only",
)


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """The architectures of a macOS tag whose slices find every strong symbol they ask for.

    A strong symbol of a later macOS than the tag's refuses the slice: the build promised a
    deployment target that its code does not keep.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform) or not wheel.mach:
        return holds(tag)
    found = list(_asked(wheel, tag, platform))
    findings = tuple(finding for one in found for finding in _findings(*one, tag, platform))
    broken = {asked.arch for _, asked in found if asked.broken}
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
    return not any(asked.broken or asked.unsure for _, asked in _asked(wheel, tag, platform))


def _asked(
    wheel: OpenedWheel, tag: Tag, platform: MacPlatform
) -> Iterator[tuple[MachSlice, Asked]]:
    inside = {arch: _inside(wheel, arch) for arch in platform.archs}
    for member, part in _slices(wheel, tag, platform):
        left = part.undefined - _at(part, platform)
        newer = _newer(part, left)
        outside = _outside(part, inside[part.arch])
        left -= newer.keys() | _brought(wheel, part, left)
        missing, unsure = sort_out(left, tag, part.weak, partial(_is_open, part, outside))
        yield (
            part,
            Asked(
                member=member,
                arch=part.arch,
                weak=part.weak,
                newer=newer,
                missing=missing,
                unsure=unsure,
                outside=outside,
            ),
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


def _is_open(part: MachSlice, outside: tuple[str, ...], name: str) -> bool:
    """Whether a symbol may come from what no list tells of."""
    if name.startswith(_BY_INTERPRETER) or libsystem_since(part.arch) is None:
        return True
    return any(path not in _NAMED or _NAMED[path].match(name) for path in outside)


def _findings(part: MachSlice, asked: Asked, tag: Tag, platform: MacPlatform) -> Iterator[Finding]:
    starts = version_text(platform.minimum_os(part.arch))
    claimed: dict[str, JSON] = {"claimed": str(platform), "minimum_os": starts}
    if strong := asked.newer_that_are(weak=False):
        yield _WORDS.newer(
            asked,
            strong,
            claimed,
            severity="error",
            but=f", and `{platform}` starts earlier",
            hint="compile for the deployment target that the tag names, "
            "so that the reference is weak",
        )
    if asked.newer_that_are(weak=True):
        yield _WORDS.weak(asked, claimed)
    if asked.missing:
        dependencies = first_names(one.name for one in part.dependencies)
        yield _WORDS.missing(asked, tag, {"dependencies": dependencies})
    if asked.unsure:
        yield _WORDS.unsure(asked)


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
