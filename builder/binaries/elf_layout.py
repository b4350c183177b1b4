"""The two maps of an ELF file: its segments, for the loader, and its sections, for the linker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

from builder.binaries.cursor import Region

PT_LOAD: Final = 1
PT_DYNAMIC: Final = 2
SHT_SYMTAB: Final = 2
SHT_DYNSYM: Final = 11
_SHT_NULL: Final = 0
_SHT_NOBITS: Final = 8
# PT_LOAD, DYNAMIC, INTERP, NOTE, PHDR, TLS: what a loader reads. Others only describe.
_READ_BY_LOADER: Final = frozenset({1, 2, 3, 4, 6, 7})
_MOST_SECTIONS: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The ELF header: what the file is, and where its two tables lie (offsets in bytes)."""

    file: Region
    bits: Literal[32, 64]
    filetype: int
    machine: int
    flags: int
    segments_offset: int
    segment_size: int
    segment_count: int
    sections_offset: int
    section_size: int
    section_count: int

    @property
    def word(self) -> str:
        """An address, in struct's letters."""
        return "Q" if self.bits == 64 else "I"


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One program header."""

    kind: int
    flags: int
    offset: int
    address: int
    file_size: int
    memory_size: int
    align: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section header."""

    kind: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    entry_size: int


def read_segments(layout: Layout) -> tuple[Segment, ...]:
    """The program headers. Raises BinaryError when they are not inside the file."""
    if not layout.segments_offset:
        return ()
    # A count beyond 16 bits (PN_XNUM) is for core dumps; no loader looks for it elsewhere.
    count = layout.segment_count
    row = "IIQQQQQQ" if layout.bits == 64 else "8I"
    if count and layout.segment_size != (56 if layout.bits == 64 else 32):
        raise layout.file.error(f"program headers of {layout.segment_size} bytes", 0)
    rows = layout.file.rows(row, layout.segments_offset, count, "the program header table")
    return tuple(_segment(layout, fields) for fields in rows)


def _segment(layout: Layout, fields: tuple[int, ...]) -> Segment:
    if layout.bits == 64:
        kind, flags, offset, address, _, file_size, memory_size, align = fields
    else:
        kind, offset, address, _, file_size, memory_size, flags, align = fields
    return Segment(
        kind=kind,
        flags=flags,
        offset=offset,
        address=address,
        file_size=file_size,
        memory_size=memory_size,
        align=align,
    )


def read_sections(layout: Layout) -> tuple[Section, ...]:
    """The section headers; none in a file without them. Raises BinaryError."""
    if not layout.sections_offset:
        return ()
    # More sections than 16 bits can count are counted in the first one (gABI chapter 4).
    count = layout.section_count or next(_section_rows(layout, 1)).size
    if count > _MOST_SECTIONS:
        raise layout.file.error(f"{count} section headers", layout.sections_offset)
    return tuple(_section_rows(layout, count))


def _section_rows(layout: Layout, count: int) -> Iterator[Section]:
    if layout.section_size != (64 if layout.bits == 64 else 40):
        raise layout.file.error(f"section headers of {layout.section_size} bytes", 0)
    row = "IIQQQQIIQQ" if layout.bits == 64 else "10I"
    place = layout.sections_offset
    for fields in layout.file.rows(row, place, count, "the section header table"):
        _, kind, _, address, offset, size, link, info, _, entry_size = fields
        yield Section(
            kind=kind,
            address=address,
            offset=offset,
            size=size,
            link=link,
            info=info,
            entry_size=entry_size,
        )


def check_segments(layout: Layout, segments: tuple[Segment, ...]) -> None:
    """Refuse a file that is shorter than its segments say, or maps two of them to one place."""
    end = 0
    for segment in segments:
        # What takes no bytes of the file (.bss alone) may stand anywhere.
        if segment.file_size and segment.kind in _READ_BY_LOADER:
            layout.file.need(segment.offset, segment.file_size, "a segment")
        if segment.kind == PT_LOAD:
            if segment.address < end or segment.memory_size < segment.file_size:
                raise layout.file.error("segments overlap or are out of order", segment.offset)
            end = segment.address + segment.file_size


def check_sections(layout: Layout, sections: tuple[Section, ...]) -> None:
    """Refuse a file that is shorter than its sections say."""
    for section in sections:
        if section.size and section.kind not in {_SHT_NULL, _SHT_NOBITS}:
            layout.file.need(section.offset, section.size, "a section")


def mapped(layout: Layout, segments: tuple[Segment, ...], address: int, what: str) -> Region:
    """The bytes from `address` to the end of the segment that the loader maps there.

    Raises BinaryError when no PT_LOAD holds the address.
    """
    for segment in segments:
        inside = address - segment.address
        if segment.kind == PT_LOAD and 0 <= inside < segment.file_size:
            size = segment.file_size - inside
            return layout.file.part(segment.offset + inside, size, what)
    raise layout.file.error(f"{what} is at an address that no segment maps", 0)
