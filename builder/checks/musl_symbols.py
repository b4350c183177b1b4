"""Every symbol that an ELF file of a musllinux wheel asks for is somewhere, on the musl of the tag.

musl's loader binds all of a module at once and stops at the first symbol that it does not find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.policies import is_musl_libc
from builder.checks.symbols.asked import Asked, Version, Words, first_names, sort_out
from builder.checks.symbols.interpreter import modules_of_others
from builder.checks.symbols.lists import MuslVersion, musl_since
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
_WORDS: Final = Words(
    code=CODE,
    system="musl",
    part="file",
    unlinked="a library was not linked, or the object was compiled for another libc",
)


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag` raised to the musl whose symbols are asked for; none when nobody brings one.

    A tag says major and minor, so what came with a patch release of its own version is a warning.
    """
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MuslPlatform) or not wheel.elf:
        return holds(tag)
    found = list(_asked(wheel, tag, platform))
    findings = tuple(finding for one in found for finding in _findings(*one, tag, platform))
    if any(asked.missing for _, asked in found):
        return Ruling(tags=frozenset(), findings=findings)
    needed = [since for _, one in found for since in one.newer_that_are(weak=False).values()]
    if not needed:
        return Ruling(tags=frozenset({tag}), findings=findings)
    major, minor, *_ = max(needed)
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
        asked.broken or asked.unsure or _by_patch(file, platform)
        for file, asked in _asked(wheel, tag, platform)
    )


def _asked(wheel: OpenedWheel, tag: Tag, platform: MuslPlatform) -> Iterator[tuple[ElfFile, Asked]]:
    since = _since(platform)
    for member, file in _files(wheel, tag, platform):
        outside = _outside(wheel, file)
        left = file.undefined - since.keys() - _brought(wheel, file)
        missing, unsure = sort_out(left, tag, file.weak, partial(_is_open, platform, outside))
        asked = {name: since[name] for name in sorted(file.undefined & since.keys())}
        yield (
            file,
            Asked(
                member=member,
                arch=file.arch,
                weak=file.weak,
                newer={n: first for n, first in asked.items() if first[:2] > _said(platform)},
                missing=missing,
                unsure=unsure,
                outside=outside,
            ),
        )


def _since(platform: MuslPlatform) -> Mapping[str, MuslVersion]:
    return musl_since(platform.arch) or {}


def _said(platform: MuslPlatform) -> tuple[int, int]:
    return platform.major, platform.minor


def _by_patch(file: ElfFile, platform: MuslPlatform) -> dict[str, Version]:
    """The strong symbols that came with a later release of the version that the tag says."""
    since = _since(platform)
    strong = sorted(file.undefined & since.keys() - file.weak)
    said = _said(platform)
    return {n: since[n] for n in strong if since[n][:2] == said and since[n][2] > 0}


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


def _is_open(platform: MuslPlatform, outside: tuple[str, ...], name: str) -> bool:
    """Whether a symbol may come from what no list tells of."""
    if name in _BY_LINKER or musl_since(platform.arch) is None:
        return True
    return any(path not in _NAMED or _NAMED[path].fullmatch(name) for path in outside)


def _findings(file: ElfFile, asked: Asked, tag: Tag, platform: MuslPlatform) -> Iterator[Finding]:
    claimed: dict[str, JSON] = {"claimed": str(platform)}
    if strong := asked.newer_that_are(weak=False):
        yield _WORDS.newer(
            asked,
            strong,
            claimed,
            severity="error",
            but=f", later than `{platform}` says",
            hint="build on an older system, or let the tag say the musl that is needed",
        )
    if asked.newer_that_are(weak=True):
        yield _WORDS.weak(asked, claimed)
    if patch := _by_patch(file, platform):
        yield _WORDS.newer(
            asked,
            patch,
            claimed,
            severity="warning",
            but=", which no tag can say",
            hint="build on the oldest musl that is to run the wheel",
        )
    if asked.missing:
        yield _WORDS.missing(asked, tag, {"needed": first_names(file.needed)})
    if asked.unsure:
        yield _WORDS.unsure(asked)


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
