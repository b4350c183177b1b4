"""The dynamic segment of an ELF file: what it needs, and how it asks for it (gABI chapter 5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region
from builder.binaries.elf_layout import PT_DYNAMIC, Layout, Segment, mapped
from builder.errors import BinaryError

_DT_NEEDED: Final = 1
_DT_PLTRELSZ: Final = 2
_DT_HASH: Final = 4
_DT_STRTAB: Final = 5
_DT_SYMTAB: Final = 6
_DT_RELA: Final = 7
_DT_RELASZ: Final = 8
_DT_STRSZ: Final = 10
_DT_SONAME: Final = 14
_DT_RPATH: Final = 15
_DT_REL: Final = 17
_DT_RELSZ: Final = 18
_DT_PLTREL: Final = 20
_DT_JMPREL: Final = 23
_DT_RUNPATH: Final = 29
_DT_GNU_HASH: Final = 0x6FFFFEF5
_DT_VERNEED: Final = 0x6FFFFFFE
_DT_VERNEEDNUM: Final = 0x6FFFFFFF
_VERNEED_SIZE: Final = 16  # of a need, and of each version in it


@dataclass(frozen=True, slots=True, kw_only=True)
class Dynamic:
    """What the dynamic segment says; all empty in a static file.

    `symbols`, `hash_table` and `gnu_hash_table` run to the end of the segment that holds them.
    `relocations` are (table, bytes of one entry) of DT_REL, DT_RELA and DT_JMPREL.
    """

    soname: str | None = None
    needed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    version_needs: Mapping[str, frozenset[str]]
    names: Region | None = None
    symbols: Region | None = None
    symbols_address: int | None = None
    hash_table: Region | None = None
    gnu_hash_table: Region | None = None
    relocations: tuple[tuple[Region, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entries:
    """The tags in their order. Of a tag that stands twice the loader takes the last value."""

    layout: Layout
    segments: tuple[Segment, ...]
    pairs: tuple[tuple[int, int], ...]

    def last(self, tag: int) -> int | None:
        return next((value for key, value in reversed(self.pairs) if key == tag), None)

    def every(self, tag: int) -> Iterator[int]:
        return (value for key, value in self.pairs if key == tag)

    def place(self, tag: int, what: str) -> Region | None:
        address = self.last(tag)
        return None if address is None else mapped(self.layout, self.segments, address, what)


def read_dynamic(layout: Layout, segments: tuple[Segment, ...]) -> Dynamic:
    """The dynamic segment of a file, an empty one when it has none. Raises BinaryError."""
    found = [segment for segment in segments if segment.kind == PT_DYNAMIC]
    if not found:
        return Dynamic(version_needs={})
    if len(found) > 1:
        raise layout.file.error("two dynamic segments", found[1].offset)
    pairs = tuple(_read_pairs(layout, segments, found[0]))
    return _read(_Entries(layout=layout, segments=segments, pairs=pairs))


def _read_pairs(
    layout: Layout, segments: tuple[Segment, ...], segment: Segment
) -> Iterator[tuple[int, int]]:
    """Tags and values up to DT_NULL, from where the loader sees them in memory."""
    place = mapped(layout, segments, segment.address, "the dynamic segment")
    if place.base != segment.offset:
        raise layout.file.error("the dynamic segment is not where its address is", segment.offset)
    row = layout.word * 2
    count = segment.file_size // (layout.bits // 4)
    for tag, value in place.rows(row, 0, count, "the dynamic segment"):
        if tag == 0:
            return
        yield tag, value
    raise layout.file.error("the dynamic segment has no end", segment.offset)


def _read(entries: _Entries) -> Dynamic:
    names = _read_names(entries)
    soname = entries.last(_DT_SONAME)
    return Dynamic(
        soname=None if soname is None else _name(names, soname, "DT_SONAME"),
        needed=tuple(_name(names, at, "DT_NEEDED") for at in entries.every(_DT_NEEDED)),
        rpath=_read_path(entries, names, _DT_RPATH, "DT_RPATH"),
        runpath=_read_path(entries, names, _DT_RUNPATH, "DT_RUNPATH"),
        version_needs=_read_version_needs(entries, names),
        names=names,
        symbols=entries.place(_DT_SYMTAB, "DT_SYMTAB"),
        symbols_address=entries.last(_DT_SYMTAB),
        hash_table=entries.place(_DT_HASH, "DT_HASH"),
        gnu_hash_table=entries.place(_DT_GNU_HASH, "DT_GNU_HASH"),
        relocations=tuple(_read_relocations(entries)),
    )


def _read_relocations(entries: _Entries) -> Iterator[tuple[Region, int]]:
    pointer = entries.layout.bits // 8
    plt_words = 2 if entries.last(_DT_PLTREL) == _DT_REL else 3
    kinds = ((_DT_REL, _DT_RELSZ, 2), (_DT_RELA, _DT_RELASZ, 3))
    for tag, size_tag, words in (*kinds, (_DT_JMPREL, _DT_PLTRELSZ, plt_words)):
        size = entries.last(size_tag)
        if size and (table := entries.place(tag, "relocations")) is not None:
            yield table.part(0, size, "relocations"), words * pointer


def _read_names(entries: _Entries) -> Region | None:
    place = entries.place(_DT_STRTAB, "DT_STRTAB")
    size = entries.last(_DT_STRSZ)
    if place is None or size is None:
        return None
    return place.part(0, size, "the dynamic string table")


def _name(names: Region | None, offset: int, what: str) -> str:
    if names is None:
        raise BinaryError(f"{what} without a dynamic string table")
    return names.text(offset, what)


def _read_path(entries: _Entries, names: Region | None, tag: int, what: str) -> tuple[str, ...]:
    """The folders of a search path, which are parted by colons."""
    offset = entries.last(tag)
    return () if offset is None else tuple(_name(names, offset, what).split(":"))


def _read_version_needs(entries: _Entries, names: Region | None) -> dict[str, frozenset[str]]:
    """Library -> versions asked of it (LSB, Symbol Versioning, 10.7.4)."""
    table = entries.place(_DT_VERNEED, "DT_VERNEED")
    if table is None:
        return {}
    count = entries.last(_DT_VERNEEDNUM) or 0
    needs: dict[str, set[str]] = {}
    for offset in _chain(table, 0, 12, count, "DT_VERNEED"):
        _, versions, library, first, _ = table.unpack("HHIII", offset, "DT_VERNEED")
        wanted = needs.setdefault(_name(names, library, "DT_VERNEED"), set())
        for at in _chain(table, offset + first, 12, versions, "a version need"):
            (version,) = table.unpack("I", at + 8, "a version need")
            wanted.add(_name(names, version, "a version need"))
    return {library: frozenset(versions) for library, versions in needs.items()}


def _chain(table: Region, start: int, link: int, count: int, what: str) -> Iterator[int]:
    """Offsets of `count` records, each of which holds the distance to the next at `link`.

    The loader follows the links and not the count, so the two must agree.
    """
    offset = start
    for left in range(count, 0, -1):
        table.spend(STEP, offset)
        yield offset
        (step,) = table.unpack("I", offset + link, what)
        if (step == 0) != (left == 1) or 0 < step < _VERNEED_SIZE:
            raise table.error(f"{what}: the links and the count disagree", offset)
        offset += step
