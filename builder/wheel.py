"""A wheel, opened: its file name, its metadata, and what every member's bytes are.

One pass over the bytes: each member is inflated once, hashed while it is read, and kept in memory
only when it begins like a binary and while it is parsed. What is kept are records.
"""

from __future__ import annotations

import base64
import csv
import email.parser
import email.policy
import hashlib
import io
import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, Literal

from packaging.metadata import parse_email
from packaging.tags import Tag
from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from builder.binaries.image import Binary, ElfFile, MachFile, PeFile
from builder.binaries.read import looks_like_binary, read_binary
from builder.errors import BinaryError, RefusedWheelError
from builder.wheel_file import (
    FileState,
    check_unchanged,
    digest_of_open,
    open_plain,
    reopened,
    state_of,
)
from builder.wheel_zip import LIMITS, Archive, Entry, Limits, read_archive, unpacked
from store.digest import Sha256
from store.errors import MalformedError
from store.tags import parse_platform, parse_tag_set
from store.verdict import Finding

_HEAD: Final = 8
_METADATA_FILES: Final = {"METADATA": 8 << 20, "WHEEL": 1 << 20, "RECORD": 64 << 20}
_HINT_NAME: Final = "a wheel is called NAME-VERSION(-BUILD)-PYTHON-ABI-PLATFORM.whl (PEP 427)"
_EMPTY_LINE: Final = re.compile(rb"(?<=\n)\r?\n")
_HEADER_NAME: Final = re.compile(rb"(?:^|[\r\n])([^\s:][^:\r\n]*):")
_MOST_HEADERS: Final = 20_000
_MOST_HEADER_NAMES: Final = 200  # the core metadata specification has some forty
_MOST_ROWS: Final = 4 * LIMITS.members
_MAX_NAME: Final = 255

LOADED_MACHO: Final = frozenset({"MH_EXECUTE", "MH_DYLIB", "MH_BUNDLE"})
"""The kinds of Mach-O file that are run or loaded; the others in a wheel are data."""

