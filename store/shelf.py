"""What a shelf is: the place behind `store.blobs` that keeps bytes, a folder or a bucket.

Both keep the same promise: under its digest a blob is whole or absent, and never overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from store.digest import Sha256
from store.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The digest and the size in bytes of what is kept."""

    sha256: Sha256
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A blob as its shelf lists it; `since` is when it was put there, in UTC."""

    blob: Blob
    since: datetime


class Shelf(Protocol):
    """Keeps blobs. Every method raises StoreError when the disk or the bucket does not do it."""

    def prepare(self) -> None:
        """Make ready for use, and remove what dead processes left half done."""
        ...

    def keep(self, file: Path, blob: Blob) -> None:
        """Keep the bytes of `file`, which are `blob`, unless the blob is there. May move `file`."""
        ...

    def size(self, digest: Sha256) -> int | None:
        """The size of the blob in bytes; None when it is absent."""
        ...

    def read(self, digest: Sha256, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, both counted from 0 and included, in pieces."""
        ...

    def remove(self, digest: Sha256) -> None:
        """Remove the blob; absent ones are no trouble."""
        ...

    def set_aside(self, digest: Sha256) -> None:
        """Move the blob to where its name is ``quarantine/DIGEST``, unless it is absent."""
        ...

    def each(self) -> Iterator[Kept]:
        """Every blob, in no order; what is not named like a blob is passed over."""
        ...

    def file(self, digest: Sha256) -> Path | None:
        """The file of this machine that holds, or would hold, the blob; None for a bucket."""
        ...

    def link(self, digest: Sha256, method: str, seconds: int) -> str | None:
        """A URL that gives the blob to anyone who asks it with `method` for so long; None for a
        folder."""
        ...


def place_of(digest: Sha256) -> str:
    """Where a shelf keeps the blob, from its root: ``3f/3f9a…``."""
    return f"{digest[:2]}/{digest}"


def check_size(blob: Blob, size: int | None) -> bool:
    """Whether a blob of `size` bytes that is there is `blob`. Raises StoreError if it cannot be."""
    if size is not None and size != blob.size:
        raise StoreError(
            f"the blob {blob.sha256} is damaged: it is not {blob.size} bytes long",
            hint="move it away and publish again, and check the disk",
        )
    return size is not None


def missing(digest: Sha256) -> StoreError:
    """The error for a blob that a row names and no shelf has."""
    return StoreError(f"the blob {digest} is missing", hint="restore it from a backup")


def damaged(digest: Sha256) -> StoreError:
    """The error for bytes that are not those of their name."""
    return StoreError(
        f"the blob {digest} is damaged: its bytes have another digest",
        hint="restore it from a backup, and ask who can write to where the blobs are kept",
    )
