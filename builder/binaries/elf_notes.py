"""Notes of an ELF file: short records that a linker or a compiler left for the loader (gABI 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import STEP, Region
from builder.binaries.elf_layout import Layout, Segment

_PT_NOTE: Final = 4
_PT_GNU_PROPERTY: Final = 0x6474E553
_LONGEST_OWNER: Final = 64
PROPERTY: Final = (b"GNU\0", 5)
"""Owner and kind of a property note, the only one that is aligned to a word of the class."""
_ANDROID: Final = (b"Android\0", 1)
_NO_API_YET: Final = 10_000  # the level of an Android that is still in the making


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """One note; its owner with the NUL at the end."""

    owner: bytes
    kind: int
    data: Region


def read_notes(layout: Layout, segments: tuple[Segment, ...]) -> Iterator[Note]:
    """Every note of the note segments.

    A note that leaves its segment ends the reading of it, as it does in the loader, and breaks
    nothing else. Raises BinaryError for a segment outside the file.
    """
    for segment in segments:
        if segment.kind in {_PT_NOTE, _PT_GNU_PROPERTY} and segment.file_size:
            place = layout.file.part(segment.offset, segment.file_size, "a note segment")
            yield from _notes(place, layout.bits // 8)


def read_android_api(layout: Layout, segments: tuple[Segment, ...]) -> int | None:
    """The Android API level that a file says it needs, in the note of the NDK; None without it."""
    for note in read_notes(layout, segments):
        if (note.owner, note.kind) == _ANDROID and note.data.size >= 4:
            (level,) = note.data.unpack("I", 0, "the Android note")
            return int(level) if level < _NO_API_YET else None
    return None


def aligned(offset: int, align: int) -> int:
    """`offset`, or the next multiple of `align`."""
    return -(-offset // align) * align


def _notes(place: Region, align: int) -> Iterator[Note]:
    offset = 0
    while offset + 12 <= place.size:
        name_size, size, kind = place.unpack("III", offset, "a note")
        start = aligned(offset + 12 + name_size, 4)
        if start + size > place.size:
            return
        place.spend(STEP, offset)
        owner = bytes(place.view[offset + 12 : offset + 12 + min(name_size, _LONGEST_OWNER)])
        yield Note(owner=owner, kind=kind, data=place.part(start, size, "a note"))
        offset = aligned(start + size, align if (owner, kind) == PROPERTY else 4)
