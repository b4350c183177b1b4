"""The zip container of a wheel, read so that every reader of it sees the same files.

Zip files can be made to show different content to different programs: two directories, bytes
before or after, local headers that disagree. Here an archive is one run of members without a gap,
one central directory that agrees with them, and nothing else.
The format is PKWARE's APPNOTE 6.3.9; the section is named where a field is read.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO, Final

from builder.errors import RefusedWheelError
from store.digest import JSON
from store.verdict import Finding

CODE: Final = "archive-safety"

# Packed bytes read at a time, and a quarter of what is unpacked at a time. Larger pieces are no
# faster, and stand in memory beside the member that they are joined to.
_CHUNK: Final = 1 << 16
_END: Final = struct.Struct("<4s4H2LH")  # 4.3.16 end of central directory record
_LOCATOR: Final = struct.Struct("<4sLQL")  # 4.3.15 zip64 locator
_END64: Final = struct.Struct("<4sQ2H2L4Q")  # 4.3.14 zip64 end record
_LOCAL: Final = struct.Struct("<4s5H3L2H")  # 4.3.7 local file header
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_STREAMED: Final = 0x8
_FULL32: Final = 0xFFFFFFFF
_METHODS: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
# Control characters, a backslash, a drive; and parts that lead up, back, or nowhere.
_NEVER: Final = re.compile(r"[\x00-\x1f\x7f\\]|^[A-Za-z]:")
_LONGEST_PATH: Final = 4096
_LONGEST_PART: Final = 255
_NOWHERE: Final = frozenset({"", ".", ".."})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a wheel may be at most; sizes in bytes. `ratio` counts from `ratio_from` unpacked."""

    members: int = 100_000
    directory: int = 64 << 20
    member: int = 4 << 30
    total: int = 16 << 30
    ratio: int = 200
    ratio_from: int = 64 << 20


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member as the central directory has it; offsets and sizes in bytes."""

    path: str
    raw_name: bytes
    offset: int
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    mode: int
    folder: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """The members of a sound container in the order of the bytes, and where their data begins."""

    entries: tuple[Entry, ...]
    data_offsets: tuple[int, ...]

    def files(self) -> Iterator[tuple[Entry, int]]:
        """The members that are files, each with the offset of its packed bytes."""
        pairs = zip(self.entries, self.data_offsets, strict=True)
        return (pair for pair in pairs if not pair[0].folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class _End:
    directory_offset: int
    directory_size: int
    count: int


def read_archive(file: BinaryIO, limits: Limits = LIMITS) -> Archive:
    """The container in `file`, after every rule about names, kinds, sizes and layout.

    Raises RefusedWheelError. What is unpacked later is held to the sizes and sums given here.
    """
    end = _read_end(file, limits)
    entries = _read_directory(file, end)
    problems = [*_name_problems(entries), *_size_problems(file, entries, limits)]
    if problems:
        raise RefusedWheelError(tuple(problems))
    return Archive(entries=entries, data_offsets=_data_offsets(file, entries, end))


def unpacked(file: BinaryIO, entry: Entry, data_offset: int) -> Iterator[bytes]:
    """The bytes of a member, in pieces, never more than its declared size.

    Raises RefusedWheelError when they do not inflate, or differ from the declared size or CRC.
    """
    size, crc = 0, 0
    for piece in _inflated(file, entry, data_offset):
        size += len(piece)
        if size > entry.size:
            raise refusal("the member unpacks to more than its declared size", entry.path)
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != entry.size:
        raise refusal("the member unpacks to less than its declared size", entry.path)
    if crc != entry.crc:
        evidence = {"declared": f"{entry.crc:08x}", "actual": f"{crc:08x}"}
        raise refusal("the member's bytes do not have its CRC-32", entry.path, evidence)


def refusal(
    message: str, member: str | None = None, evidence: Mapping[str, JSON] | None = None
) -> RefusedWheelError:
    """The error for one rule of the container that is broken."""
    return RefusedWheelError((_problem(message, member, evidence),))


def _problem(
    message: str, member: str | None = None, evidence: Mapping[str, JSON] | None = None
) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        message=message,
        member=member,
        evidence=evidence or {},
        hint="build the wheel again; do not install this one",
    )


def _size_of(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _read_at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    data = file.read(size)
    if len(data) != size:
        raise refusal("the archive is truncated", evidence={"offset": offset, "wanted": size})
    return data


def _read_end(file: BinaryIO, limits: Limits) -> _End:
    """The end record, which must be the last bytes of the file and close a seamless archive."""
    size = _size_of(file)
    if size < _END.size or _read_at(file, 0, 2) != b"PK":
        raise refusal("this is no zip archive")
    at = size - _END.size
    magic, disk, first, here, count, length, offset, comment = _END.unpack(
        _read_at(file, at, _END.size)
    )
    if magic != b"PK\x05\x06" or comment:
        raise refusal("the archive does not end with its end record: truncated, or bytes after it")
    end = _End(directory_offset=offset, directory_size=length, count=count)
    if _FULL32 in {offset, length} or count == 0xFFFF or _has_locator(file, at):
        end, at = _read_end64(file, at)
    if disk or first or (here != count):
        raise refusal("the archive is one of several volumes")
    _check_end(end, at, limits)
    return end


def _check_end(end: _End, at: int, limits: Limits) -> None:
    if end.directory_offset + end.directory_size != at:
        raise refusal("the central directory does not lie right before the end record")
    if end.count > limits.members or end.directory_size > limits.directory:
        evidence = {"members": end.count, "limit": limits.members}
        raise refusal("the archive has more members than are read", evidence=evidence)


def _has_locator(file: BinaryIO, at: int) -> bool:
    return at >= _LOCATOR.size and _read_at(file, at - _LOCATOR.size, 4) == b"PK\x06\x07"


def _read_end64(file: BinaryIO, at: int) -> tuple[_End, int]:
    if not _has_locator(file, at):
        raise refusal("the archive lacks its zip64 end record")
    locator = _LOCATOR.unpack(_read_at(file, at - _LOCATOR.size, _LOCATOR.size))
    record_at = locator[2]
    if record_at + _END64.size != at - _LOCATOR.size:
        raise refusal("the zip64 end record does not lie right before its locator")
    record = _END64.unpack(_read_at(file, record_at, _END64.size))
    if record[0] != b"PK\x06\x06" or record[1] != _END64.size - 12:
        raise refusal("the zip64 end record is malformed")
    return _End(directory_offset=record[9], directory_size=record[8], count=record[7]), record_at


def _read_directory(file: BinaryIO, end: _End) -> tuple[Entry, ...]:
    try:
        with zipfile.ZipFile(file) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError) as error:
        raise refusal(f"the central directory is malformed: {str(error)[:200]}") from error
    if len(infos) != end.count:
        evidence = {"declared": end.count, "actual": len(infos)}
        raise refusal("the central directory does not hold what it declares", evidence=evidence)
    return tuple(sorted(map(_entry, infos), key=lambda entry: entry.offset))


def _entry(info: zipfile.ZipInfo) -> Entry:
    encoding = "utf-8" if info.flag_bits & 0x800 else "cp437"
    if info.filename != info.orig_filename:
        raise refusal("the member has two names", info.orig_filename)
    return Entry(
        path=info.orig_filename,
        raw_name=info.orig_filename.encode(encoding),
        offset=info.header_offset,
        flags=info.flag_bits,
        method=info.compress_type,
        crc=info.CRC,
        packed=info.compress_size,
        size=info.file_size,
        mode=info.external_attr >> 16,
        folder=info.orig_filename.endswith("/"),
    )


def _name_problems(entries: tuple[Entry, ...]) -> Iterator[Finding]:
    seen: set[str] = set()
    for entry in entries:
        for problem in _entry_problems(entry):
            yield _problem(problem, entry.path)
        if entry.path.rstrip("/") in seen:
            yield _problem("the archive has two members of this name", entry.path)
        seen.add(entry.path.rstrip("/"))


def _entry_problems(entry: Entry) -> Iterator[str]:
    if _too_long(entry.path):
        yield "the member's path, or a part of it, is longer than file systems take"
    if _unsafe_path(entry.path):
        yield "the member's path leaves the wheel, or is no plain relative path"
    kind = stat.S_IFMT(entry.mode)
    if kind not in {0, stat.S_IFREG, stat.S_IFDIR} or (kind == stat.S_IFDIR) > entry.folder:
        yield "the member is no plain file: a link, a device, or a folder with a file's name"
    if entry.flags & _ENCRYPTED:
        yield "the member is encrypted"
    if entry.method not in _METHODS:
        yield f"the member is compressed by a method ({entry.method}) that wheels do not use"
    if entry.folder and entry.size:
        yield "the member is a folder that holds bytes"


def _too_long(path: str) -> bool:
    """Longer than PATH_MAX of Linux, or a part longer than any common file system's limit."""
    if len(path) <= _LONGEST_PART // 4:
        return False
    data = path.encode("utf-8")
    return len(data) > _LONGEST_PATH or max(map(len, data.split(b"/"))) > _LONGEST_PART


