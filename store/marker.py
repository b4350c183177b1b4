"""The file by which a folder or a bucket says whose it is.

    FOLDER/store.json    {"store": ID, "catalogue": "sqlite" or "postgresql", "blobs": "s3://…"}
    BUCKET/store.json    {"store": ID}

A folder with its catalogue and its blobs in it needs none. ``blobs`` is there for a bucket only.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from store.disk import disk_trouble, sync_folder
from store.errors import MalformedError, NotAStoreError
from store.fields import Fields, read_object

MARKER: Final = "store.json"
LARGEST: Final = 4_096
"""Bytes of a marker, at most."""
_ID: Final = "[0-9a-f]{32}"
_ENGINES: Final = ("sqlite", "postgresql")


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """What a folder says: the store's id, and where its catalogue and its blobs are.

    `blobs` is the URL of a bucket, None for the folder itself.
    """

    store: str
    in_postgresql: bool
    blobs: str | None


def store_named_in(marker: bytes) -> str:
    """The id in the marker of a bucket. Raises MalformedError when it has none."""
    return Fields(read_object(marker, limit=LARGEST)).text("store", _ID)


def marker_naming(store: str) -> bytes:
    """The marker of a bucket."""
    return json.dumps({"store": store}).encode() + b"\n"


def read_marker(folder: Path) -> Marker | None:
    """The marker of `folder`, None when it has none.

    Raises NotAStoreError for one that cannot be read in full.
    """
    path = folder / MARKER
    with disk_trouble("read", path):
        if not path.exists():
            return None
        with path.open("rb") as file:
            held = file.read(LARGEST + 1)
    try:
        return _parse(Fields(read_object(held, limit=LARGEST)))
    except MalformedError as error:
        raise NotAStoreError(
            f"{path} does not say which store it is: {error.message}",
            hint="restore it from a backup",
        ) from error


def write_marker(folder: Path, marker: Marker) -> None:
    """Put the marker in place, whole and synced."""
    said = {"store": marker.store, "catalogue": _ENGINES[marker.in_postgresql]}
    if marker.blobs is not None:
        said["blobs"] = marker.blobs
    new = folder / f"{MARKER}.new"
    with disk_trouble("write to", folder):
        with new.open("w", encoding="utf-8") as file:
            file.write(json.dumps(said) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(folder / MARKER)
        sync_folder(folder)


def _parse(fields: Fields) -> Marker:
    return Marker(
        store=fields.text("store", _ID),
        in_postgresql=fields.choice("catalogue", _ENGINES) == "postgresql",
        blobs=fields.text("blobs") if fields.has("blobs") else None,
    )
