"""Every symbol that an ELF file of a musllinux wheel asks for is somewhere, on the musl of the tag.

musl's loader binds all of a module at once and stops at the first symbol that it does not find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.policies import is_musl_libc
from builder.checks.symbols.interpreter import State, modules_of_others, python_state
from builder.checks.symbols.lists import MuslVersion, musl_since
from builder.checks.symbols.stable_abi import is_cpython_name
from builder.checks.tag_edits import on_platforms
from builder.wheel import Member, OpenedWheel
from store.digest import JSON
from store.tags import MuslPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "musl-symbols"
TITLE: Final = "Every symbol that an ELF file asks for is in the musl of the tag"
# The linker makes them in every program, so the interpreter may bring them.
_BY_LINKER: Final = frozenset(
    {
        "_DYNAMIC",
        "_GLOBAL_OFFSET_TABLE_",
        "__bss_start",
        "__dso_handle",
        "__ehdr_start",
        "__executable_start",
        "_edata",
        "_end",
        "_fini",
        "_init",
    }
)
# Libraries of the musllinux policy that bring nothing but names of these forms.
_NAMED: Final[Mapping[str, re.Pattern[str]]] = {
    "libz.so.1": re.compile(
        r"(adler32|compress|crc32|deflate|gz|inflate|uncompress|zlib)\w*|get_crc_table|zError"
    ),
}
_SHOWN: Final = 20
_FEW: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Links:
    """What one file asks for and does not surely get, under one tag.

    `newer` are symbols of a musl that the tag does not reach, `patch` strong ones that came with a
    patch release of the tag's own version; `missing` are strong ones that nobody brings; `unsure`
    may come from `outside`, libraries that no list tells of, or from a CPython that none does.
    """

    member: Member
    file: ElfFile
    newer: dict[str, MuslVersion]
    patch: dict[str, MuslVersion]
    missing: tuple[str, ...]
    unsure: tuple[str, ...]
    outside: tuple[str, ...]

    def newer_that_are(self, *, weak: bool) -> dict[str, MuslVersion]:
        return {n: since for n, since in self.newer.items() if (n in self.file.weak) == weak}


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` raised to the musl whose symbols are asked for; none when nobody brings one.

    A tag says major and minor, so what came with a patch release of its own version is a warning.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MuslPlatform) or not wheel.elf:
        return holds(tag)
    links = list(_links(wheel, tag, platform))
    findings = tuple(finding for one in links for finding in _findings(one, tag, platform))
    if any(one.missing for one in links):
        return Ruling(tags=frozenset(), findings=findings)
    needed = [since for one in links for since in one.newer_that_are(weak=False).values()]
    if not needed:
        return Ruling(tags=frozenset({tag}), findings=findings)
    major, minor, _ = max(needed)
    raised = MuslPlatform(major=major, minor=minor, arch=platform.arch)
    return Ruling(tags=on_platforms(tag, [raised]), findings=findings)


def all_found(wheel: OpenedWheel, tags: frozenset[Tag]) -> bool:
    """Whether every ELF file surely finds all it asks for under each of `tags`, by the lists.

    False for a wheel without an ELF file, for one with binaries of other kinds, and for tags of
    another libc.
    """
    kinds = {member.format for member in wheel.members.values()} - {None}
    return kinds == {"elf"} and bool(wheel.elf) and all(_all_found(wheel, tag) for tag in tags)


def _all_found(wheel: OpenedWheel, tag: Tag) -> bool:
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MuslPlatform):
        return False
    return not any(
        one.missing or one.unsure or one.patch or one.newer_that_are(weak=False)
        for one in _links(wheel, tag, platform)
    )


def _links(wheel: OpenedWheel, tag: Tag, platform: MuslPlatform) -> Iterator[_Links]:
    since = musl_since(platform.arch) or {}
    for member, file in _files(wheel, tag, platform):
        asked = {name: since[name] for name in sorted(file.undefined & since.keys())}
        outside = _outside(wheel, file)
        left = file.undefined - since.keys() - _brought(wheel, file)
        states = {name: _state(name, tag, file, outside) for name in left}
        yield _Links(
            member=member,
            file=file,
            newer={n: first for n, first in asked.items() if first[:2] > _said(platform)},
            patch={n: first for n, first in asked.items() if _by_patch(n, first, file, platform)},
            missing=tuple(sorted(n for n, state in states.items() if state == "missing")),
            unsure=tuple(sorted(n for n, state in states.items() if state == "unsure")),
            outside=outside,
        )


def _said(platform: MuslPlatform) -> tuple[int, int]:
    return platform.major, platform.minor


def _by_patch(name: str, first: MuslVersion, file: ElfFile, platform: MuslPlatform) -> bool:
    """Whether a strong symbol came with a later release of the version that the tag says."""
    return first[:2] == _said(platform) and first[2] > 0 and name not in file.weak


def _files(
    wheel: OpenedWheel, tag: Tag, platform: MuslPlatform
) -> Iterator[tuple[Member, ElfFile]]:
    """What is loaded under `tag`, but for modules of interpreters that it does not name."""
    others = modules_of_others(wheel, tag)
    for member, file in wheel.elf:
        loaded = file.arch == platform.arch and file.filetype in {"ET_DYN", "ET_EXEC"}
        if loaded and member.path not in others:
            yield member, file


def _brought(wheel: OpenedWheel, file: ElfFile) -> frozenset[str]:
    """Those of the symbols asked for that another file of the wheel exports."""
    exports = (other.exports & file.undefined for _, other in wheel.elf if other.arch == file.arch)
    return frozenset().union(*exports)


def _outside(wheel: OpenedWheel, file: ElfFile) -> tuple[str, ...]:
    """The libraries, neither the wheel's nor musl, that `file` may get symbols from.

    What the wheel's own libraries need is loaded with them.
    """
    inside = _by_name(wheel, file.arch)
    found, seen, todo = set[str](), set[str](), [file]
    while todo:
        for name in todo.pop().needed:
            if name not in inside:
                found.add(name)
            elif name not in seen:
                seen.add(name)
                todo.append(inside[name])
    return tuple(sorted(name for name in found if not is_musl_libc(name)))


def _by_name(wheel: OpenedWheel, arch: str) -> Mapping[str, ElfFile]:
    """File name or SONAME -> the ELF file of the wheel that is needed by it."""
    files = [(member.name, file) for member, file in wheel.elf if file.arch == arch]
    return {name: file for base, file in files for name in (base, file.soname) if name}


def _state(name: str, tag: Tag, file: ElfFile, outside: tuple[str, ...]) -> State:
    """Whether a symbol is there that is neither musl's nor the wheel's."""
    if is_cpython_name(name) and (known := python_state(name, tag)) is not None:
        state = known
    elif _may_come_from(name, outside) or musl_since(file.arch) is None:
        state = "unsure"
    else:
        state = "missing"
    return "found" if state == "missing" and name in file.weak else state


def _may_come_from(name: str, outside: tuple[str, ...]) -> bool:
    if name in _BY_LINKER:
        return True
    return any(path not in _NAMED or _NAMED[path].fullmatch(name) for path in outside)


def _findings(links: _Links, tag: Tag, platform: MuslPlatform) -> Iterator[Finding]:
    if strong := links.newer_that_are(weak=False):
        yield _newer_finding(links, strong, platform)
    if weak := links.newer_that_are(weak=True):
        yield _weak_finding(links, weak, platform)
    if links.patch:
        yield _patch_finding(links, platform)
    if links.missing:
        yield _missing_finding(links, tag)
    if links.unsure:
        yield _unsure_finding(links)


def _newer_finding(links: _Links, newer: dict[str, MuslVersion], platform: MuslPlatform) -> Finding:
    last = max(newer, key=lambda name: newer[name])
    return Finding(
        check=CODE,
        severity="error",
        member=links.member.path,
        slice=links.file.arch,
        message=f"{last} is in musl since {_text(newer[last])}, later than `{platform}` says",
        evidence=_evidence(newer, platform),
        hint="build on an older system, or let the tag say the musl that is needed",
    )


def _weak_finding(links: _Links, newer: dict[str, MuslVersion], platform: MuslPlatform) -> Finding:
    last = max(newer, key=lambda name: newer[name])
    return Finding(
        check=CODE,
        severity="warning",
        member=links.member.path,
        slice=links.file.arch,
        message=f"{last} is in musl since {_text(newer[last])}; before, the code must do without",
        evidence=_evidence(newer, platform),
        hint="see that the code asks whether the function is there before it calls it",
    )


def _patch_finding(links: _Links, platform: MuslPlatform) -> Finding:
    last = max(links.patch, key=lambda name: links.patch[name])
    return Finding(
        check=CODE,
        severity="warning",
        member=links.member.path,
        slice=links.file.arch,
        message=f"{last} is in musl since {_text(links.patch[last])}, which no tag can say",
        evidence=_evidence(links.patch, platform),
        hint="build on the oldest musl that is to run the wheel",
    )


def _evidence(newer: dict[str, MuslVersion], platform: MuslPlatform) -> dict[str, JSON]:
    shown = sorted(newer, key=lambda name: (newer[name], name), reverse=True)[:_SHOWN]
    return {
        "claimed": str(platform),
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
        slice=links.file.arch,
        message=f"nothing that the file can load under `{tag}` has {what}",
        evidence={
            "claimed": str(tag),
            "symbols": [name[:200] for name in links.missing[:_SHOWN]],
            "count": len(links.missing),
            "needed": list(links.file.needed[:_SHOWN]),
        },
        hint="a library was not linked, or the object was compiled for another libc",
    )


def _unsure_finding(links: _Links) -> Finding:
    return Finding(
        check=CODE,
        severity="note",
        member=links.member.path,
        slice=links.file.arch,
        message="some symbols are left to libraries whose contents are not known here",
        evidence={
            "symbols": [name[:200] for name in links.unsure[:_FEW]],
            "count": len(links.unsure),
            "libraries": list(links.outside[:_SHOWN]),
        },
    )


def _text(version: MuslVersion) -> str:
    return "{}.{}.{}".format(*version)


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
