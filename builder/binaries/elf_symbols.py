"""Symbols of an ELF file: what it offers and what it asks for (gABI chapter 4, Symbol Table)."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region
from builder.binaries.elf_dynamic import Dynamic
from builder.binaries.elf_layout import SHT_DYNSYM, SHT_SYMTAB, Layout, Section

# st_info holds binding and type. Not STB_LOCAL (0), and neither STT_SECTION (3) nor STT_FILE (4).
_GLOBAL: Final = frozenset(info for info in range(16, 256) if info & 0xF not in {3, 4})
_STB_WEAK: Final = 2
_HIDDEN: Final = frozenset({1, 2})  # STV_INTERNAL, STV_HIDDEN
# The two ABIs whose DT_HASH is made of 64-bit words.
_WIDE_HASH: Final = frozenset({22, 0x9026})  # EM_S390, EM_ALPHA


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """Names of the symbols that others can bind to, and of those that others must bring.

    `weak` are those of the latter that nobody need bring.
    """

    exports: frozenset[str] = frozenset()
    undefined: frozenset[str] = frozenset()
    weak: frozenset[str] = frozenset()


def read_dynamic_symbols(
    layout: Layout, sections: tuple[Section, ...], dynamic: Dynamic
) -> Symbols:
    """The symbols that the dynamic loader sees. Raises BinaryError."""
    if dynamic.symbols is None or dynamic.names is None:
        return Symbols()
    count = _count(layout, sections, dynamic)
    return _read_table(layout, dynamic.symbols, count, dynamic.names)


def read_object_symbols(layout: Layout, sections: tuple[Section, ...]) -> Symbols:
    """The symbols of an object file, from its SHT_SYMTAB. Raises BinaryError."""
    for section in sections:
        if section.kind == SHT_SYMTAB:
            if section.link >= len(sections):
                raise layout.file.error("a symbol table without names", section.offset)
            texts = sections[section.link]
            names = layout.file.part(texts.offset, texts.size, "the string table")
            table = layout.file.part(section.offset, section.size, "the symbol table")
            return _read_table(layout, table, section.size // _entry_size(layout), names)
    return Symbols()


def _entry_size(layout: Layout) -> int:
    return 24 if layout.bits == 64 else 16


def _count(layout: Layout, sections: tuple[Section, ...], dynamic: Dynamic) -> int:
    """How many dynamic symbols there are, which nothing in the dynamic segment says outright.

    Some linkers leave undefined symbols out of a DT_GNU_HASH that is otherwise empty, so it is
    asked last: after DT_HASH, and beside the section headers or, without those, relocations.
    """
    if (by_hash := _count_by_hash(layout, dynamic.hash_table)) is not None:
        return by_hash
    by_gnu_hash = _count_by_gnu_hash(layout, dynamic.gnu_hash_table)
    by_section = _count_by_section(layout, sections, dynamic.symbols_address)
    if by_section is None:
        return max(by_gnu_hash, _count_by_relocations(layout, dynamic))
    return max(by_gnu_hash, by_section)


def _count_by_hash(layout: Layout, table: Region | None) -> int | None:
    """DT_HASH has one chain link for each symbol."""
    if table is None:
        return None
    _, chains = table.unpack(_hash_words(layout, table), 0, "DT_HASH")
    return int(chains)


def _hash_words(layout: Layout, table: Region) -> str:
    """The layout of the two counts in DT_HASH.

    lld writes 32-bit words where the ABI wants 64-bit ones. Read as 64-bit, such a table has more
    buckets than bytes.
    """
    wide = layout.bits == 64 and layout.machine in _WIDE_HASH
    return "QQ" if wide and table.unpack("Q", 0, "DT_HASH")[0] <= table.size else "II"


def _count_by_gnu_hash(layout: Layout, table: Region | None) -> int:
    """DT_GNU_HASH hashes the last symbols of the table; the highest chain ends with the last."""
    if table is None:
        return 0
    buckets, first, bloom, _ = table.unpack("4I", 0, "DT_GNU_HASH")
    buckets_at = 16 + bloom * (layout.bits // 8)
    highest = max(
        (row[0] for row in table.rows("I", buckets_at, buckets, "DT_GNU_HASH")), default=0
    )
    if highest < first:
        return int(first)
    chain = buckets_at + 4 * buckets + 4 * (highest - first)
    return int(highest) + _chain_length(table, chain)


def _chain_length(table: Region, offset: int) -> int:
    links = (table.size - offset) // 4
    for length in range(1, links + 1):
        (link,) = table.unpack("I", offset + 4 * (length - 1), "DT_GNU_HASH")
        table.spend(STEP, offset)
        if link & 1:
            return length
    raise table.error("a chain of DT_GNU_HASH has no end", min(offset, table.size))


def _count_by_section(
    layout: Layout, sections: tuple[Section, ...], address: int | None
) -> int | None:
    for section in sections:
        if section.kind == SHT_DYNSYM and section.address == address:
            return section.size // _entry_size(layout)
    return None


def _count_by_relocations(layout: Layout, dynamic: Dynamic) -> int:
    """One more than the highest symbol that a relocation names, in the high part of r_info."""
    shift, highest = (32 if layout.bits == 64 else 8), 0
    for table, size in dynamic.relocations:
        row = f"{layout.word * 2}{size - layout.bits // 4}x"
        infos = (info for _, info in table.rows(row, 0, table.size // size, "relocations"))
        highest = max(highest, max(infos, default=0) >> shift)
    return highest + 1


def _read_table(layout: Layout, table: Region, count: int, names: Region) -> Symbols:
    """Names of the global symbols among the first `count`: those with a section, and those without.

    A hidden symbol is neither; local ones, sections and source files have no part in linking.
    """
    row = "IBBH16x" if layout.bits == 64 else "I8xBBH"
    exports = [
        name
        for name, info, other, section in table.rows(row, 0, count, "symbols")
        if section and name and info in _GLOBAL and other & 3 not in _HIDDEN
    ]
    asked = [
        (name, info >> 4 == _STB_WEAK)
        for name, info, _, section in table.rows(row, 0, count, "symbols")
        if not section and name and info in _GLOBAL
    ]
    what = "the name of a symbol"
    strong = names.texts([name for name, is_weak in asked if not is_weak], what)
    weak = names.texts([name for name, is_weak in asked if is_weak], what)
    # The modules of a wheel ask for much the same; interned, each name is in memory once.
    return Symbols(
        exports=frozenset(map(sys.intern, names.texts(exports, what))),
        undefined=frozenset(map(sys.intern, (*strong, *weak))),
        weak=frozenset(map(sys.intern, weak)),
    )
