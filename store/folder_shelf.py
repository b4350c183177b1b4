"""A shelf in a local folder: ``FOLDER/3f/3f9a…``, one read-only file for each blob.

A blob arrives by a synced rename: under its final name it is whole or absent, whatever happens
to the process or the machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from store.digest import Sha256, parse_sha256
from store.disk import disk_trouble, sync_folder
from store.errors import MalformedError
from store.shelf import Blob, Kept, check_size, place_of

_PIECE: Final = 1 << 20


class FolderShelf:
    """A `Shelf` on the disk of this machine."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def prepare(self) -> None:
        """Make the folder."""
        with disk_trouble("make", self._root):
            self._root.mkdir(exist_ok=True)

    def keep(self, file: Path, blob: Blob) -> None:
        """Rename `file`, synced already and in the same file system, to its blob."""
        final = self.file(blob.sha256)
        with disk_trouble("write to", self._root):
            if not check_size(blob, self.size(blob.sha256)):
                _make_folder(final.parent)
                file.rename(final)
                sync_folder(final.parent)

    def size(self, digest: Sha256) -> int | None:
        """The size of the file in bytes; None when there is none."""
        with disk_trouble("read", self._root), suppress(FileNotFoundError, NotADirectoryError):
            return self.file(digest).stat().st_size
        return None

    def read(self, digest: Sha256, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, in pieces of at most 1 MiB."""
        with disk_trouble("read", self._root), self.file(digest).open("rb") as file:
            file.seek(first)
            left = last + 1 - first
            while left > 0 and (piece := file.read(min(left, _PIECE))):
                yield piece
                left -= len(piece)

    def remove(self, digest: Sha256) -> None:
        """Remove the file for good: the folder is synced."""
        file = self.file(digest)
        with disk_trouble("write to", self._root), suppress(FileNotFoundError):
            file.unlink()
            sync_folder(file.parent)

    def set_aside(self, digest: Sha256) -> None:
        """Rename the file into the folder ``quarantine`` beside the shelf's."""
        file, aside = self.file(digest), self._root.parent / "quarantine"
        with disk_trouble("write to", aside), suppress(FileNotFoundError):
            aside.mkdir(exist_ok=True)
            file.rename(aside / digest)
            sync_folder(aside)
            sync_folder(file.parent)

    def each(self, prefix: str = "[0-9a-f][0-9a-f]") -> Iterator[Kept]:
        """Every file with the name of a blob, in the place of a blob; those of a `prefix`."""
        with disk_trouble("read", self._root):
            for file in self._root.glob(f"{prefix}/*"):
                if kept := self._kept(file):
                    yield kept

    def file(self, digest: Sha256) -> Path:
        """The file that holds, or would hold, the blob."""
        return self._root / place_of(digest)

    def link(self, digest: Sha256, method: str, seconds: int) -> None:  # noqa: ARG002
        """None: a folder has no address of its own."""
        return

    def _kept(self, file: Path) -> Kept | None:
        with suppress(MalformedError, FileNotFoundError):
            digest = parse_sha256(file.name)
            if file == self.file(digest):
                stat = file.stat()
                since = datetime.fromtimestamp(stat.st_mtime, UTC)
                return Kept(blob=Blob(sha256=digest, size=stat.st_size), since=since)
        return None


def own_shelf(root: Path) -> FolderShelf:
    """The shelf in the folder of the store itself."""
    return FolderShelf(root / "blobs")


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
