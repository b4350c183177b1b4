"""Which bucket a store has, and which store a bucket: written down on both sides.

    ROOT/blobs.json      {"blobs": "s3://…", "store": ID}, for a store whose blobs are in a bucket
    PREFIX/store.json    {"store": ID}

Two stores on one bucket would each take the other's blobs for garbage, and a store that is opened
with other blobs than its own lists files that are not there.
"""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from store.disk import disk_trouble, locked, sync_folder
from store.errors import MalformedError, NotAStoreError, UsageError
from store.fields import Fields, read_object
from store.folder_shelf import FolderShelf
from store.shelf import Shelf

if TYPE_CHECKING:
    from store.bucket_shelf import BucketShelf

MARKER: Final = "blobs.json"
_FOLDER: Final = "blobs"
_LIMIT: Final = 4_096
_ID: Final = "[0-9a-f]{32}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marker:
    blobs: str
    store: str


def shelf_of(root: Path, url: str | None) -> Shelf:
    """The shelf of the store in `root`; where `url` names a bucket, one that is this store's.

    Without `url` it is the bucket that the store has, or its own folder. Raises NotAStoreError
    when store and bucket are not each other's; MalformedError for what names no bucket;
    StoreError for trouble with disk or bucket.
    """
    marker = _read(root)
    if marker is None and url is None:
        return FolderShelf(root / _FOLDER)
    bucket = _bucket(url or (marker.blobs if marker else ""))
    with locked(root):  # two processes may begin one store
        marker = _read(root)
        if marker is None:
            _begin(root, bucket)
        else:
            _check(root, marker, bucket)
    return bucket


def _bucket(url: str) -> BucketShelf:
    try:
        # An extra, and 16 MB that a store in a folder does without.
        from store.bucket_shelf import BucketShelf  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(
            "blobs in a bucket need the package obstore",
            hint="install wheelfarm with its extra: `pip install 'wheelfarm[objects]'`",
        ) from error
    return BucketShelf(url)


def _begin(root: Path, bucket: BucketShelf) -> None:
    """Claim the bucket for the store in `root`, the store's own marker first: a crash between
    the two leaves a store that claims its bucket at the next start."""
    if any((root / _FOLDER).glob("*")):
        raise NotAStoreError(
            f"the store in {root} has its blobs in its folder, not in {bucket.url}",
            hint="leave `blobs` and $WHEELFARM_BLOBS unset for it, or move them: see docs/store.md",
        )
    marker = _Marker(blobs=bucket.url, store=uuid.uuid4().hex)
    _write(root, marker)
    try:
        _claim(bucket, marker)
    except BaseException:
        (root / MARKER).unlink(missing_ok=True)
        raise


def _check(root: Path, marker: _Marker, bucket: BucketShelf) -> None:
    if bucket.url != marker.blobs:
        raise NotAStoreError(
            f"the store in {root} has its blobs in {marker.blobs}, not in {bucket.url}",
            hint="leave `blobs` and $WHEELFARM_BLOBS unset: the store knows its bucket",
        )
    _claim(bucket, marker)


def _claim(bucket: BucketShelf, marker: _Marker) -> None:
    held = bucket.claim(json.dumps({"store": marker.store}).encode() + b"\n")
    try:
        owner = Fields(read_object(held, limit=_LIMIT)).text("store", _ID)
    except MalformedError as error:
        raise NotAStoreError(
            f"{bucket.url}/store.json does not say whose bucket it is",
            hint="give a prefix of its own to this store",
        ) from error
    if owner != marker.store:
        raise NotAStoreError(
            f"{bucket.url} holds the blobs of another store",
            hint="give a prefix of its own to this store",
        )


def _read(root: Path) -> _Marker | None:
    path = root / MARKER
    with disk_trouble("read", path):
        if not path.exists():
            return None
        with path.open("rb") as file:
            held = file.read(_LIMIT + 1)
    try:
        fields = Fields(read_object(held, limit=_LIMIT))
        return _Marker(blobs=fields.text("blobs"), store=fields.text("store", _ID))
    except MalformedError as error:
        raise NotAStoreError(
            f"{path} does not say where the store's blobs are: {error.message}",
            hint="restore it from a backup",
        ) from error


def _write(root: Path, marker: _Marker) -> None:
    new = root / f"{MARKER}.new"
    with disk_trouble("write to", root):
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps({"blobs": marker.blobs, "store": marker.store}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(root / MARKER)
        sync_folder(root)
