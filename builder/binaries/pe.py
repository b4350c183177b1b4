"""PE files: DLLs, extension modules (.pyd) and programs for Windows.

The layout is that of Microsoft's "PE Format": a DOS header, the PE header that it points to, data
directories for what is exported and imported. Only what the loader reads is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from builder.binaries.cursor import STEP, Region, region_of
from builder.binaries.image import PeFile
from builder.binaries.pe_layout import Layout, read_layout

DOS_MAGIC: Final = b"MZ"

_DOS_HEADER: Final = 64
_ARCHES: Final = {
    0x014C: "x86",
    0x01C0: "arm",
    0x01C4: "arm",
    0x8664: "amd64",
    0xAA64: "arm64",
}
_OLDER: Final = frozenset({b"NE", b"LE", b"LX"})  # 16-bit Windows, OS/2: nothing loads them
_IS_DLL: Final = 0x2000
_EXPORTS: Final = 0
_IMPORTS: Final = 1
_LOAD_CONFIG: Final = 10
_DELAYED: Final = 13
_CLR: Final = 14
_HYBRID_AT: Final = 200  # CHPEMetadataPointer of IMAGE_LOAD_CONFIG_DIRECTORY64
_MOST_ROWS: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    """One imported DLL and the table of what is asked of it."""

    name: str
    table: int


def read_pe(data: bytes | memoryview) -> PeFile | None:
    """What a PE file holds, or None when `data`, which starts with ``MZ``, is no PE file.

    Two letters say little: text, 16-bit programs and other data may start with them. Raises
    BinaryError for a file that a linker began as PE and that breaks the format.
    """
    file = region_of(data, "<")
    offset = _pe_offset(file)
    if offset is None:
        return None
    layout = read_layout(file, offset)
    plain = tuple(_read_imports(layout))
    delayed = tuple(_read_delayed(layout))
    return PeFile(
        arch=_arch(layout),
        machine=layout.machine,
        bits=layout.bits,
        filetype=_filetype(layout),
        dependencies=tuple(one.name for one in plain),
        delayed=tuple(one.name for one in delayed),
        exports=frozenset(_read_exports(layout)),
        undefined=frozenset(_symbols(layout, (*plain, *delayed))),
        managed=layout.directory(_CLR)[1] > 0,
    )


def _pe_offset(file: Region) -> int | None:
    """Where the PE header is; None in a file that never had one."""
    if file.size >= _DOS_HEADER:
        (offset,) = file.unpack("I", 60, "the DOS header")
        signature = bytes(file.view[offset : offset + 4])
        if signature == b"PE\0\0":
            return int(offset)
        if signature[:2] in _OLDER:
            return None
    if _looks_begun(file):
        raise file.error("the PE header is missing: the file was cut off", 60)
    return None


def _looks_begun(file: Region) -> bool:
    """Whether the bytes before the PE header are what linkers write: a DOS header of 64 bytes."""
    head = bytes(file.view[:_DOS_HEADER])
    if len(head) < 26:
        return not head[2:8].isascii() or b"\0" in head[2:8]
    return head[8:10] == b"\4\0" and head[24:26] == b"\x40\0"


def _filetype(layout: Layout) -> Literal["DLL", "EXE"]:
    return "DLL" if layout.characteristics & _IS_DLL else "EXE"


def _arch(layout: Layout) -> str:
    name = _ARCHES.get(layout.machine, f"machine-{layout.machine:#06x}")
    return "arm64ec" if name == "amd64" and _is_hybrid(layout) else name


def _is_hybrid(layout: Layout) -> bool:
    """Whether an amd64 file holds ARM code (ARM64EC): its load configuration points to a map."""
    address, size = layout.directory(_LOAD_CONFIG)
    if layout.bits == 32 or not address or not size:
        return False
    table = layout.mapped(address, "the load configuration")
    (used,) = table.unpack("I", 0, "the load configuration")
    return used >= _HYBRID_AT + 8 and any(table.unpack("Q", _HYBRID_AT, "its hybrid map"))


def _read_exports(layout: Layout) -> Iterator[str]:
    """The names of the export table that lead to something."""
    address, size = layout.directory(_EXPORTS)
    if not address or not size:
        return
    table = layout.mapped(address, "the export table")
    _, functions, count, functions_at, names_at, ordinals_at = table.unpack(
        "IIIIII", 16, "the export table"
    )
    if not count:
        return
    places = [row[0] for row in _array(layout, "I", functions_at, functions, "exported functions")]
    names = [row[0] for row in _array(layout, "I", names_at, count, "exported names")]
    ordinals = [row[0] for row in _array(layout, "H", ordinals_at, count, "exported ordinals")]
    if max(ordinals) >= functions:
        raise table.error("an exported name leads to no function", 0)
    kept = [name for name, at in zip(names, ordinals, strict=True) if places[at]]
    yield from layout.texts(kept, "an exported name")


def _array(
    layout: Layout, row: str, address: int, count: int, what: str
) -> Iterator[tuple[int, ...]]:
    return layout.mapped(address, what).rows(row, 0, count, what) if count else iter(())


def _read_imports(layout: Layout) -> Iterator[_Import]:
    """The import directory, up to its empty row."""
    address, size = layout.directory(_IMPORTS)
    if not address or not size:
        return
    table = layout.mapped(address, "the import table")
    for row in range(_MOST_ROWS):
        names, _, _, dll, addresses = table.unpack("5I", 20 * row, "the import table")
        if not dll or not addresses:
            return
        table.spend(STEP, 20 * row)
        yield _Import(name=_dll(layout, dll), table=names or addresses)


def _read_delayed(layout: Layout) -> Iterator[_Import]:
    """The delay-load directory; where its lowest flag is not set, addresses are absolute ones."""
    address, size = layout.directory(_DELAYED)
    if not address or not size:
        return
    table = layout.mapped(address, "the delay-load table")
    for row in range(_MOST_ROWS):
        flags, dll, _, _, names = table.unpack("5I", 32 * row, "the delay-load table")
        if not dll:
            return
        table.spend(STEP, 32 * row)
        base = 0 if flags & 1 else layout.image_base
        yield _Import(name=_dll(layout, dll - base), table=names - base)


def _dll(layout: Layout, address: int) -> str:
    what = "the name of an imported DLL"
    return layout.mapped(address, what).text(0, what)


def _symbols(layout: Layout, imports: tuple[_Import, ...]) -> Iterator[str]:
    for one in imports:
        numbered, named = _split(layout, one)
        yield from (f"{one.name}#{number}" for number in numbered)
        yield from layout.texts(named, "the name of an imported symbol")


def _split(layout: Layout, one: _Import) -> tuple[list[int], list[int]]:
    """The symbols that are asked for by number, and where the names of the others are."""
    word, width = ("Q", 8) if layout.bits == 64 else ("I", 4)
    by_number = 1 << (8 * width - 1)
    table = layout.mapped(one.table, "a table of imported symbols")
    numbered, named = list[int](), list[int]()
    for row in range(_MOST_ROWS):
        (entry,) = table.unpack(word, width * row, "a table of imported symbols")
        if not entry:
            break
        table.spend(STEP, width * row)
        if entry & by_number:
            numbered.append(entry & 0xFFFF)
        else:
            named.append((entry & 0x7FFFFFFF) + 2)  # behind the hint
    return numbered, named
