"""From what is wanted to an Sdist on disk: from the cache by digest, the index, or a local file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Final

from packaging.version import InvalidVersion, Version

from builder.deposit import deposit
from builder.errors import DigestError
from builder.local import local_sdist
from builder.sdist import sdist_name
from builder.stages import Sdist
from store.channel import RELEASE, Channel, parse_channel
from store.digest import Sha256, sha256_of_file
from store.errors import MalformedError
from store.provenance import Source
from workers.requirements import Wanted, WantedFile, WantedRelease
from workers.settings import Settings

UNPINNED: Final = parse_channel("dev/unpinned")
LOCAL: Final = parse_channel("dev/local")
VCS: Final = parse_channel("dev/vcs")


def acquire(wanted: Wanted, settings: Settings) -> Sdist:
    """The sdist that `wanted` means, in the cache, its digest checked.

    A release that is pinned by hash and was fetched before needs no index. Raises what
    `builder.index` and `builder.local` raise.
    """
    sdists = settings.cache / "sdists"
    if isinstance(wanted, WantedFile):
        digest = sha256_of_file(wanted.path) if wanted.path.is_file() else "none"
        return _from(wanted, local_sdist(wanted.path, sdists / digest))
    if cached := _cached(wanted, sdists, settings.index_url):
        return cached
    # Imported here, as below: with what reads pages it is large, and what is cached needs no index.
    from builder.index import fetch_sdist, find_sdist  # noqa: PLC0415

    found = find_sdist(wanted.name, wanted.version, wanted.hashes, settings.index_url)
    place = found.sha256 or f"{found.name}-{found.version}"
    return fetch_sdist(found, sdists / place)


def keep_by_digest(sdist: Sdist, cache: Path) -> None:
    """Have the sdist lie in the cache under its digest, whatever it was fetched under."""
    place = _place(sdist.source, cache)
    if place == sdist.path or place.exists():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        place.hardlink_to(sdist.path)
    except FileExistsError:
        return  # another thread was first; the bytes are the same


def find_by_digest(source: Source, cache: Path) -> Sdist | None:
    """The sdist of that digest from the cache, read again to be sure; None when it is not there."""
    place = _place(source, cache)
    if not place.is_file() or sha256_of_file(place) != source.sha256:
        return None
    return Sdist(source=source, path=place)


def copy_by_digest(source: Source, blob: BinaryIO, cache: Path) -> Sdist:
    """Copy the sdist's bytes from `blob` into the cache. Raises DigestError for other bytes."""

    def accept(sha256: Sha256, _size: int) -> None:
        if sha256 != source.sha256:
            raise DigestError(f"{source.filename} has the digest {sha256[:12]}… in the store")

    place = _place(source, cache)
    deposit(blob, place, accept)
    return Sdist(source=source, path=place)


def place_of(sha256: Sha256, filename: str, cache: Path) -> Path:
    """Where the sdist of that digest and file name lies in the cache, if it does."""
    return cache / "sdists" / sha256 / filename


def _place(source: Source, cache: Path) -> Path:
    return place_of(source.sha256, source.filename, cache)


def _from(wanted: WantedFile, sdist: Sdist) -> Sdist:
    """The sdist with the origin that its file has for whoever asked for it."""
    if wanted.origin is None:
        return sdist
    return replace(sdist, source=replace(sdist.source, origin=wanted.origin))


def channel_for(source: Source) -> Channel:
    """The channel that wheels of `source` belong to when nobody says otherwise."""
    if source.origin.kind == "index":
        return RELEASE if source.origin.pinned else UNPINNED
    return VCS if source.origin.kind == "vcs" else LOCAL


def _cached(wanted: WantedRelease, sdists: Path, index_url: str | None) -> Sdist | None:
    for sha256 in sorted(wanted.hashes):
        for path in _files(sdists / sha256):
            if _is(path, wanted) and sha256_of_file(path) == sha256:
                return _sdist(wanted, path, sha256, index_url)
    return None


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_file())


def _is(path: Path, wanted: WantedRelease) -> bool:
    try:
        return sdist_name(path.name) == (wanted.name, Version(wanted.version))
    except (MalformedError, InvalidVersion):
        return False


def _sdist(wanted: WantedRelease, path: Path, sha256: Sha256, index_url: str | None) -> Sdist:
    from builder.index import index_origin  # noqa: PLC0415

    version = str(Version(wanted.version))
    source = Source(
        name=wanted.name,
        version=version,
        filename=path.name,
        sha256=sha256,
        origin=index_origin(index_url, pinned=True),
    )
    return Sdist(source=source, path=path)
