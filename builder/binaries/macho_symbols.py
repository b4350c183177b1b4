"""Symbols of one Mach-O slice: what dyld finds in it, and what it asks of others.

Exports come from the export trie where there is one, since that is where dyld looks; else from the
symbol table (<mach-o/nlist.h>). Library ordinals are not read: some linkers write wrong ones.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region

# n_type of an nlist entry: N_STAB 0xe0, N_PEXT 0x10, N_TYPE 0x0e, N_EXT 0x01.
_UNDEFINED: Final = (0x01, 0x0D)  # N_UNDF and N_PBUD, external
_DEFINED: Final = (0x03, 0x0B, 0x0F)  # N_ABS, N_INDR and N_SECT, external and not private


@dataclass(frozen=True, slots=True, kw_only=True)
class SymbolTables:
    """Where a slice keeps its symbols, in bytes from its start.

    `symtab` is (offset of the entries, their count, offset of the names, size of the names);
    `trie` is (offset, size). `relocatable` is true of an object file (MH_OBJECT).
    """

    bits: int
    relocatable: bool
    symtab: tuple[int, ...] | None
    trie: tuple[int, int] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbols:
    """Names as C sees them, without the leading underscore.

    An export without one is out of reach of C and of dlsym, so it is left out.
    """

    exports: frozenset[str]
    undefined: frozenset[str]


def read_symbols(whole: Region, tables: SymbolTables) -> Symbols:
    """The exported and the undefined symbols of the slice `whole`. Raises BinaryError."""
    defined, undefined = _read_symtab(whole, tables)
    if tables.trie is not None:
        defined = frozenset(_read_trie(whole.part(*tables.trie, "the export trie")))
    return Symbols(
        exports=frozenset(name[1:] for name in defined if name.startswith("_")),
        undefined=frozenset(name.removeprefix("_") for name in undefined),
    )


def _read_symtab(whole: Region, tables: SymbolTables) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the defined and of the undefined external symbols.

    With a trie the defined ones are not wanted. In an object file an undefined symbol with a value
    is a common one, which the file itself brings; the value is its size.
    """
    if tables.symtab is None:
        return frozenset(), frozenset()
    offset, count, names_offset, names_size = tables.symtab
    stride = 16 if tables.bits == 64 else 12
    entries = whole.part(offset, count * stride, "the symbol table")
    names = whole.part(names_offset, names_size, "the string table")
    commons: set[str] = set()
    undefined: set[str] = set()
    for name, value in _entries(entries, stride, _UNDEFINED):
        kind = commons if value and tables.relocatable else undefined
        kind.add(names.text(name, "the name of a symbol"))
    defined = () if tables.trie is not None else _entries(entries, stride, _DEFINED)
    found = {names.text(name, "the name of a symbol") for name, _ in defined}
    return frozenset(found | commons), frozenset(undefined)


def _entries(table: Region, stride: int, kinds: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Where the name is, and the value, of each named entry of these kinds.

    Local symbols can be a hundred times as many, so the kinds are searched as one byte string.
    """
    types = bytes(table.view[4::stride])
    layout = "IBBHQ" if stride == 16 else "IBBHI"
    for match in re.finditer(b"[" + re.escape(bytes(kinds)) + b"]", types):
        name, _, _, _, value = table.unpack(layout, match.start() * stride, "a symbol")
        if name:
            yield name, value


def _read_trie(trie: Region) -> Iterator[str]:
    """The names in an export trie, each node of which must be reached once.

    Raises BinaryError for a cycle, for a node that has two parents, and for what leaves the trie.
    """
    if not trie.size:
        return
    seen = {0}
    todo = [(0, b"")]
    while todo:
        node, prefix = todo.pop()
        size, start = trie.uleb(node, "a node of the export trie")
        if size and prefix:
            yield prefix.decode("utf-8", "backslashreplace")
        for edge, child in _children(trie, start + size):
            if child in seen:
                raise trie.error("a node of the export trie is reached twice", child)
            seen.add(child)
            trie.spend(STEP + len(prefix) + len(edge), node)
            todo.append((child, prefix + edge))


def _children(trie: Region, offset: int) -> Iterator[tuple[bytes, int]]:
    (count,) = trie.unpack("B", offset, "a node of the export trie")
    offset += 1
    for _ in range(count):
        edge = trie.raw_text(offset, "an edge of the export trie")
        child, offset = trie.uleb(offset + len(edge) + 1, "an edge of the export trie")
        yield edge, child
