"""Unpack a hostile archive: what it may name, how much it may hold, and where it may write.

Files are written by us, one by one; tarfile and zipfile only read. Links come last, when
nothing is written any more, and each is resolved and has to end inside the folder. tarfile's
own ``data`` filter (PEP 706) is asked as well where the interpreter has one (3.11.4 on), but not
relied upon: it was passed by crafted links more than once (CVE-2025-4517 and its siblings).
"""

from __future__ import annotations

import calendar
import gzip
import os
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Final, Literal

from builder.errors import ArchiveError

EntryKind = Literal["file", "folder", "symlink", "hardlink"]

_CHUNK: Final = 1 << 18
_LONGEST_NAME: Final = 1024
_LARGEST_HEADER: Final = 1 << 20
_LARGEST_DIRECTORY: Final = 32 << 20
_FOREIGN_TROUBLE: Final = (
    EOFError, OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, ValueError,
    NotImplementedError, RuntimeError, OverflowError, RecursionError,
)  # fmt: skip
"""What gzip, zlib, tarfile and zipfile raise over bytes that are not what they should be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """What an archive may hold: number of members, bytes of one and of all together."""

    members: int = 100_000
    links: int = 2_000
    member_bytes: int = 1 << 30
    total_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One member: where it goes, what it is, and how to read its bytes.

    `target` is what a link points to, as the archive writes it. `mtime` is in seconds since 1970.
    """

    name: PurePosixPath
    kind: EntryKind
    size: int
    executable: bool
    mtime: int
    open: Callable[[], IO[bytes]]
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpacked:
    """What was written: the one top folder, and the newest time of any member (seconds)."""

    tree: Path
    newest_mtime: int


def unpack_archive(archive: Path, into: Path, limits: ArchiveLimits | None = None) -> Unpacked:
    """Unpack `archive` (``.tar.gz`` or ``.zip``), which has one top folder, below `into`.

    Raises ArchiveError when the archive is corrupt, hostile or beyond `limits`, OSError when
    `into` cannot be written. After an error, `into` may hold part of it.
    """
    into = into.resolve()
    writer = _Writer(root=into, limits=limits or ArchiveLimits())
    for entry in _reading(archive, entries_of(archive, writer.limits)):
        writer.take(entry)
    writer.finish()
    return Unpacked(tree=into / writer.top(), newest_mtime=writer.newest)


def entries_of(archive: Path, limits: ArchiveLimits) -> Iterator[Entry]:
    """The members of `archive` in its order; each is to be read before the next is asked for.

    Raises ArchiveError, or what `_FOREIGN_TROUBLE` lists, over a corrupt archive.
    """
    if archive.name.endswith(".zip"):
        yield from _zip_entries(archive)
    else:
        yield from _tar_entries(archive, limits)


def read_member(archive: Path, name: str, most: int) -> bytes | None:
    """The bytes of ``TOP/name`` for the archive's top folder; None when there is no such member.

    Raises ArchiveError when the archive is corrupt or the member is larger than `most` bytes.
    """
    for entry in _reading(archive, entries_of(archive, ArchiveLimits())):
        if entry.kind == "file" and len(entry.name.parts) == 2 and entry.name.name == name:
            if entry.size > most:
                raise ArchiveError(f"{entry.name} is larger than {most} bytes")
            try:
                with entry.open() as source:
                    return source.read(most)
            except _FOREIGN_TROUBLE as error:
                raise _corrupt(archive, error) from error
    return None


def _reading(archive: Path, entries: Iterator[Entry]) -> Iterator[Entry]:
    """`entries`, with the errors of the reading libraries as ArchiveError."""
    while True:
        try:
            entry = next(entries, None)
        except _FOREIGN_TROUBLE as error:
            raise _corrupt(archive, error) from error
        if entry is None:
            return
        yield entry


def _corrupt(archive: Path, error: BaseException) -> ArchiveError:
    if isinstance(error, EOFError):
        return ArchiveError(
            f"{archive.name} is cut off: it ends in the middle of its data",
            hint="download it again, and compare its size and SHA-256",
        )
    return ArchiveError(f"{archive.name} is corrupt: {str(error)[:200] or type(error).__name__}")


# --- tar.gz ------------------------------------------------------------------------------------


class _Bounded:
    """A decompressed stream that gives no more than `total` bytes, and no header over 1 MiB.

    tarfile reads a pax header or a long name in one piece, as large as the header claims.
    """

    def __init__(self, raw: gzip.GzipFile, total: int) -> None:
        self._raw = raw
        self._total = total

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > _LARGEST_HEADER:
            raise ArchiveError("a header of the archive claims more than 1 MiB")
        data = self._raw.read(size)
        if self._raw.tell() > self._total:
            raise ArchiveError(f"the archive unpacks to more than {self._total} bytes")
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        if whence == os.SEEK_SET and offset > self._total:
            raise ArchiveError(f"the archive unpacks to more than {self._total} bytes")
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def drain(self) -> None:
        """Read to the end, so that the checksum at the end of the gzip stream is held to."""
        while self.read(_CHUNK):
            pass


