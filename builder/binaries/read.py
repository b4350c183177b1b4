"""The one door to the readers: bytes in, a record or None out."""

from __future__ import annotations

from builder.binaries.elf import ELF_MAGIC, read_elf
from builder.binaries.fat import MOST_SLICES
from builder.binaries.image import Binary
from builder.binaries.macho import FAT_MAGICS, read_macho
from builder.binaries.macho_header import THIN_MAGICS
from builder.binaries.pe import DOS_MAGIC, read_pe


def looks_like_binary(head: bytes) -> bool:
    """Whether a file that starts with `head` (eight bytes are enough) may be Mach-O, ELF or PE.

    A Java class file starts like a fat Mach-O file; only its version tells it apart.
    """
    magic = head[:4]
    if magic[:2] == DOS_MAGIC:
        return True
    if magic == b"\xca\xfe\xba\xbe" and int.from_bytes(head[4:8], "big") > MOST_SLICES:
        return False
    return magic == ELF_MAGIC or magic in THIN_MAGICS or magic in FAT_MAGICS


def read_binary(data: bytes | memoryview) -> Binary | None:
    """What `data` is, or None when it is neither Mach-O nor ELF nor PE.

    None as well for a fat archive: a static library, which no loader reads; and for a file that
    starts with MZ and is no PE file. Raises BinaryError for a file that breaks its own format.
    """
    head = bytes(data[:8])
    if not looks_like_binary(head):
        return None
    if head[:2] == DOS_MAGIC:
        return read_pe(data)
    return read_elf(data) if head[:4] == ELF_MAGIC else read_macho(data)