def _unsafe_path(path: str) -> bool:
    parts = path.removesuffix("/").split("/")
    return bool(_NEVER.search(path) or not _NOWHERE.isdisjoint(parts))


def _size_problems(file: BinaryIO, entries: tuple[Entry, ...], limits: Limits) -> Iterator[Finding]:
    for entry in entries:
        if entry.size > limits.member:
            evidence = {"size": entry.size, "limit": limits.member}
            yield _problem("the member is larger than is read", entry.path, evidence)
    total, packed = sum(entry.size for entry in entries), _size_of(file)
    if total > limits.total:
        yield _problem("the wheel unpacks to more than is read", evidence={"size": total})
    elif total > limits.ratio_from and total > limits.ratio * packed:
        evidence = {"size": total, "packed": packed, "limit_ratio": limits.ratio}
        yield _problem("the wheel unpacks to far more than it holds: a bomb", evidence=evidence)


def _data_offsets(file: BinaryIO, entries: tuple[Entry, ...], end: _End) -> tuple[int, ...]:
    """Where each member's data begins; refuses gaps, overlaps and headers that disagree."""
    if not entries:
        raise refusal("the archive is empty")
    offsets, expected = [], 0
    following = [*(entry.offset for entry in entries[1:]), end.directory_offset]
    for entry, limit in zip(entries, following, strict=True):
        if entry.offset != expected:
            raise refusal("bytes lie before the member, or it overlaps another", entry.path)
        data = _check_local_header(file, entry)
        _check_tail(file, entry, data + entry.packed, limit)
        offsets.append(data)
        expected = limit
    return tuple(offsets)


