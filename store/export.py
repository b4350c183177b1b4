"""One index as a folder: for ``--find-links``, and for nginx as it is.

    FOLDER/NAME.whl, NAME.whl.metadata    the wheels, flat
    FOLDER/index.html                     the links page
    FOLDER/simple/…/index.html            the simple API (PEP 503)
    FOLDER/wheelfarm-export.json          which index it is

A new folder appears whole. A folder that is there is brought up to date file by file, wheels
before the pages that name them, and what is no longer listed goes last: at no moment does a
page lead nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from store import pages
from store.blobs import Blobs
from store.channel import Channel
from store.digest import Sha256
from store.disk import disk_trouble
from store.errors import MalformedError, PolicyError, UnknownIndexError
from store.fields import read_object
from store.fingerprint import Fingerprint
from store.publish import Store
from store.release import Release
from store.status import ACTIVE, ProjectStatus

_MARKER: Final = "wheelfarm-export.json"
_MARKER_LIMIT: Final = 4_096
_PAGE: Final = "index.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written: the folder, and the releases whose wheels are in it."""

    folder: Path
    releases: tuple[Release, ...]


def export(store: Store, channel: Channel, fingerprint: Fingerprint, folder: Path) -> Export:
    """Write the wheels and pages of one index to `folder`.

    Raises UnknownIndexError when there is no such index, PolicyError when `folder` holds other
    things or another index, StoreError for trouble with the disk.
    """
    releases = store.catalogue.listing(channel, fingerprint)
    if not releases:
        raise UnknownIndexError(
            f"the channel {channel} has no index for {fingerprint}",
            hint="`wheelfarm fingerprint` prints this interpreter's",
        )
    marker = _marker(channel, fingerprint)
    statuses = {
        name: store.catalogue.shown_status(channel, fingerprint, canonicalize_name(name))
        for name in _projects(releases)
    }
    with disk_trouble("write to", folder):
        if _is_own(folder, marker):
            _write(store.blobs, releases, marker, folder, statuses)
            _remove_stale(folder, releases)
        else:
            _write_new(store.blobs, releases, marker, folder, statuses)
    return Export(folder=folder, releases=tuple(releases))


def _write_new(
    blobs: Blobs,
    releases: Sequence[Release],
    marker: dict[str, str],
    folder: Path,
    statuses: Mapping[str, ProjectStatus],
) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sibling = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(blobs, releases, marker, sibling, statuses)
        sibling.chmod(0o755)
        sibling.rename(folder)
    except BaseException:
        shutil.rmtree(sibling, ignore_errors=True)
        raise


def _write(
    blobs: Blobs,
    releases: Sequence[Release],
    marker: dict[str, str],
    folder: Path,
    statuses: Mapping[str, ProjectStatus],
) -> None:
    _put_text(folder / _MARKER, json.dumps(marker) + "\n")
    for release in releases:
        _put_blob(blobs, release.sha256, folder / release.filename)
        _put_blob(blobs, release.metadata_sha256, folder / f"{release.filename}.metadata")
    for project in _projects(releases):
        own = [release for release in releases if release.name == project]
        page = pages.project_html(project, own, "../../", statuses.get(project, ACTIVE))
        _put_text(folder / "simple" / project / _PAGE, page)
    _put_text(folder / "simple" / _PAGE, pages.project_list_html(_projects(releases)))
    title = f"Links for {marker['fingerprint']} in {marker['channel']}"
    _put_text(folder / _PAGE, pages.links_html(title, releases, ""))


def _remove_stale(folder: Path, releases: Sequence[Release]) -> None:
    wanted = {release.filename for release in releases}
    for pattern in ("*.whl", "*.whl.metadata"):
        for path in folder.glob(pattern):
            if path.name.removesuffix(".metadata") not in wanted:
                path.unlink()
    for page in (folder / "simple").glob(f"*/{_PAGE}"):
        if page.parent.name not in _projects(releases):
            page.unlink()
            page.parent.rmdir()


def _projects(releases: Sequence[Release]) -> list[str]:
    return sorted({release.name for release in releases})


def _put_blob(blobs: Blobs, digest: Sha256, place: Path) -> None:
    with _temporary(place) as temporary:
        blobs.place(digest, temporary)


def _put_text(place: Path, text: str) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(place) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def _temporary(place: Path) -> Iterator[Path]:
    """A name beside `place` to write to; it gets the name `place` at the end."""
    temporary = place.with_name(f".{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        temporary.replace(place)
    finally:
        # Also after success: renaming one hard link of a file onto another does nothing (POSIX).
        temporary.unlink(missing_ok=True)


def _marker(channel: Channel, fingerprint: Fingerprint) -> dict[str, str]:
    return {"channel": channel, "fingerprint": fingerprint}


def _is_own(folder: Path, marker: dict[str, str]) -> bool:
    """Whether `folder` is an export of this index. Raises PolicyError for a foreign one."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    held = _read_marker(folder / _MARKER)
    if held == marker:
        return True
    what = "other files" if held is None else f"the export of {str(held.get('fingerprint'))[:200]}"
    raise PolicyError(
        f"{folder} holds {what}; nothing was written",
        hint="give a folder that is empty or does not exist",
    )


def _read_marker(path: Path) -> dict[str, object] | None:
    try:
        with path.open("rb") as file:
            return dict(read_object(file.read(_MARKER_LIMIT + 1), limit=_MARKER_LIMIT))
    except (OSError, MalformedError):
        return None
