"""Find an sdist in a package index, and fetch it: the simple API (PEP 503, 691, 592, 700)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage, ProjectPage

from builder.errors import DigestError, NoSdistError, NoSuchProjectError, NoSuchVersionError
from builder.stages import Sdist
from builder.wire import (
    Limit,
    checked_url,
    fetch_file,
    project_page,
    sha256_listed,
    without_secrets,
)
from store.digest import Sha256, parse_sha256, sha256_of_file
from store.errors import MalformedError
from store.provenance import Origin, Source

_SDIST: Final = Limit(most=1 << 30, seconds=1800.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSdist:
    """One sdist that an index lists.

    `sha256` is the index's word, or the one pinned digest where the index gives none; None when
    several were pinned and the index is silent: then one of `pinned` must turn out right.
    `yanked` is the reason given (PEP 592), maybe empty, or None when the file is not yanked.
    """

    name: str
    version: str
    filename: str
    url: str
    sha256: Sha256 | None
    pinned: frozenset[Sha256]
    yanked: str | None
    index_url: str


def find_sdist(
    name: str, version: str, hashes: Collection[str] = (), index_url: str | None = None
) -> FoundSdist:
    """The sdist of ``name==version`` in the index, one of `hashes` (SHA-256) when there are any.

    An exact version may be yanked (PEP 592). `index_url` None is the index that pip uses.
    Raises NoSuchProjectError, NoSuchVersionError, NoSdistError (only wheels), DigestError (no
    sdist has one of `hashes`, or there is no hash at all), IndexUnreachableError,
    MalformedError for a version or hash that is none.
    """
    wanted, pinned = _version(version), frozenset(parse_sha256(text) for text in hashes)
    index_url = checked_url(index_url or PYPI_SIMPLE_ENDPOINT)
    page = project_page(index_url, name)
    sdists = _sdists_of(page, name, wanted)
    chosen = _choose(sdists, pinned, f"{name}=={version}")
    return _found(chosen, pinned, index_url)


def has_project(name: str, index_url: str | None = None) -> bool:
    """Whether the index knows a project of that name, asked now. Raises IndexUnreachableError."""
    try:
        project_page(checked_url(index_url or PYPI_SIMPLE_ENDPOINT), name)
    except NoSuchProjectError:
        return False
    return True


def fetch_sdist(found: FoundSdist, folder: Path) -> Sdist:
    """Fetch `found` into `folder`, its hash checked while it is copied.

    What is there already under that name, with the right hash, is not fetched again. Raises
    DigestError, IndexUnreachableError, OSError; nothing is left under the final name then.
    """
    target = folder / found.filename
    if found.sha256 and target.is_file() and sha256_of_file(target) == found.sha256:
        return _sdist(found, target, found.sha256)

    def accept(sha256: Sha256, _size: int) -> None:
        _refuse_other_bytes(found, sha256)

    path, sha256 = fetch_file(found.url, found.index_url, target, _SDIST, accept)
    return _sdist(found, path, sha256)


def _sdist(found: FoundSdist, path: Path, sha256: Sha256) -> Sdist:
    origin = index_origin(found.index_url, pinned=bool(found.pinned))
    source = Source(
        name=found.name, version=found.version, filename=found.filename, sha256=sha256,
        origin=origin,
    )  # fmt: skip
    return Sdist(source=source, path=path)


def _refuse_other_bytes(found: FoundSdist, sha256: Sha256) -> None:
    right = {found.sha256} if found.sha256 else found.pinned
    if sha256 not in right:
        raise DigestError(
            f"{found.filename} from the index has SHA-256 {sha256}, expected "
            + " or ".join(sorted(map(str, right))),
            hint="a mirror may be broken, or somebody changed the file; do not build it",
        )


def index_origin(index_url: str | None, *, pinned: bool) -> Origin:
    """The origin of an sdist from `index_url`; None is the index that pip uses."""
    location = without_secrets(index_url or PYPI_SIMPLE_ENDPOINT)
    return Origin(kind="index", location=location, pinned=pinned)


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion as error:
        raise MalformedError(f"not a version (PEP 440): {text[:80]!r}") from error


def _sdists_of(page: ProjectPage, name: str, wanted: Version) -> list[DistributionPackage]:
    files = [file for file in page.packages if _version_of(file) == wanted]
    if not files:
        raise NoSuchVersionError(
            f"the index has no {name} {wanted}", hint=f"it has {_newest_versions(page)}"
        )
    sdists = [file for file in files if _is_sdist_of(file.filename, name, wanted)]
    if not sdists:
        raise NoSdistError(
            f"{name} {wanted} has no sdist in the index, only {len(files)} wheels or other files",
            hint="install one of its wheels, or build from a local sdist",
        )
    return sorted(sdists, key=lambda file: (not file.filename.endswith(".tar.gz"), file.filename))


def _version_of(file: DistributionPackage) -> Version | None:
    try:
        return Version(file.version or "")
    except InvalidVersion:
        return None


def _is_sdist_of(filename: str, name: str, wanted: Version) -> bool:
    if "/" in filename or "\\" in filename:
        return False
    try:
        return parse_sdist_filename(filename) == (canonicalize_name(name), wanted)
    except (InvalidSdistFilename, InvalidVersion):
        return False


def _newest_versions(page: ProjectPage) -> str:
    known = {version for file in page.packages if (version := _version_of(file)) is not None}
    return ", ".join(str(version) for version in sorted(known, reverse=True)[:5]) or "no versions"


def _choose(
    sdists: list[DistributionPackage], pinned: frozenset[Sha256], what: str
) -> DistributionPackage:
    """The sdist that a pinned hash names, else the first; never one that nobody vouches for."""
    if not pinned:
        with_hash = [file for file in sdists if sha256_listed(file)]
        if not with_hash:
            raise DigestError(
                f"the index gives no SHA-256 for the sdist of {what}",
                hint="pin it: --hash=sha256:… in the requirements file",
            )
        return with_hash[0]
    for file in sdists:
        if (sha256 := sha256_listed(file)) is None or sha256 in pinned:
            return file
    raise DigestError(
        f"none of the {len(pinned)} pinned hashes of {what} is its sdist's",
        hint=f"add --hash=sha256:{sha256_listed(sdists[0])} if you trust the index's word on "
        f"{sdists[0].filename}; a lock made for wheels alone leaves sdists out",
    )


def _found(file: DistributionPackage, pinned: frozenset[Sha256], index_url: str) -> FoundSdist:
    # Name and version are the file's own spelling: `1` and `1.0` are to be one Source.
    name, version = parse_sdist_filename(file.filename)
    sha256 = sha256_listed(file) or (next(iter(pinned)) if len(pinned) == 1 else None)
    return FoundSdist(
        name=name, version=str(version), filename=file.filename, url=file.url,
        sha256=sha256, pinned=pinned, index_url=index_url,
        yanked=(file.yanked_reason or "") if file.is_yanked else None,
    )  # fmt: skip
