"""One index as a folder: for ``--find-links``, and for nginx as it is.

    FOLDER/NAME.whl, NAME.whl.metadata    the wheels, flat
    FOLDER/NAME.whl.cdx.json              what went into each (CycloneDX)
    FOLDER/NAME.whl.intoto.jsonl          where it comes from, signed, and by which keys (keys.json)
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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name

from store import pages
from store.attestation import SUFFIX_OF_STATEMENT as STATEMENT
from store.attestation import attest
from store.blobs import Blobs
from store.channel import Channel
from store.digest import Sha256
from store.disk import disk_trouble
from store.errors import MalformedError, PolicyError, UnknownIndexError
from store.fields import read_object
from store.fingerprint import Fingerprint
from store.keyring import KeyRing
from store.publish import Store
from store.release import Release
from store.sbom import SUFFIX as BILL
from store.sbom import sbom
from store.status import ProjectStatus

_MARKER: Final = "wheelfarm-export.json"
_MARKER_LIMIT: Final = 4_096
_PAGE: Final = "index.html"
_KEYS: Final = "keys.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """What was written: the folder, and the releases whose wheels are in it."""

    folder: Path
    releases: tuple[Release, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Index:
    """What is to be written: an index, as its store has it, and who signs."""

    store: Store
    marker: Mapping[str, str]
    releases: Sequence[Release]
    keys: KeyRing | None

    @property
    def projects(self) -> list[str]:
        return sorted({release.name for release in self.releases})

    def status(self, project: str) -> ProjectStatus:
        channel, fingerprint = Channel(self.marker["channel"]), self.marker["fingerprint"]
        shown = self.store.catalogue.shown_status
        return shown(channel, Fingerprint(fingerprint), canonicalize_name(project))

    def papers(self) -> Iterator[tuple[str, str]]:
        """The name of each file beside a wheel that says whence it comes, and its text."""
        signer = self.keys.signer() if self.keys else None
        for release in self.releases:
            record = self.store.catalogue.provenance(release)
            yield f"{release.filename}{BILL}", sbom(release, record).decode()
            if signer is not None:
                statement = attest(release, record, signer).decode()
                yield f"{release.filename}{STATEMENT}", statement


def export(
    store: Store,
    channel: Channel,
    fingerprint: Fingerprint,
    folder: Path,
    keys: KeyRing | None = None,
) -> Export:
    """Write the wheels and pages of one index to `folder`; with `keys`, signed statements, too.

    Raises UnknownIndexError when there is no such index, PolicyError when `folder` holds other
    things or another index, NoSigningKeyError, StoreError for trouble with the disk.
    """
    releases = store.catalogue.listing(channel, fingerprint)
    if not releases:
        raise UnknownIndexError(
            f"the channel {channel} has no index for {fingerprint}",
            hint="`wheelfarm fingerprint` prints this interpreter's",
        )
    marker = {"channel": channel, "fingerprint": fingerprint}
    index = _Index(store=store, marker=marker, releases=releases, keys=keys)
    with disk_trouble("write to", folder):
        if _is_own(folder, marker):
            _remove_stale(index, folder, _write(index, folder))
        else:
            _write_new(index, folder)
    return Export(folder=folder, releases=tuple(releases))


def _write_new(index: _Index, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    sibling = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        _write(index, sibling)
        sibling.chmod(0o755)
        sibling.rename(folder)
    except BaseException:
        shutil.rmtree(sibling, ignore_errors=True)
        raise


def _write(index: _Index, folder: Path) -> set[str]:
    """Write everything; the names of the wheels and of what is beside them."""
    _put_text(folder / _MARKER, json.dumps(index.marker) + "\n")
    blobs, written = index.store.blobs, set()
    for release in index.releases:
        _put_blob(blobs, release.sha256, folder / release.filename)
        _put_blob(blobs, release.metadata_sha256, folder / f"{release.filename}.metadata")
        written |= {release.filename, f"{release.filename}.metadata"}
    for name, text in index.papers():
        _put_text(folder / name, text)
        written.add(name)
    for project in index.projects:
        own = [release for release in index.releases if release.name == project]
        page = pages.project_html(project, own, "../../", index.status(project))
        _put_text(folder / "simple" / project / _PAGE, page)
    _put_text(folder / "simple" / _PAGE, pages.project_list_html(index.projects))
    title = f"Links for {index.marker['fingerprint']} in {index.marker['channel']}"
    _put_text(folder / _PAGE, pages.links_html(title, index.releases, ""))
    _put_keys(folder / _KEYS, index.keys)
    return written


def _remove_stale(index: _Index, folder: Path, wanted: Collection[str]) -> None:
    for suffix in ("", ".metadata", BILL, STATEMENT):
        for path in folder.glob(f"*.whl{suffix}"):
            if path.name not in wanted:
                path.unlink()
    for page in (folder / "simple").glob(f"*/{_PAGE}"):
        if page.parent.name not in index.projects:
            page.unlink()
            page.parent.rmdir()


def _put_keys(place: Path, keys: KeyRing | None) -> None:
    if keys is None:
        place.unlink(missing_ok=True)
    else:
        _put_text(place, json.dumps(keys.public().to_json(), indent=1) + "\n")


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


def _is_own(folder: Path, marker: Mapping[str, str]) -> bool:
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
