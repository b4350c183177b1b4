"""Blobs: bytes under their SHA-256 in a local folder. Never changed, never trusted by name.

    ROOT/blobs/3f/3f9a…    one blob, read-only
    ROOT/staging/XXXXXXXX  a folder of one running publication, locked while its process lives

A blob is written in `staging`, synced, and renamed: under its final name it is whole or absent,
whatever happens to the process or the machine.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from store.digest import Sha256, copy_hashing
from store.disk import disk_trouble, locked_folder, sweep, sync_folder
from store.errors import StoreError

_READ_ONLY: Final = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The digest and the size in bytes of what is kept."""

    sha256: Sha256
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """Bytes on their way in: on disk and synced, under their own name, not yet a blob."""

    path: Path
    blob: Blob


class Blobs:
    """The blobs under one folder. Every method raises StoreError when the disk does not do it."""

    def __init__(self, root: Path) -> None:
        self._blobs = root / "blobs"
        self._staging = root / "staging"

    def prepare(self) -> None:
        """Make the folders, and remove what publications of dead processes left behind."""
        with disk_trouble("make", self._blobs):
            self._blobs.mkdir(exist_ok=True)
            self._staging.mkdir(exist_ok=True)
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
    def stage(self, source: BinaryIO, filename: str) -> Iterator[Staged]:
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
        final = self._place(staged.blob.sha256)
        with disk_trouble("write to", self._blobs):
            if not self._has(final, staged.blob):
                _make_folder(final.parent)
                staged.path.rename(final)
                sync_folder(final.parent)
        return staged.blob

    def path(self, digest: Sha256) -> Path:
        """The file that holds the blob. Raises StoreError when it is missing."""
        place = self._place(digest)
        if not place.is_file():
            raise StoreError(f"the blob {digest} is missing", hint="restore it from a backup")
        return place

    def remove(self, digest: Sha256) -> None:
        """Remove the blob. Only for one that no row names."""
        with disk_trouble("write to", self._blobs):
            self._place(digest).unlink(missing_ok=True)

    def read(self, digest: Sha256) -> bytes:
        """The bytes of a blob that is known to be small, such as metadata."""
        with disk_trouble("read", self._blobs):
            return self.path(digest).read_bytes()

    def _place(self, digest: Sha256) -> Path:
        return self._blobs / digest[:2] / digest

    def _has(self, final: Path, blob: Blob) -> bool:
        if not final.exists():
            return False
        if final.stat().st_size != blob.size:
            raise StoreError(
                f"the blob {blob.sha256} is damaged: it is not {blob.size} bytes long",
                hint="move it away and publish again, and check the disk",
            )
        return True


def _copy_synced(source: BinaryIO, path: Path) -> Blob:
    with path.open("xb") as target:
        digest, size = copy_hashing(source, target)
        target.flush()
        os.fchmod(target.fileno(), _READ_ONLY)
        os.fsync(target.fileno())
    return Blob(sha256=digest, size=size)


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        source = path.open("rb")
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    with source:
        yield source