Format = Literal["mach-o", "elf", "pe"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file of the wheel. `malformed` says why its binary could not be read, if so."""

    path: str
    size: int
    sha256: Sha256
    executable: bool
    format: Format | None
    binary: Binary | None
    malformed: str | None

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @property
    def site_path(self) -> str | None:
        """Where the file lands below site-packages; None for scripts, data and headers."""
        first, _, rest = self.path.partition("/")
        if not first.endswith(".data"):
            return self.path
        scheme, _, inner = rest.partition("/")
        return inner if scheme in {"purelib", "platlib"} else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRow:
    """One line of RECORD: path, hash (``sha256=…``, urlsafe base64 without padding) and size."""

    path: str
    hash: str
    size: str


@dataclass(frozen=True, kw_only=True)
class OpenedWheel:
    """A wheel whose container is sound, whose name parses, and whose metadata is there.

    `members` are in the order of the archive, `claimed` the expanded tags of the file name,
    `stated` those of WHEEL's Tag lines as they stand.
    """

    path: Path
    filename: str
    sha256: Sha256
    size: int
    state: FileState
    name: str
    version: str
    build: BuildTag
    claimed: frozenset[Tag]
    members: Mapping[str, Member]
    dist_info: str
    wheel_headers: tuple[tuple[str, str], ...]
    record: tuple[RecordRow, ...]
    metadata: bytes

    def header(self, name: str) -> tuple[str, ...]:
        """Every value that the WHEEL file gives to the header `name`."""
        wanted = name.lower()
        return tuple(value for key, value in self.wheel_headers if key.lower() == wanted)

    @cached_property
    def binaries(self) -> tuple[Member, ...]:
        """The members that are Mach-O, ELF or PE files and could be read."""
        return tuple(member for member in self.members.values() if member.binary)

    @cached_property
    def mach(self) -> tuple[tuple[Member, MachFile], ...]:
        """The Mach-O members that a loader takes, each with its file; no debug files."""
        return tuple(
            (m, m.binary)
            for m in self.binaries
            if isinstance(m.binary, MachFile)
            and any(part.filetype in LOADED_MACHO for part in m.binary.slices)
        )

    @cached_property
    def elf(self) -> tuple[tuple[Member, ElfFile], ...]:
        """The ELF members, each with its file."""
        return tuple((m, m.binary) for m in self.binaries if isinstance(m.binary, ElfFile))

    @cached_property
    def pe(self) -> tuple[tuple[Member, PeFile], ...]:
        """The PE members (Windows), each with its file."""
        return tuple((m, m.binary) for m in self.binaries if isinstance(m.binary, PeFile))

    @cached_property
    def elf_names(self) -> frozenset[str]:
        """The names under which the wheel's own ELF files can be needed: file names and SONAMEs."""
        sonames = {file.soname for _, file in self.elf if file.soname}
        return frozenset(sonames | {member.name for member, _ in self.elf})

    @cached_property
    def module_like(self) -> tuple[Member, ...]:
        """The members whose paths end as those of extension modules do."""
        return tuple(m for m in self.members.values() if m.path.endswith((".so", ".pyd")))

    @cached_property
    def site_paths(self) -> frozenset[str]:
        """Every path below site-packages that the wheel brings."""
        paths = (member.site_path for member in self.members.values())
        return frozenset(path for path in paths if path is not None)

    @cached_property
    def raw_metadata(self) -> Mapping[str, object]:
        """The headers of METADATA that are well-formed, by packaging's names."""
        return dict(parse_email(_header_part(self.metadata))[0])

    def texts(self, ending: str, budget: int) -> Iterator[tuple[str, bytes]]:
        """Path and bytes of the members whose path ends with `ending`, `budget` bytes in all."""
        with reopened(self.path, self.state) as file:
            for entry, offset in read_archive(file).files():
                if entry.path.endswith(ending) and entry.size <= budget:
                    budget -= entry.size
                    yield entry.path, b"".join(unpacked(file, entry, offset))

    def read(self, path: str, limit: int) -> bytes:
        """At most `limit` bytes of the member `path`, inflated again."""
        with reopened(self.path, self.state) as file:
            for entry, offset in read_archive(file).files():
                if entry.path == path:
                    return _first_bytes(unpacked(file, entry, offset), limit)
        raise KeyError(path)


def open_wheel(path: Path, limits: Limits = LIMITS) -> OpenedWheel:
    """The wheel at `path`, read once and whole.

    Raises RefusedWheelError, with findings, when the file is no sound wheel; OSError when it cannot
    be read.
    """
    name, version, build, claimed = parse_name(path.name)
    with open_plain(path) as file:
        state = state_of(file)
        archive = read_archive(file, limits)
        dist_info = _dist_info(archive)
        texts: dict[str, bytes] = {}
        members = {m.path: m for m in _read_members(file, archive, dist_info, texts)}
        sha256 = digest_of_open(file)
        check_unchanged(file, state)
    return OpenedWheel(
        path=path,
        filename=path.name,
        sha256=sha256,
        size=state.size,
        state=state,
        name=name,
        version=version,
        build=build,
        claimed=claimed,
        members=members,
        dist_info=dist_info,
        wheel_headers=_headers(_text(texts, f"{dist_info}/WHEEL")),
        record=tuple(_rows(_text(texts, f"{dist_info}/RECORD"))),
        metadata=_checked_metadata(_text(texts, f"{dist_info}/METADATA"), dist_info),
    )


def parse_name(filename: str) -> tuple[str, str, BuildTag, frozenset[Tag]]:
    """Normalised name, version, build tag and expanded tags that a wheel's file name claims.

    Raises RefusedWheelError with a finding of ``wheel-filename``.
    """
    try:
        _check_readable(filename)
        claimed = parse_tag_set("-".join(filename.removesuffix(".whl").rsplit("-", 3)[-3:]))
        name, version, build, _ = parse_wheel_filename(filename)
        for tag in claimed:
            parse_platform(tag.platform)
    except (InvalidWheelFilename, MalformedError) as error:
        message = f"the file's name is not that of a wheel: {str(error)[:300]}"
        raise refused("wheel-filename", message, hint=_HINT_NAME) from error
    return name, str(version), build, claimed


def _check_readable(filename: str) -> None:
    if len(filename) > _MAX_NAME or not filename.isprintable():
        raise MalformedError("it is too long, or not printable")


def refused(
    check: str, message: str, member: str | None = None, hint: str | None = None
) -> RefusedWheelError:
    """The error for a wheel that cannot be opened, with its one finding."""
    finding = Finding(check=check, severity="error", message=message, member=member, hint=hint)
    return RefusedWheelError((finding,))


def record_hash(hexadecimal: str) -> str:
    """A SHA-256 as RECORD writes it (PEP 427: urlsafe base64 without padding)."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(hexadecimal)).rstrip(b"=")
    return f"sha256={encoded.decode('ascii')}"


def _first_bytes(pieces: Iterator[bytes], limit: int) -> bytes:
    data = bytearray()
    for piece in pieces:
        data += piece
        if len(data) >= limit:
            break
    return bytes(data[:limit])


def _dist_info(archive: Archive) -> str:
    tops = {entry.path.partition("/")[0] for entry, _ in archive.files()}
    folders = sorted(top for top in tops if top.endswith(".dist-info"))
    if len(folders) != 1:
        found = ", ".join(folders)[:200] or "none"
        raise refused("dist-info", f"a wheel has one .dist-info folder; found: {found}")
    paths = {entry.path for entry, _ in archive.files()}
    for name in _METADATA_FILES:
        if f"{folders[0]}/{name}" not in paths:
            raise refused("dist-info", f"the wheel has no {name}", f"{folders[0]}/{name}")
    return folders[0]


def _read_members(
    file: BinaryIO, archive: Archive, dist_info: str, texts: dict[str, bytes]
) -> Iterator[Member]:
    wanted = {f"{dist_info}/{name}": limit for name, limit in _METADATA_FILES.items()}
    for entry, offset in archive.files():
        limit = wanted.get(entry.path)
        if limit is not None and entry.size > limit:
            raise refused("dist-info", "the metadata file is too large to be one", entry.path)
        member, data = _read_member(file, entry, offset, keep=limit is not None)
        if limit is not None:
            texts[entry.path] = data
        yield member


def _read_member(file: BinaryIO, entry: Entry, offset: int, *, keep: bool) -> tuple[Member, bytes]:
    head, pieces = _begun(unpacked(file, entry, offset))
    wanted = keep or looks_like_binary(head)
    # All the room at once: a buffer that grows moves about, and leaves a hole wherever it was.
    data = bytearray(entry.size if wanted else 0)
    sha256 = _hashed(pieces, data)
    binary, malformed = _parse(data) if wanted and not keep else (None, None)
    member = Member(
        path=entry.path,
        size=entry.size,
        sha256=sha256,
        executable=bool(entry.mode & 0o111),
        format=_format(head, binary, malformed),
        binary=binary,
        malformed=malformed,
    )
    return member, bytes(data) if keep else b""


def _begun(pieces: Iterator[bytes]) -> tuple[bytes, Iterator[bytes]]:
    """The first eight bytes, or as many as there are; and all the bytes, in pieces."""
    first = b""
    for piece in pieces:
        first += piece
        if len(first) >= _HEAD:
            break
    return first[:_HEAD], itertools.chain((first,), pieces)


def _hashed(pieces: Iterator[bytes], room: bytearray) -> Sha256:
    """The hash of all the bytes, which are put into `room` unless that is empty."""
    digest, at = hashlib.sha256(), 0
    for piece in pieces:
        digest.update(piece)
        if room:
            room[at : at + len(piece)] = piece
            at += len(piece)
    return Sha256(digest.hexdigest())


def _parse(data: bytearray) -> tuple[Binary | None, str | None]:
    try:
        return read_binary(memoryview(data)), None
    except BinaryError as error:
        return None, error.message


def _format(head: bytes, binary: Binary | None, malformed: str | None) -> Format | None:
    if binary is None and malformed is None:
        return None
    if head[:2] == b"MZ":
        return "pe"
    return "elf" if head[:4] == b"\x7fELF" else "mach-o"


def _text(texts: dict[str, bytes], path: str) -> bytes:
    try:
        texts[path].decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused("dist-info", "the file is not UTF-8", path) from error
    return texts[path]


def _header_part(metadata: bytes) -> bytes:
    """METADATA without the description below its first empty line: long, and not asked for."""
    return _EMPTY_LINE.split(metadata, maxsplit=1)[0]


def _checked_metadata(metadata: bytes, dist_info: str) -> bytes:
    """`metadata`, refused when its headers are too many: parsing takes names times lines."""
    names = _HEADER_NAME.findall(_header_part(metadata))
    if len(names) > _MOST_HEADERS or len({name.lower() for name in names}) > _MOST_HEADER_NAMES:
        raise refused("dist-info", "it has more headers than are read", f"{dist_info}/METADATA")
    return metadata


def _headers(data: bytes) -> tuple[tuple[str, str], ...]:
    parser = email.parser.HeaderParser(policy=email.policy.compat32)
    message = parser.parsestr(data.decode("utf-8"))
    return tuple((key, str(value).strip()) for key, value in message.items())


def _rows(data: bytes) -> Iterator[RecordRow]:
    """The lines of RECORD; refuses more than there can be files, or a malformed one."""
    # Lines are short and pack well: a wheel of 70 kB could else fill the memory with rows.
    if data.count(b"\n") + data.count(b"\r") > _MOST_ROWS:
        raise refused("record", f"RECORD has more than {_MOST_ROWS} lines")
    try:
        for row in csv.reader(io.StringIO(data.decode("utf-8"), newline=""), strict=True):
            if row:
                path, digest, size = (*row, "", "", "")[:3]
                yield RecordRow(path=path, hash=digest, size=size)
    except csv.Error as error:
        raise refused("record", f"RECORD is malformed: {error}") from error


def names_agree(folder: str, name: str, version: str) -> bool:
    """Whether ``NAME-VERSION.dist-info`` says the same as a normalised name and a version."""
    found = re.fullmatch(r"(.+?)-([^-]+)\.dist-info", folder)
    return found is not None and _same(found[1], found[2], name, version)


def _same(name: str, version: str, other_name: str, other_version: str) -> bool:
    try:
        same_version = Version(version.replace("_", "+", 1)) == Version(other_version)
    except InvalidVersion:
        return False
    return canonicalize_name(name) == other_name and same_version
