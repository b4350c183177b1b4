"""Blobs: bytes under their SHA-256, in a folder or in a bucket. Never changed, never trusted by
name.

    ROOT/staging/XXXXXXXX  a folder of one running publication, locked while its process lives
    ROOT/blobs/3f/3f9a…    one blob, read-only, where the blobs are in no bucket
    ROOT/quarantine/3f9a…  bytes that were found not to be those of their name

A blob is written in `staging`, synced, and moved to its shelf, which keeps it whole or not at all.
Staging is local always: a verifier needs a file.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from store.digest import Readable, Sha256, copy_hashing
from store.disk import disk_trouble, locked_folder, sweep
from store.errors import StoreError
from store.folder_shelf import FolderShelf, own_shelf
from store.shelf import Blob, Kept, Shelf, damaged, missing

_READ_ONLY: Final = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Bytes on their way in: on disk and synced, under their own name, not yet a blob."""

    path: Path
    blob: Blob


class Blobs:
    """The blobs of the store in `root`. Every method raises StoreError for trouble with the disk
    or the bucket.

    `shelf` is where they are kept; without one, in a folder of `root`.
    """

    def __init__(self, root: Path, shelf: Shelf | None = None) -> None:
        self._shelf: Shelf = shelf or own_shelf(root)
        self._staging = root / "staging"

    def prepare(self) -> None:
        """Make the folders, and remove what publications of dead processes left behind."""
        with disk_trouble("make", self._staging):
            self._staging.mkdir(exist_ok=True)
        self._shelf.prepare()
        self.sweep()

    def sweep(self) -> None:
        """Remove what publications of dead processes left behind; those under way are left."""
        sweep(self._staging)

    def put(self, source: BinaryIO) -> Blob:
        """Keep the rest of `source`."""
        with self.stage(source, "blob") as staged:
            return self.adopt(staged)

    def put_bytes(self, data: bytes) -> Blob:
        """Keep `data`."""
        return self.put(io.BytesIO(data))

    def put_file(self, path: Path) -> Blob:
        """Keep the bytes of the file at `path`."""
        with _opened(path) as source:
            return self.put(source)

    @contextmanager
    def stage_file(self, path: Path, filename: str) -> Iterator[Staged]:
        """`stage` for the bytes of the file at `path`."""
        with _opened(path) as source, self.stage(source, filename) as staged:
            yield staged

    @contextmanager
    def stage(self, source: Readable, filename: str) -> Iterator[Staged]:
        """A synced copy of the rest of `source`, called `filename`, in the store's file system.

        It is gone after the ``with`` block unless `adopt` took it. `filename` must be a plain
        file name.
        """
        with locked_folder(self._staging) as folder:
            path = folder / filename
            with disk_trouble("write to", self._staging):
                blob = _copy_synced(source, path)
            yield Staged(path=path, blob=blob)

    def adopt(self, staged: Staged) -> Blob:
        """Make the staged bytes a blob. When the store has them already, nothing changes."""
        self._shelf.keep(staged.path, staged.blob)
        return staged.blob

    def copy(self, blob: Blob, source: Blobs) -> bool:
        """Keep the bytes that `source` has of the blob; whether they were those of its name.

        Raises StoreError for trouble with reading or writing them, and where they are not there.
        """
        pieces = source.part(blob.sha256, 0, blob.size - 1)
        with self.stage(Pieces(pieces), "blob") as staged:
            if staged.blob == blob:
                self.adopt(staged)
            return staged.blob == blob

    @property
    def local(self) -> bool:
        """Whether each blob is a file of this machine."""
        return isinstance(self._shelf, FolderShelf)

    def path(self, digest: Sha256) -> Path:
        """The file that holds the blob. Raises StoreError when it is missing, or in a bucket."""
        place = self._shelf.file(digest)
        if place is None or not place.is_file():
            raise missing(digest)
        return place

    def size(self, digest: Sha256) -> int:
        """The size of the blob in bytes. Raises StoreError when it is missing."""
        size = self._shelf.size(digest)
        if size is None:
            raise missing(digest)
        return size

    def has(self, blob: Blob) -> bool:
        """Whether the bytes are there this moment, asked of the disk or the bucket itself.

        A file is opened for it: on a network's file system a mere look may be of a minute ago.
        """
        place = self._shelf.file(blob.sha256)
        if place is None:
            return self._shelf.size(blob.sha256) == blob.size
        try:
            with place.open("rb") as file:
                return os.fstat(file.fileno()).st_size == blob.size
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise StoreError(f"cannot read {place}: {error.strerror}") from error

    def read(self, digest: Sha256) -> bytes:
        """The bytes of a blob that is known to be small, such as metadata; their digest holds."""
        return b"".join(self.stream(digest))

    def stream(self, digest: Sha256) -> Iterator[bytes]:
        """The bytes of the blob in pieces; the last one comes only once the digest holds."""
        return self._held(digest, self.size(digest))

    def _held(self, digest: Sha256, size: int) -> Iterator[bytes]:
        seen, held = hashlib.sha256(), b""
        for piece in self._shelf.read(digest, 0, size - 1):
            if held:
                yield held
            seen.update(piece)
            held = piece
        if seen.hexdigest() != digest:
            raise damaged(digest)
        yield held

    def part(self, digest: Sha256, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, in pieces. A part cannot be held against the digest."""
        return self._shelf.read(digest, first, last)

    def place(self, digest: Sha256, path: Path) -> None:
        """Let the new file `path` have the bytes of the blob.

        A hard link where the file system allows one, else a copy; from a bucket, its digest held.
        """
        if self.local:
            _link_or_copy(self.path(digest), path)
            return
        with disk_trouble("write to", path.parent), path.open("xb") as file:
            file.writelines(self.stream(digest))

    @contextmanager
    def opened(self, digest: Sha256) -> Iterator[BinaryIO]:
        """The blob as a file to read; from a bucket, a copy whose digest holds."""
        with locked_folder(self._staging) as folder:
            self.place(digest, folder / "blob")
            with _opened(folder / "blob") as file:
                yield file

    def link(self, digest: Sha256, method: str, seconds: int) -> str:
        """A URL that gives the blob in a bucket to anyone who asks with `method` for `seconds`."""
        link = self._shelf.link(digest, method, seconds)
        assert link is not None, "blobs in a folder have no address of their own"
        return link

    def remove(self, digest: Sha256) -> None:
        """Remove the blob. Only for one that no row names."""
        self._shelf.remove(digest)

    def set_aside(self, digest: Sha256) -> None:
        """Move a blob whose bytes are not its own out of the way, to be looked at."""
        self._shelf.set_aside(digest)

    def each(self) -> Iterator[Kept]:
        """Every blob with its size and age, in no order."""
        return self._shelf.each()


class Pieces:
    """Pieces of bytes, to be read like a file that is copied."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces

    def read(self, _most: int) -> bytes:
        """The next piece, which may be longer; empty at the end."""
        return next(self._pieces, b"")


def _copy_synced(source: Readable, path: Path) -> Blob:
    with path.open("xb") as target:
        digest, size = copy_hashing(source, target)
        target.flush()
        os.fchmod(target.fileno(), _READ_ONLY)
        os.fsync(target.fileno())
    return Blob(sha256=digest, size=size)


def _link_or_copy(blob: Path, path: Path) -> None:
    try:
        path.hardlink_to(blob)
    except OSError:
        shutil.copyfile(blob, path)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        source = path.open("rb")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    with source:
        yield source
