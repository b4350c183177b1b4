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

from builder.binaries.cursor import Region
from builder.errors import BinaryError

FAT_MAGIC: Final = 0xCAFEBABE
FAT_MAGIC_64: Final = 0xCAFEBABF
MOST_SLICES: Final = 42
"""A Java class file starts like a fat file; its version, 45 and up, stands where the count is."""

_CAPABILITIES: Final = 0xFF000000
_LARGEST_ALIGN: Final = 15  # 2^15, MAXSECTALIGN of cctools


@dataclass(frozen=True, slots=True, kw_only=True)
class FatEntry:
    """One row of a fat file's table; `offset` and `size` in bytes, `align` a power of two.

    `cpu_subtype` is without its capability bits.
    """

    cpu_type: int
    cpu_subtype: int
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
    _check_distinct(entries)
    return entries


def without_capabilities(cpu_subtype: int) -> int:
    """A CPU subtype without the bits that say what the program asks of the loader."""
    return cpu_subtype & ~_CAPABILITIES


def _entry(row: tuple[int, ...]) -> FatEntry:
    cpu_type, subtype, offset, size, align = row[:5]
    return FatEntry(
        cpu_type=cpu_type,
        cpu_subtype=without_capabilities(subtype),
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


def _check_distinct(entries: Sequence[FatEntry]) -> None:
    seen: set[tuple[int, int]] = set()
    for entry in entries:
        cpu = (entry.cpu_type, entry.cpu_subtype)
        if cpu in seen:
            raise BinaryError("two fat slices of the same architecture", offset=entry.offset)
        seen.add(cpu)
