"""Fat (universal) Mach-O files: their table of slices, read and written.

The layout is that of Apple's <mach-o/fat.h>: a big-endian header, then one entry for each slice,
with 32-bit or 64-bit offsets.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import Region, region_of
from builder.binaries.macho_header import (
    ABI64,
    CPU_ARM,
    MachHeader,
    arch_name,
    read_header,
    without_capabilities,
)
from builder.errors import BinaryError

FAT_MAGIC: Final = 0xCAFEBABE
FAT_MAGIC_64: Final = 0xCAFEBABF
MOST_SLICES: Final = 42
"""A Java class file starts like a fat file; its version, 45 and up, stands where the count is."""

_LARGEST_ALIGN: Final = 15  # 2^15, MAXSECTALIGN of cctools
_PAGE: Final = 12  # 2^12 bytes, and on ARM
_ARM_PAGE: Final = 14
_BEYOND_32_BITS: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class FatEntry:
    """One row of a fat file's table; `offset` and `size` in bytes, `align` a power of two.

    `cpu` is CPU type and subtype, without capability bits.
    """

    cpu: tuple[int, int]
    offset: int
    size: int
    align: int


def read_fat_table(file: Region) -> tuple[FatEntry, ...]:
    """The entries of a fat file, each inside the file, apart from the others, one for each CPU.

    Raises BinaryError.
    """
    magic, count = file.unpack("II", 0, "the fat header")
    if not 0 < count <= MOST_SLICES:
        raise file.error(f"a fat file with {count} slices", 4)
    layout = "IIQQII" if magic == FAT_MAGIC_64 else "IIIII"
    rows = file.rows(layout, 8, count, "the fat table")
    entries = tuple(_entry(row) for row in rows)
    table_end = 8 + count * struct.calcsize(">" + layout)
    for entry in entries:
        _check_place(file, entry, table_end)
    _check_apart(entries)
    _check_distinct([entry.cpu for entry in entries])
    return entries


def merge_slices(thin_files: Sequence[bytes]) -> bytes:
    """One fat file of the given thin ones, the same bytes as lipo's, in whatever order they come.

    Raises BinaryError when one is no thin Mach-O file, when two are of one architecture, when there
    are none or more than 42, and beyond the 4 GiB that 32-bit offsets reach.
    """
    if not 0 < len(thin_files) <= MOST_SLICES:
        raise BinaryError(f"a fat file of {len(thin_files)} slices")
    thin = sorted(((_header_of(data), data) for data in thin_files), key=lambda one: _rank(one[0]))
    _check_distinct([header.cpu for header, _ in thin])
    offsets = _lay_out(thin)
    whole = bytearray(struct.pack(">II", FAT_MAGIC, len(thin)))
    for (header, data), offset in zip(thin, offsets, strict=True):
        cpu = (header.cpu_type, header.cpu_subtype)
        whole += struct.pack(">5I", *cpu, offset, len(data), _page_of(header))
    for (_, data), offset in zip(thin, offsets, strict=True):
        whole += bytes(offset - len(whole)) + data
    return bytes(whole)


def _header_of(data: bytes) -> MachHeader:
    return read_header(region_of(data, ">"))


def _rank(header: MachHeader) -> tuple[bool, int, int, int]:
    """lipo's order: 64-bit ARM last, else by alignment; then by CPU type and subtype."""
    is_arm64 = header.cpu_type == CPU_ARM | ABI64
    return is_arm64, _page_of(header), *header.cpu


def _page_of(header: MachHeader) -> int:
    return _ARM_PAGE if header.cpu_family == CPU_ARM else _PAGE


def _lay_out(thin: Sequence[tuple[MachHeader, bytes]]) -> list[int]:
    """Where each slice starts: behind the one before it, at a page of its architecture."""
    offsets, end = [], 8 + 20 * len(thin)
    for header, data in thin:
        page = 1 << _page_of(header)
        start = -(-end // page) * page
        offsets.append(start)
        end = start + len(data)
    if end >= _BEYOND_32_BITS:
        raise BinaryError("a fat file of 4 GiB or more")
    return offsets


def _entry(row: tuple[int, ...]) -> FatEntry:
    cpu_type, subtype, offset, size, align = row[:5]
    return FatEntry(
        cpu=(cpu_type, without_capabilities(subtype)),
        offset=offset,
        size=size,
        align=align,
    )


def _check_place(file: Region, entry: FatEntry, table_end: int) -> None:
    if entry.offset < table_end:
        raise file.error("a fat slice lies over the fat table", entry.offset)
    if entry.align > _LARGEST_ALIGN or entry.offset % (1 << entry.align):
        raise file.error("a fat slice is not aligned as its entry says", entry.offset)
    file.need(entry.offset, entry.size, "a fat slice")


def _check_apart(entries: Sequence[FatEntry]) -> None:
    ordered = sorted(entries, key=lambda entry: entry.offset)
    for before, after in itertools.pairwise(ordered):
        if before.offset + before.size > after.offset:
            raise BinaryError("two fat slices overlap", offset=after.offset)


def _check_distinct(cpus: Sequence[tuple[int, int]]) -> None:
    twice = [cpu for cpu in cpus if cpus.count(cpu) > 1]
    if twice:
        raise BinaryError(f"two fat slices of {arch_name(twice[0])}")
