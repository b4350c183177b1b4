"""The map of a PE file: its headers, its sections, and where an address lies in the file.

The layout is that of Microsoft's "PE Format". Addresses (RVAs) count from where the file is mapped.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Final, Literal

from builder.binaries.cursor import Region

_PE32: Final = 0x10B
_PE32_PLUS: Final = 0x20B
_MOST_DIRECTORIES: Final = 16
_SYMBOL: Final = 18
CERTIFICATES: Final = 4
"""The one data directory whose place is an offset in the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One section: `size` bytes from `offset` on are mapped at `address`."""

    address: int
    memory_size: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The headers. `directories` are (address, size) in the order of the format.

    `image_base` is where the file would like to be mapped, `headers_size` the bytes that are mapped
    at address 0.
    """

    file: Region
    bits: Literal[32, 64]
    machine: int
    characteristics: int
    image_base: int
    headers_size: int
    sections: tuple[Section, ...]
    directories: tuple[tuple[int, int], ...]

    def directory(self, index: int) -> tuple[int, int]:
        """Address and size of a data directory; (0, 0) when the file has none."""
        return self.directories[index] if index < len(self.directories) else (0, 0)

    def mapped(self, address: int, what: str) -> Region:
        """The bytes from `address` to the end of what is mapped there. Raises BinaryError."""
        if address < self.headers_size:
            return self.file.part(address, self.headers_size - address, what)
        section = self.section_at(address)
        if section is None:
            raise self.file.error(f"{what} is at an address that no section maps", 0)
        inside = address - section.address
        return self.file.part(section.offset + inside, section.size - inside, what)

    def section_at(self, address: int) -> Section | None:
        """The section whose bytes in the file hold `address`."""
        index = bisect_right(self.sections, address, key=attrgetter("address")) - 1
        if index < 0 or address - self.sections[index].address >= self.sections[index].size:
            return None
        return self.sections[index]

    def texts(self, addresses: Sequence[int], what: str) -> Iterator[str]:
        """The C strings at `addresses`, in their order; those of one section in one go."""
        for section, group in itertools.groupby(addresses, self.section_at):
            if section is None:
                yield from (self.mapped(address, what).text(0, what) for address in group)
            else:
                table = self.file.part(section.offset, section.size, what)
                yield from table.texts([address - section.address for address in group], what)


def read_layout(file: Region, pe_offset: int) -> Layout:
    """The headers at `pe_offset`, everything that they name inside the file. Raises BinaryError."""
    coff = file.unpack("HHIIIHH", pe_offset + 4, "the COFF header")
    machine, section_count, _, symbols, symbol_count, optional_size, characteristics = coff
    optional = file.part(pe_offset + 24, optional_size, "the optional header")
    bits, fields, directories = _read_optional(optional)
    table = pe_offset + 24 + optional_size
    layout = Layout(
        file=file,
        bits=bits,
        machine=machine,
        characteristics=characteristics,
        image_base=fields[0],
        headers_size=fields[1],
        sections=tuple(_read_sections(file, table, section_count)),
        directories=directories,
    )
    if symbols:
        file.need(symbols, symbol_count * _SYMBOL, "the symbol table")
    _check_inside(layout)
    return layout


def _read_optional(
    optional: Region,
) -> tuple[Literal[32, 64], tuple[int, int], tuple[tuple[int, int], ...]]:
    """Bits, (image base, size of the headers) and data directories."""
    (magic,) = optional.unpack("H", 0, "the optional header")
    if magic not in {_PE32, _PE32_PLUS}:
        raise optional.error(f"an optional header of kind {magic:#x}", 0)
    bits: Literal[32, 64] = 64 if magic == _PE32_PLUS else 32
    base = optional.unpack("Q" if bits == 64 else "I", 24 if bits == 64 else 28, "the image base")
    (headers_size,) = optional.unpack("I", 60, "the size of the headers")
    start = 112 if bits == 64 else 96
    (count,) = optional.unpack("I", start - 4, "the count of data directories")
    rows: Any = optional.rows("II", start, min(count, _MOST_DIRECTORIES), "the data directories")
    return bits, (base[0], headers_size), tuple(rows)


def _read_sections(file: Region, table: int, count: int) -> Iterator[Section]:
    for fields in file.rows("8sIIIIIIHHI", table, count, "the section table"):
        _, memory_size, address, size, offset, *_ = fields
        yield Section(
            address=address,
            memory_size=memory_size,
            offset=offset,
            size=size if offset else 0,
        )


def _check_inside(layout: Layout) -> None:
    """Refuse a file that is shorter than its headers say, or whose sections overlap in memory."""
    layout.file.need(0, layout.headers_size, "the headers")
    end = layout.headers_size
    for section in layout.sections:
        if section.size:
            layout.file.need(section.offset, section.size, "a section")
        if section.address < end:
            raise layout.file.error("sections overlap or are out of order", section.offset)
        end = section.address + max(section.memory_size, 1)
    offset, size = layout.directory(CERTIFICATES)
    if size:
        layout.file.need(offset, size, "the certificate table")
