"""What lief says of a member: the independent witness for each lie that the list pins down.

Nothing here uses a reader of our own.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import lief

from tests.corpus.listed import Fact, Field

lief.logging.disable()

_CPUS: Final = {
    (7, 3): "i386",
    (0x01000007, 3): "x86_64",
    (0x01000007, 8): "x86_64h",
    (0x0100000C, 0): "arm64",
    (0x0100000C, 2): "arm64e",
    (18, 0): "ppc",
}


def holds(path: Path, fact: Fact) -> bool:
    """Whether lief, or the archive's own directory, says of the wheel at `path` what `fact` says.

    ``lacks``: no member bears this file name. ``suffix``: the member is there and ends so.
    ``archs``: its slices are these and no others. The other fields: every slice of the fact's
    architecture (of all, when it names none) is this, or holds this among others.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if fact.field == "lacks":
            return all(name.rpartition("/")[2] != fact.value for name in names)
        if fact.field == "suffix":
            return fact.member in names and fact.member.endswith(fact.value)
        data = archive.read(fact.member)
    if fact.field == "archs":
        return " ".join(sorted(said_of(data, lambda _part: []))) == fact.value
    said = said_of(data, _SAYS[fact.field])
    told = [values for arch, values in said.items() if fact.arch in {None, arch}]
    return bool(told) and all(fact.value in values for values in told)


def said_of(data: bytes, say: Callable[[Any], list[str]]) -> dict[str, list[str]]:
    """What `say` makes of lief's view of each slice, by architecture; of an ELF file as one."""
    if lief.is_macho(list(data)):
        fat = lief.MachO.parse(list(data))  # must outlive its slices: they point into it
        assert fat is not None
        return {_cpu(fat.at(place)): say(fat.at(place)) for place in range(fat.size)}
    elf = lief.ELF.parse(list(data))
    assert elf is not None
    return {_word(elf.header.machine_type): say(elf)}


def _cpu(part: Any) -> str:
    return _CPUS[int(part.header.cpu_type.value), part.header.cpu_subtype & 0xFFFFFF]


def _word(value: object) -> str:
    return str(value).rpartition(".")[2].lower()


def _minimum_os(part: Any) -> list[str]:
    if part.has_build_version:
        return [".".join(map(str, part.build_version.minos))]
    return [".".join(map(str, part.version_min.version))] if part.has_version_min else []


def _needs(part: Any) -> list[str]:
    return [str(getattr(library, "name", library)) for library in part.libraries]


def _rpaths(part: Any) -> list[str]:
    return [str(command.path) for command in part.rpaths]


def _newest_versions(part: Any) -> list[str]:
    """The newest version of each family that is asked for: GLIBC_2.34, GLIBCXX_3.4.29 …"""
    newest: dict[str, str] = {}
    for version in _versions(part):
        family = version.partition("_")[0]
        newest[family] = max(newest.get(family, ""), version, key=_numbers)
    return list(newest.values())


def _versions(part: Any) -> Iterator[str]:
    for need in part.symbols_version_requirement:
        yield from (str(version.name) for version in need.get_auxiliary_symbols())


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _undefined(part: Any) -> list[str]:
    if isinstance(part, lief.ELF.Binary):
        return [str(symbol.name) for symbol in part.dynamic_symbols if not symbol.shndx]
    return [str(s.name).removeprefix("_") for s in part.symbols if s.raw_type == 1]


def _executable_stack(part: Any) -> list[str]:
    return ["no" if part.has_nx else "yes"]


_SAYS: Final[Mapping[Field, Callable[[Any], list[str]]]] = {
    "minimum_os": _minimum_os,
    "needs": _needs,
    "rpaths": _rpaths,
    "newest_version": _newest_versions,
    "undefined": _undefined,
    "executable_stack": _executable_stack,
}