def _tar_entries(archive: Path, limits: ArchiveLimits) -> Iterator[Entry]:
    # Headers and padding: two blocks for each member, and some for pax records.
    total = limits.total_bytes + limits.members * 2048
    with gzip.open(archive, "rb") as raw:
        assert isinstance(raw, gzip.GzipFile)
        stream = _Bounded(raw, total)
        with tarfile.open(fileobj=_as_file(stream), mode="r:") as tar:
            for count, member in enumerate(tar):
                if count >= limits.members:
                    raise ArchiveError(f"the archive has more than {limits.members} members")
                yield _tar_entry(tar, member)
        stream.drain()


def _as_file(stream: _Bounded) -> Any:
    return stream


def _tar_entry(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Entry:
    name = safe_name(member.name)
    kind = _tar_kind(member)
    _ask_data_filter(member)

    def open_member() -> IO[bytes]:
        opened = tar.extractfile(member)
        assert opened is not None
        return opened

    return Entry(
        name=name, kind=kind, size=member.size if kind == "file" else 0,
        executable=bool(member.mode & 0o100), mtime=_whole_seconds(member.mtime),
        open=open_member, target=member.linkname,
    )  # fmt: skip


def _tar_kind(member: tarfile.TarInfo) -> EntryKind:
    if member.issparse():
        raise ArchiveError(f"{member.name[:200]!r} is a sparse file, which no sdist needs")
    if member.isreg():
        return "file"
    if member.isdir():
        return "folder"
    if member.issym():
        return "symlink"
    if member.islnk():
        return "hardlink"
    raise ArchiveError(f"{member.name[:200]!r} is a device, a pipe or of an unknown kind")


def _ask_data_filter(member: tarfile.TarInfo) -> None:
    data_filter = getattr(tarfile, "data_filter", None)
    if data_filter is None:
        return
    try:
        data_filter(member, "/wheelfarm-unpacks-here")
    except tarfile.TarError as error:
        raise ArchiveError(f"tarfile's data filter refuses a member: {str(error)[:200]}") from error


def _whole_seconds(mtime: float) -> int:
    return int(min(max(mtime, 0), 2**33))


# --- zip ---------------------------------------------------------------------------------------


def _zip_entries(archive: Path) -> Iterator[Entry]:
    _bound_directory(archive)
    with zipfile.ZipFile(archive) as opened:
        for info in opened.infolist():
            yield _zip_entry(opened, info)


def _bound_directory(archive: Path) -> None:
    """Refuse a huge table of contents before zipfile reads it whole into memory."""
    with archive.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - (1 << 16) - 22))
        tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    if end < 0 or b"PK\x06\x07" in tail:
        raise ArchiveError(f"{archive.name} is cut off, no zip file, or in the zip64 form")
    if int.from_bytes(tail[end + 12 : end + 16], "little") > _LARGEST_DIRECTORY:
        raise ArchiveError(f"the table of contents of {archive.name} is too large")


def _zip_entry(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    # zipfile cuts a name at NUL; what it cut off is in orig_filename.
    name = safe_name(info.orig_filename)
    mode = info.external_attr >> 16
    if info.flag_bits & 0x1:
        raise ArchiveError(f"{name} is encrypted")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"{name} is packed by method {info.compress_type}, not deflate")
    kind = _zip_kind(info, mode)
    target = _zip_target(opened, info) if kind == "symlink" else ""
    return Entry(
        name=name, kind=kind, size=info.file_size if kind == "file" else 0,
        executable=bool(mode & 0o100), mtime=_zip_seconds(info),
        open=lambda: opened.open(info), target=target,
    )  # fmt: skip


def _zip_kind(info: zipfile.ZipInfo, mode: int) -> EntryKind:
    kind = stat.S_IFMT(mode)
    if info.is_dir() or kind == stat.S_IFDIR:
        return "folder"
    if kind in (0, stat.S_IFREG):
        return "file"
    if kind == stat.S_IFLNK:
        return "symlink"
    raise ArchiveError(f"{info.filename[:200]!r} is a device, a pipe or of an unknown kind")


