"""Mach-O files, thin and fat, read slice by slice from their load commands.

The layout is that of Apple's <mach-o/loader.h>. Nothing is believed that dyld would not believe:
load commands fill their table exactly, segments and link-edit data lie inside the slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region, region_of
from builder.binaries.fat import FatEntry, read_fat_table
from builder.binaries.image import (
    CodeSignature,
    Dependency,
    DependencyKind,
    MachFile,
    MachSlice,
)
from builder.binaries.macho_header import (
    CPU_X86,
    MH_OBJECT,
    MachHeader,
    arch_name,
    read_header,
)
from builder.binaries.macho_symbols import SymbolTables, read_symbols
from builder.binaries.signature import read_signature

FAT_MAGICS: Final = frozenset({b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"})

_ARCHIVE_MAGIC: Final = b"!<arch>\n"
_FILETYPES: Final = {
    1: "MH_OBJECT",
    2: "MH_EXECUTE",
    3: "MH_FVMLIB",
    4: "MH_CORE",
    5: "MH_PRELOAD",
    6: "MH_DYLIB",
    7: "MH_DYLINKER",
    8: "MH_BUNDLE",
    9: "MH_DYLIB_STUB",
    10: "MH_DSYM",
    11: "MH_KEXT_BUNDLE",
    12: "MH_FILESET",
}
_PLATFORMS: Final = {
    1: "macos",
    2: "ios",
    3: "tvos",
    4: "watchos",
    5: "bridgeos",
    6: "maccatalyst",
    7: "iossimulator",
    8: "tvossimulator",
    9: "watchossimulator",
    10: "driverkit",
    11: "visionos",
    12: "visionossimulator",
}
_LC_REQ_DYLD: Final = 0x80000000
_LC_SYMTAB: Final = 0x2
_LC_ID_DYLIB: Final = 0xD
_LC_RPATH: Final = 0x1C
_LC_CODE_SIGNATURE: Final = 0x1D
_LC_DYLD_INFO: Final = 0x22
_LC_BUILD_VERSION: Final = 0x32
_LC_DYLD_EXPORTS_TRIE: Final = 0x33
_SEGMENTS: Final = {0x1: 32, 0x19: 64}
_VERSION_MIN: Final = {0x24: "macos", 0x25: "ios", 0x2F: "tvos", 0x30: "watchos"}
_DYLIBS: Final[dict[int, DependencyKind]] = {
    0xC: "load",
    0x18: "weak",
    0x1F: "reexport",
    0x20: "lazy",
    0x23: "upward",
}
# Commands that only name a run of link-edit data: code signature, split info, function starts,
# data in code, requirements, optimisation hints, export trie, chained fixups, atom info, function
# variants and their fixups.
_LINKEDIT_DATA: Final = frozenset(
    {0x1D, 0x1E, 0x26, 0x29, 0x2B, 0x2E, 0x33, 0x34, 0x36, 0x37, 0x38}
)
_ONLY_ONCE: Final = frozenset({0x2, 0xB, 0xD, 0x1D, 0x22, 0x33, 0x34})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """One load command; `body` is all of it, with the eight bytes of its head."""

    kind: int
    body: Region


def read_macho(data: bytes | memoryview) -> MachFile | None:
    """What a Mach-O file holds, or None for a fat archive (a static library, which nothing loads).

    `data` starts with one of the Mach-O magics. Raises BinaryError.
    """
    file = region_of(data, ">")
    if bytes(file.view[:4]) not in FAT_MAGICS:
        return MachFile(fat=False, slices=(_read_slice(file, None),))
    entries = read_fat_table(file)
    if all(_is_archive(file, entry) for entry in entries):
        return None
    return MachFile(fat=True, slices=tuple(_read_entry(file, entry) for entry in entries))


def _is_archive(file: Region, entry: FatEntry) -> bool:
    return bytes(file.view[entry.offset : entry.offset + 8]) == _ARCHIVE_MAGIC


def _read_entry(file: Region, entry: FatEntry) -> MachSlice:
    return _read_slice(file.part(entry.offset, entry.size, "a fat slice"), entry)


def _read_slice(raw: Region, entry: FatEntry | None) -> MachSlice:
    header = read_header(raw)
    if entry is not None:
        _check_entry(raw, header, entry)
    whole = raw.ordered(header.order).accounted()
    commands = tuple(_read_commands(whole, header))
    _check_once(whole, commands)
    _check_data_inside(whole, commands)
    platform, minimum_os = _read_minimum_os(commands, header)
    symbols = read_symbols(whole, _symbol_tables(header, commands))
    signature = _read_signature(whole, commands)
    return MachSlice(
        arch=header.arch,
        offset=whole.base,
        size=whole.size,
        filetype=_FILETYPES.get(header.filetype, f"MH_{header.filetype}"),
        platform=platform,
        minimum_os=minimum_os,
        install_name=_install_name(commands),
        dependencies=tuple(_dependencies(commands)),
        rpaths=tuple(_string(c, "LC_RPATH", 12) for c in commands if c.kind == _LC_RPATH),
        exports=symbols.exports,
        undefined=symbols.undefined,
        weak=symbols.weak,
        signed=signature is not None,
        signature=signature,
    )


def _check_entry(raw: Region, header: MachHeader, entry: FatEntry) -> None:
    if header.cpu != entry.cpu:
        claimed = arch_name(entry.cpu)
        raise raw.error(f"the fat table says {claimed}, the slice says {header.arch}", 4)


def _read_commands(whole: Region, header: MachHeader) -> Iterator[_Command]:
    """The load commands, which must fill their table to its last byte."""
    table = whole.part(header.size, header.commands_size, "the table of load commands")
    alignment, offset = header.bits // 8, 0
    for _ in range(header.commands):
        kind, size = table.unpack("II", offset, "a load command")
        if size < 8 or size % alignment:
            raise table.error(f"a load command of {size} bytes", offset)
        table.spend(STEP, offset)
        yield _Command(kind=kind & ~_LC_REQ_DYLD, body=table.part(offset, size, "a load command"))
        offset += size
    if offset != table.size:
        raise table.error("the load commands do not fill their table", offset)


def _check_once(whole: Region, commands: tuple[_Command, ...]) -> None:
    single = [command.kind for command in commands if command.kind in _ONLY_ONCE]
    if len(single) != len(set(single)):
        raise whole.error("a load command that may stand once stands twice", 0)


def _check_data_inside(whole: Region, commands: tuple[_Command, ...]) -> None:
    """Refuse a slice that is shorter than its load commands say: it was truncated."""
    for command in commands:
        if command.kind in _SEGMENTS:
            _check_segment(whole, command.body, _SEGMENTS[command.kind])
        elif command.kind in _LINKEDIT_DATA:
            offset, size = command.body.unpack("II", 8, "a link-edit command")
            whole.need(offset, size, "link-edit data")
        elif command.kind == _LC_DYLD_INFO:
            fields = command.body.unpack("10I", 8, "LC_DYLD_INFO")
            for offset, size in zip(fields[::2], fields[1::2], strict=True):
                whole.need(offset, size, "dyld info")


def _check_segment(whole: Region, body: Region, bits: int) -> None:
    layout, section_size = ("4Q4I", 80) if bits == 64 else ("8I", 68)
    fields = body.unpack(layout, 24, "a segment command")
    offset, size, sections = fields[2], fields[3], fields[6]
    whole.need(offset, size, "a segment")
    head = 72 if bits == 64 else 56
    body.need(head, sections * section_size, "the section table of a segment")


def _read_minimum_os(
    commands: tuple[_Command, ...], header: MachHeader
) -> tuple[str | None, tuple[int, int, int] | None]:
    """Platform and minimum OS: from LC_BUILD_VERSION, else from LC_VERSION_MIN_*."""
    found = dict(_build_versions(commands)) or dict(_version_minimums(commands, header))
    if not found:
        return None, None
    # A zippered library names macOS and Mac Catalyst; the first is what Python runs on.
    platform = "macos" if "macos" in found else next(iter(found))
    return platform, found[platform]


def _build_versions(
    commands: tuple[_Command, ...],
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    seen: dict[str, int] = {}
    for command in commands:
        if command.kind == _LC_BUILD_VERSION:
            number, minimum = command.body.unpack("II", 8, "LC_BUILD_VERSION")
            platform = _PLATFORMS.get(number, f"platform-{number}")
            if seen.setdefault(platform, minimum) != minimum:
                raise command.body.error(f"two minimum versions of {platform}", 0)
            yield platform, _version(minimum)


def _version_minimums(
    commands: tuple[_Command, ...], header: MachHeader
) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for command in commands:
        if command.kind in _VERSION_MIN:
            (minimum,) = command.body.unpack("I", 8, "LC_VERSION_MIN")
            yield _device_or_simulator(_VERSION_MIN[command.kind], header), _version(minimum)


def _device_or_simulator(platform: str, header: MachHeader) -> str:
    """LC_VERSION_MIN_* says the same for both; only a simulator runs on an Intel CPU."""
    intel = header.cpu_family == CPU_X86
    return f"{platform}simulator" if intel and platform != "macos" else platform


def _version(packed: int) -> tuple[int, int, int]:
    """A version that is packed as XXXX.YY.ZZ in four bytes."""
    return packed >> 16, packed >> 8 & 0xFF, packed & 0xFF


def _install_name(commands: tuple[_Command, ...]) -> str | None:
    names = (_string(c, "LC_ID_DYLIB", 24) for c in commands if c.kind == _LC_ID_DYLIB)
    return next(names, None)


def _dependencies(commands: tuple[_Command, ...]) -> Iterator[Dependency]:
    for command in commands:
        if command.kind in _DYLIBS:
            name = _string(command, "the name of a needed library", 24)
            yield Dependency(name=name, kind=_DYLIBS[command.kind])


def _string(command: _Command, what: str, after: int) -> str:
    """The string of a command, at the offset in its third word, behind its fixed fields."""
    (offset,) = command.body.unpack("I", 8, what)
    if offset < after:
        raise command.body.error(f"{what} lies over the fields of its command", 8)
    return command.body.text(offset, what)


def _read_signature(whole: Region, commands: tuple[_Command, ...]) -> CodeSignature | None:
    """The signature that LC_CODE_SIGNATURE names; None for an empty place."""
    for command in commands:
        if command.kind == _LC_CODE_SIGNATURE:
            offset, size = command.body.unpack("II", 8, "LC_CODE_SIGNATURE")
            return read_signature(whole, offset, size) if size else None
    return None


def _symbol_tables(header: MachHeader, commands: tuple[_Command, ...]) -> SymbolTables:
    by_kind = {command.kind: command.body for command in commands}
    symtab = by_kind.get(_LC_SYMTAB)
    return SymbolTables(
        bits=header.bits,
        relocatable=header.filetype == MH_OBJECT,
        symtab=symtab.unpack("4I", 8, "LC_SYMTAB") if symtab else None,
        trie=_trie_place(by_kind),
    )


def _trie_place(by_kind: dict[int, Region]) -> tuple[int, int] | None:
    """Offset and size of the export trie, if a load command names one.

    As dyld has it, a trie is there when its offset is not zero; an empty one exports nothing.
    """
    places = [
        by_kind[kind].unpack("II", at, "the place of the export trie")
        for kind, at in ((_LC_DYLD_EXPORTS_TRIE, 8), (_LC_DYLD_INFO, 40))
        if kind in by_kind
    ]
    found = [(offset, size) for offset, size in places if offset]
    if len(found) > 1:
        raise by_kind[_LC_DYLD_INFO].error("two export tries", 40)
    return found[0] if found else None