def _check_local_header(file: BinaryIO, entry: Entry) -> int:
    header = _LOCAL.unpack(_read_at(file, entry.offset, _LOCAL.size))
    magic, _, flags, method, _, _, crc, packed, size, name_length, extra_length = header
    names = _read_at(file, entry.offset + _LOCAL.size, name_length + extra_length)
    if _FULL32 in {packed, size}:
        packed, size = _zip64_sizes(names[name_length:], packed, size)
    sums = (crc, packed, size)
    streamed = bool(entry.flags & _STREAMED) and sums == (0, 0, 0)
    agrees = streamed or sums == (entry.crc, entry.packed, entry.size)
    named = names[:name_length] == entry.raw_name
    if magic != b"PK\x03\x04" or (flags, method) != (entry.flags, entry.method):
        raise refusal("the local header and the central directory disagree", entry.path)
    if not (agrees and named):
        evidence = {"local_name": repr(names[:name_length])[:200]}
        raise refusal("the local header and the central directory disagree", entry.path, evidence)
    return entry.offset + _LOCAL.size + len(names)


def _zip64_sizes(extra: bytes, packed: int, size: int) -> tuple[int, int]:
    """Sizes from the zip64 extra field (4.5.3), which holds those that are all ones outside."""
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<2H", extra)
        if kind == 1:
            values = iter(struct.unpack(f"<{length // 8}Q", extra[4 : 4 + length // 8 * 8]))
            size = next(values, size) if size == _FULL32 else size
            packed = next(values, packed) if packed == _FULL32 else packed
            return packed, size
        extra = extra[4 + length :]
    return packed, size


def _check_tail(file: BinaryIO, entry: Entry, data_end: int, limit: int) -> None:
    """Between a member's data and what follows: nothing, or a data descriptor (4.3.9)."""
    gap = limit - data_end
    if gap == 0 and not entry.flags & _STREAMED:
        return
    if not entry.flags & _STREAMED or gap not in {12, 16, 20, 24}:
        raise refusal("the member overlaps what follows it, or leaves a gap", entry.path)
    tail = _read_at(file, data_end, gap)
    bare = tail[4:] if gap in {16, 24} and tail[:4] == b"PK\x07\x08" else tail
    form = "<LLL" if len(bare) == 12 else "<LQQ"
    if len(bare) not in {12, 20} or struct.unpack(form, bare) != (
        entry.crc,
        entry.packed,
        entry.size,
    ):
        raise refusal("the data descriptor and the central directory disagree", entry.path)


def _inflated(file: BinaryIO, entry: Entry, data_offset: int) -> Iterator[bytes]:
    file.seek(data_offset)
    pieces = _packed_pieces(file, entry)
    if entry.method == zipfile.ZIP_STORED:
        return pieces
    return _inflate(pieces, entry)


def _packed_pieces(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    left = entry.packed
    while left:
        piece = file.read(min(left, _CHUNK))
        if not piece:
            raise refusal("the archive is truncated", entry.path)
        left -= len(piece)
        yield piece


def _inflate(pieces: Iterator[bytes], entry: Entry) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-15)
    try:
        for piece in pieces:
            data = piece
            while data and not inflater.eof:
                yield inflater.decompress(data, _CHUNK * 4)
                data = inflater.unconsumed_tail
    except zlib.error as error:
        raise refusal(f"the member does not inflate: {error}", entry.path) from error
    if not inflater.eof or inflater.unused_data:
        raise refusal("the member's packed bytes end too early or too late", entry.path)
