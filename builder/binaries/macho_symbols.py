"""Symbols of one Mach-O slice: what dyld finds in it, and what it asks of others.

Exports come from the export trie where there is one, since that is where dyld looks; else from the
symbol table (<mach-o/nlist.h>). Library ordinals are not read: some linkers write wrong ones.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region

# n_type of an nlist entry: N_STAB 0xe0, N_PEXT 0x10, N_TYPE 0x0e, N_EXT 0x01.
_UNDEFINED: Final = (0x01, 0x0D)  # N_UNDF and N_PBUD, external
_DEFINED: Final = (0x03, 0x0B, 0x0F)  # N_ABS, N_INDR and N_SECT, external and not private
_WEAK_REF: Final = 0x40  # n_desc: N_WEAK_REF


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

    An export without one is out of reach of C and of dlsym, so it is left out. `weak` are the
    undefined ones that may be missing.
    """

    exports: frozenset[str]
    undefined: frozenset[str]
    weak: frozenset[str]


def read_symbols(whole: Region, tables: SymbolTables) -> Symbols:
    """The exported and the undefined symbols of the slice `whole`. Raises BinaryError."""
    defined, strong, weak = _read_symtab(whole, tables)
    if tables.trie is not None:
        defined = _read_trie(whole.part(*tables.trie, "the export trie"))
    # The modules of a wheel ask for much the same; interned, each name is in memory once.
    return Symbols(
        exports=frozenset(sys.intern(name[1:]) for name in defined if name.startswith("_")),
        undefined=frozenset(sys.intern(name.removeprefix("_")) for name in (*strong, *weak)),
        weak=frozenset(sys.intern(name.removeprefix("_")) for name in weak),
    )


def _read_symtab(whole: Region, tables: SymbolTables) -> tuple[list[str], list[str], list[str]]:
    """Names of the defined external symbols, of the undefined ones, and of those that are weak.

    With a trie the defined ones are not wanted. In an object file an undefined symbol with a value
    is a common one, which the file itself brings; the value is its size.
    """
    if tables.symtab is None:
        return [], [], []
    offset, count, names_offset, names_size = tables.symtab
    stride = 16 if tables.bits == 64 else 12
    entries = whole.part(offset, count * stride, "the symbol table")
    names = whole.part(names_offset, names_size, "the string table")
    what = "the name of a symbol"
    asked = list(_entries(entries, stride, _UNDEFINED))
    defined = [name for name, _, value in asked if value and tables.relocatable]
    missing = [(name, desc) for name, desc, value in asked if not (value and tables.relocatable)]
    strong = [name for name, desc in missing if not desc & _WEAK_REF]
    weak = [name for name, desc in missing if desc & _WEAK_REF]
    if tables.trie is None:
        defined += [name for name, _, _ in _entries(entries, stride, _DEFINED)]
    return names.texts(defined, what), names.texts(strong, what), names.texts(weak, what)


def _entries(table: Region, stride: int, kinds: tuple[int, ...]) -> Iterator[tuple[int, int, int]]:
    """Where the name is, n_desc, and the value, of each named entry of these kinds.

    Local symbols can be a hundred times as many, so the kinds are searched as one byte string.
    """
    types = bytes(table.view[4::stride])
    layout = "IBBHQ" if stride == 16 else "IBBHI"
    for match in re.finditer(b"[" + re.escape(bytes(kinds)) + b"]", types):
        name, _, _, desc, value = table.unpack(layout, match.start() * stride, "a symbol")
        if name:
            yield name, desc, value


def _read_trie(trie: Region) -> list[str]:
    """The names in an export trie, each node of which must be reached once.

    Raises BinaryError for a cycle, for a node that has two parents, and for what leaves the trie.
    """
    try:
        names = _walk(trie, bytes(trie.view)) if trie.size else []
    except (IndexError, ValueError):
        raise trie.error("the export trie leads out of its bytes", 0) from None
    return b"\0".join(names).decode("utf-8", "backslashreplace").split("\0") if names else []


def _walk(trie: Region, data: bytes) -> list[bytes]:
    """The name at each node that exports one. Raises IndexError or ValueError outside of `data`.

    A third of the time for a library with many exports is spent here, so it calls little.
    """
    names, seen, todo = [], {0}, [(0, b"")]
    while todo:
        node, prefix = todo.pop()
        size, at = (data[node], node + 1) if data[node] < 0x80 else _uleb(data, node)
        if size and prefix:
            names.append(prefix)
        count, at = data[at + size], at + size + 1
        cost, longer = 0, []
        for _ in range(count):
            end = data.index(0, at)
            child, after = _uleb(data, end + 1)
            longer.append((child, at, end))
            cost += STEP + len(prefix) + end - at
            at = after
        trie.spend(cost, node)
        _check_new(trie, seen, [child for child, _, _ in longer])
        todo += [(child, prefix + data[at:end]) for child, at, end in longer]
    return names


def _check_new(trie: Region, seen: set[int], nodes: list[int]) -> None:
    """Add `nodes` to those that were reached; each is reached once."""
    before = len(seen)
    seen.update(nodes)
    if len(seen) != before + len(nodes):
        raise trie.error("a node of the export trie is reached twice", nodes[0])


def _uleb(data: bytes, offset: int) -> tuple[int, int]:
    """A ULEB128 number (DWARF 5, section 7.6) of at most 64 bits, and the offset after it.

    Raises IndexError outside of `data`, ValueError for a longer one.
    """
    if data[offset] < 0x80:
        return data[offset], offset + 1
    value = 0
    for shift in range(0, 70, 7):
        byte = data[offset]
        offset += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, offset
    raise ValueError("a ULEB128 number that does not end")