def _zip_target(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    with opened.open(info) as source:
        return source.read(_LONGEST_NAME + 1).decode("utf-8")


def _zip_seconds(info: zipfile.ZipInfo) -> int:
    # Zip files carry a local time without its zone; read as UTC it is at least the same for all.
    return max(0, calendar.timegm((*info.date_time, 0, 0, 0)))


# --- names -------------------------------------------------------------------------------------


def safe_name(name: str) -> PurePosixPath:
    """`name` as a relative path without ``..``. Raises ArchiveError for every other name."""
    shown = ascii(name[:200])
    if not name or len(name) > _LONGEST_NAME:
        raise ArchiveError(f"a member's name is empty or too long: {shown}")
    if "\\" in name or any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise ArchiveError(f"a member's name holds a backslash or control characters: {shown}")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ArchiveError(f"a member would be written outside of the folder: {shown}")
    return path


def _collision_key(path: PurePosixPath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()


# --- writing -----------------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class _Writer:
    """Writes entries below `root`, and counts."""

    root: Path
    limits: ArchiveLimits
    newest: int = 0
    _members: int = 0
    _bytes: int = 0
    _seen: dict[str, tuple[PurePosixPath, EntryKind]] = field(default_factory=dict)
    _links: list[Entry] = field(default_factory=list)

    def take(self, entry: Entry) -> None:
        self._count(entry)
        self._claim(entry.name, entry.kind)
        for parent in list(entry.name.parents)[:-1]:
            self._claim(parent, "folder")
        if entry.kind == "folder":
            (self.root / entry.name).mkdir(parents=True, exist_ok=True)
        elif entry.kind == "file":
            self._write(entry)
        elif entry.kind == "hardlink":
            self._copy(entry)
        else:
            self._links.append(entry)

    def finish(self) -> None:
        """Make the symbolic links, and make sure that none leads out."""
        if len(self._links) > self.limits.links:
            raise ArchiveError(f"the archive has more than {self.limits.links} links")
        for link in self._links:
            _refuse_bad_target(link)
            (self.root / link.name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / link.name).symlink_to(link.target)
        top = self.root / self.top()
        for link in self._links:
            _refuse_escape(self.root / link.name, link, top)

    def top(self) -> str:
        """The name of the one top folder. Raises ArchiveError when it is not one folder."""
        tops = {path.parts[0] for path, _kind in self._seen.values()}
        if len(tops) != 1:
            raise ArchiveError(f"an sdist has one top folder; this one has {len(tops)}")
        (top,) = tops
        if not (self.root / top).is_dir() or (self.root / top).is_symlink():
            raise ArchiveError(f"the top of the archive is not a folder: {top!r}")
        return top

    def _count(self, entry: Entry) -> None:
        self._members += 1
        self.newest = max(self.newest, entry.mtime)
        if self._members > self.limits.members:
            raise ArchiveError(f"the archive has more than {self.limits.members} members")
        if entry.size > self.limits.member_bytes:
            raise ArchiveError(f"{entry.name} is larger than {self.limits.member_bytes} bytes")

    def _claim(self, name: PurePosixPath, kind: EntryKind) -> None:
        """Take `name` for a member of `kind`; only a folder may be named again."""
        key = _collision_key(name)
        before = self._seen.get(key)
        if before is None:
            self._seen[key] = (name, kind)
        elif before != (name, "folder") or kind != "folder":
            raise ArchiveError(f"two members are written to one place: {before[0]} and {name}")

    def _write(self, entry: Entry) -> None:
        target = self.root / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with entry.open() as source:
            self._pour(source, target, entry)

    def _copy(self, entry: Entry) -> None:
        """A hard link becomes a copy of the file, which must have come before it."""
        original = safe_name(entry.target)
        if self._seen.get(_collision_key(original)) != (original, "file"):
            raise ArchiveError(f"{entry.name} is a hard link to what is no file before it")
        target = self.root / entry.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with (self.root / original).open("rb") as source:
            self._pour(source, target, entry)

    def _pour(self, source: IO[bytes], target: Path, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        written = 0
        with os.fdopen(os.open(target, flags, 0o755 if entry.executable else 0o644), "wb") as sink:
            while chunk := self._read(source, entry):
                written += len(chunk)
                self._spend(len(chunk))
                sink.write(chunk)
        if entry.kind == "file" and written != entry.size:
            raise ArchiveError(f"{entry.name} holds {written} bytes and claims {entry.size}")
        os.utime(target, (entry.mtime, entry.mtime))

    def _read(self, source: IO[bytes], entry: Entry) -> bytes:
        try:
            return source.read(_CHUNK)
        except _FOREIGN_TROUBLE as error:
            raise ArchiveError(f"{entry.name} is corrupt or cut off: {str(error)[:200]}") from error

    def _spend(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self.limits.total_bytes:
            raise ArchiveError(f"the archive unpacks to more than {self.limits.total_bytes} bytes")


def _refuse_bad_target(link: Entry) -> None:
    if not link.target or len(link.target) > _LONGEST_NAME or link.target.startswith("/"):
        raise ArchiveError(f"{link.name} is a link to an absolute, empty or too long path")
    if "\0" in link.target:
        raise ArchiveError(f"{link.name} is a link to a path that holds a NUL")


def _refuse_escape(path: Path, link: Entry, top: Path) -> None:
    """Follow a link to its end, through others; a link to nothing is taken away again."""
    try:
        end = path.resolve(strict=True)
    except FileNotFoundError:
        end = path.resolve()
        # What it names is not there, so nobody can read it; but a build might create it.
        path.unlink()
    except (OSError, RuntimeError) as error:
        raise ArchiveError(f"{link.name} is a link that cannot be followed") from error
    if not end.is_relative_to(top):
        raise ArchiveError(f"{link.name} is a link that leaves the folder: {link.target!a}")
