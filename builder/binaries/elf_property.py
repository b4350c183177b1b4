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
from builder.binaries.elf_notes import PROPERTY, aligned, read_notes

_EM_X86_64: Final = 62
_ISA_1_NEEDED: Final = 0xC0008002
_LEVELS: Final = ("baseline", "v2", "v3", "v4")
"""By bit, from the lowest on."""


def read_isa_needed(layout: Layout, segments: tuple[Segment, ...]) -> str | None:
    """The highest level that an x86-64 file says it needs, such as ``x86-64-v3``, or None.

    A bit of a level that is not known here gives ``x86-64-bit-N``. Raises BinaryError for a segment
    outside the file.
    """
    if layout.machine != _EM_X86_64:
        return None
    bits = 0
    for note in read_notes(layout, segments):
        if (note.owner, note.kind) == PROPERTY:
            for found in _isa_bits(note.data, layout.bits // 8):
                bits |= found
    return _level(bits.bit_length() - 1) if bits else None


def _level(bit: int) -> str:
    return f"x86-64-{_LEVELS[bit]}" if bit < len(_LEVELS) else f"x86-64-bit-{bit}"


def _isa_bits(note: Region, align: int) -> Iterator[int]:
    for kind, data in _properties(note, align):
        if kind == _ISA_1_NEEDED and data.size == 4:
            yield data.unpack("I", 0, "the x86 ISA property")[0]


def _properties(note: Region, align: int) -> Iterator[tuple[int, Region]]:
    """Type and data of each property."""
    offset = 0
    while offset + 8 <= note.size:
        kind, size = note.unpack("II", offset, "a property")
        if offset + 8 + size > note.size:
            return
        note.spend(STEP, offset)
        yield kind, note.part(offset + 8, size, "a property")
        offset = aligned(offset + 8 + size, align)
