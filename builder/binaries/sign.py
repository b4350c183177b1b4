"""Ad-hoc code signatures for Mach-O files, as linkers write them.

One CodeDirectory of SHA-256 hashes, no key, no requirements: what makes arm64 code run on macOS
after its bytes were changed. The layout is that of <kern/cs_blobs.h> and <mach-o/loader.h>.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from builder.binaries.cursor import Region, region_of
from builder.binaries.fat import merge_slices
from builder.binaries.image import MachSlice
from builder.binaries.macho import read_macho
from builder.binaries.macho_header import CPU_ARM, MachHeader, read_header
from builder.binaries.signature import ADHOC, CODE_DIRECTORY, LINKER_SIGNED, SUPER_BLOB
from builder.errors import BinaryError

_SIGNED: Final = frozenset({"MH_EXECUTE", "MH_DYLIB", "MH_BUNDLE"})
_LC_CODE_SIGNATURE: Final = 0x1D
_SEGMENTS: Final = frozenset({0x1, 0x19})
_COMMAND: Final = 16  # bytes of LC_CODE_SIGNATURE
_ALIGNMENT: Final = 16
_VERSION: Final = 0x20400  # the first with execSeg fields, and what ld64, lld and zig write
_DIRECTORY: Final = struct.Struct(">9I4B4I4Q")
_SUPER: Final = struct.Struct(">5I")
_SHA256: Final = 2
_MAIN_BINARY: Final = 1
_LARGEST: Final = 1 << 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Segment:
    """A segment command; `at` is its own offset, the rest is what it says, in bytes."""

    at: int
    wide: bool
    name: bytes
    memory_size: int
    offset: int
    size: int
    sections: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """A thin file that is about to be signed; `command` is None where there is none yet."""

    header: MachHeader
    content: bytearray
    command: int | None
    segments: tuple[_Segment, ...]

    def segment(self, name: bytes) -> _Segment:
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise BinaryError(f"no {name.decode()} segment, so the file cannot be signed")


def sign_adhoc(data: bytes, identifier: str) -> bytes:
    """`data`, a Mach-O file, with a fresh ad-hoc signature in each slice; an old one is dropped.

    `identifier` is what the signature calls the code: by custom the file's name. Signing what was
    signed so gives the same bytes. Raises BinaryError for a file that is broken, that no loader
    takes, or that has no room for the load command; ValueError for an unusable identifier.
    """
    if not identifier or not identifier.isascii() or not identifier.isprintable():
        raise ValueError(f"not an identifier for a signature: {identifier[:80]!r}")
    file = read_macho(data)
    if file is None:
        raise BinaryError("an archive is not signed")
    parts = [_sign(data[s.offset : s.offset + s.size], s, identifier) for s in file.slices]
    return merge_slices(parts) if file.fat else parts[0]


def _sign(data: bytes, part: MachSlice, identifier: str) -> bytes:
    if part.filetype not in _SIGNED:
        raise BinaryError(f"a file of type {part.filetype} is not signed")
    plan = _plan(data)
    linkedit = plan.segment(b"__LINKEDIT")
    limit = _place_signature(plan, linkedit)
    size = _signature_size(limit, plan.header, identifier)
    _write_command(plan, limit, size)
    _grow_linkedit(plan, linkedit, limit + size)
    signature = _signature(plan, part, limit, identifier)
    return bytes(plan.content) + signature.ljust(size, b"\0")


def _plan(data: bytes) -> _Plan:
    region = region_of(data, ">")
    header = read_header(region)
    region = region.ordered(header.order)
    commands = list(_commands(region, header))
    return _Plan(
        header=header,
        content=bytearray(data),
        command=next((at for at, kind in commands if kind == _LC_CODE_SIGNATURE), None),
        segments=tuple(_segment(region, at, kind) for at, kind in commands if kind in _SEGMENTS),
    )


def _commands(region: Region, header: MachHeader) -> Iterator[tuple[int, int]]:
    """Offset and kind of each load command; `read_macho` has seen that they are sound."""
    at = header.size
    for _ in range(header.commands):
        kind, size = region.unpack("II", at, "a load command")
        yield at, kind
        at += size


def _segment(region: Region, at: int, kind: int) -> _Segment:
    wide = kind == 0x19
    layout = "16s4Q4I" if wide else "16s4I4I"
    name, _, memory, offset, size, _, _, count, _ = region.unpack(layout, at + 8, "a segment")
    first, stride, inside = (at + 72, 80, 48) if wide else (at + 56, 68, 40)
    places = (
        region.unpack("I", first + stride * number + inside, "a section")[0]
        for number in range(count)
    )
    return _Segment(
        at=at,
        wide=wide,
        name=name.rstrip(b"\0"),
        memory_size=memory,
        offset=offset,
        size=size,
        sections=tuple(place for place in places if place),
    )


def _place_signature(plan: _Plan, linkedit: _Segment) -> int:
    """Drop the old signature, and pad to where the new one stands; that offset."""
    content, order = plan.content, plan.header.order
    end = linkedit.offset + linkedit.size
    if plan.command is not None:
        start, size = struct.unpack_from(order + "II", content, plan.command + 8)
        if size and start + size != end:
            raise BinaryError("the old signature is not the last thing in the file", offset=start)
        end = start if size else end
    if linkedit.offset + linkedit.size != len(content):
        raise BinaryError("there is something behind __LINKEDIT", offset=end)
    del content[end:]
    content += bytes(-len(content) % _ALIGNMENT)
    if len(content) >= _LARGEST:
        raise BinaryError("a file of 4 GiB or more is not signed")
    return len(content)


def _write_command(plan: _Plan, limit: int, size: int) -> None:
    order, header = plan.header.order, plan.header
    at = plan.command
    if at is None:
        at = header.size + header.commands_size
        _check_room(plan, at)
        counts = (header.commands + 1, header.commands_size + _COMMAND)
        struct.pack_into(order + "II", plan.content, 16, *counts)
    command = (_LC_CODE_SIGNATURE, _COMMAND, limit, size)
    struct.pack_into(order + "4I", plan.content, at, *command)


def _check_room(plan: _Plan, at: int) -> None:
    """Refuse a file whose first section follows its load commands too closely."""
    first = min((place for one in plan.segments for place in one.sections), default=at + _COMMAND)
    if at + _COMMAND > first or any(plan.content[at : at + _COMMAND]):
        raise BinaryError("no room for the load command of a signature", offset=at)


def _grow_linkedit(plan: _Plan, linkedit: _Segment, end: int) -> None:
    page = 1 << _page_bits(plan.header)
    size = end - linkedit.offset
    memory = max(linkedit.memory_size, -(-size // page) * page)
    word = "Q" if linkedit.wide else "I"
    at = linkedit.at + (32 if linkedit.wide else 28)
    fields = (memory, linkedit.offset, size)
    struct.pack_into(plan.header.order + f"3{word}", plan.content, at, *fields)


def _page_bits(header: MachHeader) -> int:
    """Pages of 16 KiB on ARM and of 4 KiB elsewhere, in memory as in the signature."""
    return 14 if header.cpu_family == CPU_ARM else 12


def _pages(limit: int, header: MachHeader) -> int:
    return -(-limit // (1 << _page_bits(header)))


def _signature_size(limit: int, header: MachHeader, identifier: str) -> int:
    size = _SUPER.size + _DIRECTORY.size + len(identifier) + 1 + 32 * _pages(limit, header)
    return -(-size // _ALIGNMENT) * _ALIGNMENT


def _signature(plan: _Plan, part: MachSlice, limit: int, identifier: str) -> bytes:
    name = identifier.encode("ascii") + b"\0"
    hash_offset = _DIRECTORY.size + len(name)
    hashes = _page_hashes(plan, limit)
    text = plan.segment(b"__TEXT")
    main = _MAIN_BINARY if part.filetype == "MH_EXECUTE" else 0
    directory = _DIRECTORY.pack(
        *(CODE_DIRECTORY, hash_offset + len(hashes), _VERSION, ADHOC | LINKER_SIGNED),
        *(hash_offset, _DIRECTORY.size, 0, _pages(limit, plan.header), limit),
        *(32, _SHA256, 0, _page_bits(plan.header), 0, 0, 0, 0, 0),
        *(text.offset, text.size, main),
    )
    whole = directory + name + hashes
    return _SUPER.pack(SUPER_BLOB, _SUPER.size + len(whole), 1, 0, _SUPER.size) + whole


def _page_hashes(plan: _Plan, limit: int) -> bytes:
    page, view = 1 << _page_bits(plan.header), memoryview(plan.content)
    return b"".join(
        hashlib.sha256(view[at : min(at + page, limit)]).digest() for at in range(0, limit, page)
    )
