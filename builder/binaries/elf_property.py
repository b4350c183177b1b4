"""The x86 ISA note: which level of x86-64 a file says it needs.

``.note.gnu.property`` is described in the Linux Extensions to gABI, "Program Property", and the
bits of the levels in the x86-64 psABI: a note of type NT_GNU_PROPERTY_TYPE_0 holds properties, each
a type, a size and data.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.binaries.cursor import STEP, Region
from builder.binaries.elf_layout import Layout, Segment

_EM_X86_64: Final = 62
_PT_NOTE: Final = 4
_PT_GNU_PROPERTY: Final = 0x6474E553
_NT_GNU_PROPERTY_TYPE_0: Final = 5
_OWNER: Final = b"GNU\0"
_ISA_1_NEEDED: Final = 0xC0008002
_LEVELS: Final = ("baseline", "v2", "v3", "v4")
"""By bit, from the lowest on."""


def read_isa_needed(layout: Layout, segments: tuple[Segment, ...]) -> str | None:
    """The highest level that an x86-64 file says it needs, such as ``x86-64-v3``, or None.

    A bit of a level that is not known here gives ``x86-64-bit-N``. A note that leaves its segment
    ends the reading of it, as it does in the loader, and breaks nothing else. Raises BinaryError
    for a segment outside the file.
    """
    if layout.machine != _EM_X86_64:
        return None
    bits = 0
    for segment in segments:
        if segment.kind in {_PT_NOTE, _PT_GNU_PROPERTY} and segment.file_size:
            notes = layout.file.part(segment.offset, segment.file_size, "a note segment")
            for found in _isa_bits(notes, layout.bits // 8):
                bits |= found
    return _level(bits.bit_length() - 1) if bits else None


def _level(bit: int) -> str:
    return f"x86-64-{_LEVELS[bit]}" if bit < len(_LEVELS) else f"x86-64-bit-{bit}"


def _isa_bits(notes: Region, align: int) -> Iterator[int]:
    for note in _property_notes(notes, align):
        for kind, data in _properties(note, align):
            if kind == _ISA_1_NEEDED and data.size == 4:
                yield data.unpack("I", 0, "the x86 ISA property")[0]


def _property_notes(place: Region, align: int) -> Iterator[Region]:
    """The data of each property note. Only these are aligned to a word of the class."""
    offset = 0
    while offset + 12 <= place.size:
        name_size, size, kind = place.unpack("III", offset, "a note")
        start = _aligned(offset + 12 + name_size, 4)
        if start + size > place.size:
            return
        place.spend(STEP, offset)
        owner = bytes(place.view[offset + 12 : offset + 16])
        ours = (kind, name_size, owner) == (_NT_GNU_PROPERTY_TYPE_0, 4, _OWNER)
        if ours:
            yield place.part(start, size, "a property note")
        offset = _aligned(start + size, align if ours else 4)


def _properties(note: Region, align: int) -> Iterator[tuple[int, Region]]:
    """Type and data of each property."""
    offset = 0
    while offset + 8 <= note.size:
        kind, size = note.unpack("II", offset, "a property")
        if offset + 8 + size > note.size:
            return
        note.spend(STEP, offset)
        yield kind, note.part(offset + 8, size, "a property")
        offset = _aligned(offset + 8 + size, align)


def _aligned(offset: int, align: int) -> int:
    return -(-offset // align) * align
