"""The wheels that a package index lists: which of them is best for a target, and its bytes.

Only those count that can be held against something: a wheel without a SHA-256 in the index is
passed over, and so is whatever has no wheel's file name, or the name of another project.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import Tag
from packaging.utils import (
    BuildTag,
    InvalidWheelFilename,
    NormalizedName,
    canonicalize_name,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version
from pypi_simple import PYPI_SIMPLE_ENDPOINT, DistributionPackage

from builder.errors import DigestError
from builder.wire import (
    Limit,
    checked_url,
    fetch_file,
    project_page,
    sha256_listed,
    without_secrets,
)
from store.digest import Sha256, parse_sha256
from store.errors import MalformedError
from store.target import Target, tag_order

LONGEST_NAME: Final = 240
LARGEST_WHEEL: Final = 1 << 30
_WHEEL_SECONDS: Final = 1800.0
_METADATA: Final = Limit(most=4 << 20, seconds=60.0)
_MOST_LISTED: Final = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedWheel:
    """A wheel as an index lists it; all of it is the index's word.

    `size` is in bytes, `uploaded_at` aware and in UTC (PEP 700), `metadata_sha256` that of its
    METADATA beside it (PEP 658); each None where the index does not say. `yanked` is the reason
    given (PEP 592), maybe empty, or None when it is not.
    """

    name: NormalizedName
    version: Version
    build: BuildTag
    tags: frozenset[Tag]
    filename: str
    url: str
    sha256: Sha256
    size: int | None
    requires_python: str | None
    uploaded_at: datetime | None
    yanked: str | None
    metadata_sha256: Sha256 | None
    index_url: str

    @property
    def place(self) -> str:
        """The index, safe to show."""
        return without_secrets(self.index_url)


def list_wheels(name: str, index_url: str | None = None) -> tuple[ListedWheel, ...]:
    """The wheels that the index has of a project. `index_url` None is the index that pip uses.

    Raises NoSuchProjectError, IndexUnreachableError.
    """
    url = checked_url(index_url or PYPI_SIMPLE_ENDPOINT)
    page = project_page(url, name)
    found = (_listed(file, canonicalize_name(name), url) for file in page.packages[:_MOST_LISTED])
    return tuple(wheel for wheel in found if wheel is not None)


def fetch_wheel(listed: ListedWheel, folder: Path) -> Path:
    """Fetch `listed` into `folder` under its own name, its hash checked while it is copied.

    Raises DigestError, IndexUnreachableError, OSError; nothing is left under the name then.
    """
    said = LARGEST_WHEEL if listed.size is None else listed.size
    limit = Limit(most=min(said, LARGEST_WHEEL), seconds=_WHEEL_SECONDS)
    return _fetch(listed.url, listed, folder / listed.filename, limit, listed.sha256)


def fetch_metadata(listed: ListedWheel, folder: Path) -> bytes:
    """The METADATA that the index has beside the wheel (PEP 658), its hash checked.

    Raises DigestError, also where the index gives no hash for it; IndexUnreachableError, OSError.
    """
    if listed.metadata_sha256 is None:
        raise DigestError(f"the index gives no SHA-256 for the metadata of {listed.filename}")
    target = folder / f"{listed.filename}.metadata"
    url = f"{listed.url}.metadata"
    return _fetch(url, listed, target, _METADATA, listed.metadata_sha256).read_bytes()


def serves(listed: ListedWheel, target: Target) -> bool:
    """Whether an installer on `target` would take the wheel, by its name and Requires-Python."""
    return rank(listed, target) is not None and _runs(listed.requires_python, target)


def rank(listed: ListedWheel, target: Target) -> int | None:
    """The place of the best of its tags in the target's order; the lower the better."""
    order = tag_order(target)
    return min((order[tag] for tag in listed.tags if tag in order), default=None)


def is_version(listed: ListedWheel, version: str) -> bool:
    """Whether the wheel is of that version (PEP 440). Raises MalformedError for none."""
    try:
        return listed.version == Version(version)
    except InvalidVersion as error:
        raise MalformedError(f"not a version (PEP 440): {version[:80]!r}") from error


def best_wheel(
    wheels: Sequence[ListedWheel], version: str, target: Target, hashes: Collection[Sha256] = ()
) -> ListedWheel | None:
    """The wheel of that version which an installer on `target` would choose, one of `hashes` if
    there are any; None when it would find none. Raises MalformedError for no version."""
    fitting = [
        each
        for each in wheels
        if is_version(each, version)
        and (not hashes or each.sha256 in hashes)
        and serves(each, target)
    ]
    fitting.sort(key=lambda each: each.build, reverse=True)
    return min(fitting, key=lambda each: rank(each, target) or 0, default=None)


def _fetch(url: str, listed: ListedWheel, target: Path, limit: Limit, expected: Sha256) -> Path:
    def accept(sha256: Sha256, _size: int) -> None:
        if sha256 != expected:
            raise DigestError(
                f"{target.name} from the index has SHA-256 {sha256}, expected {expected}",
                hint="a mirror may be broken, or somebody changed the file; do not use it",
            )

    return fetch_file(url, listed.index_url, target, limit, accept)[0]


def _listed(
    file: DistributionPackage, project: NormalizedName, index_url: str
) -> ListedWheel | None:
    sha256 = sha256_listed(file)
    parsed = _parsed(file.filename)
    if sha256 is None or parsed is None or parsed[0] != project:
        return None
    return ListedWheel(
        name=project,
        version=parsed[1],
        build=parsed[2],
        tags=parsed[3],
        filename=file.filename,
        url=file.url,
        sha256=sha256,
        size=file.size,
        requires_python=file.requires_python,
        uploaded_at=_in_utc(file.upload_time),
        yanked=(file.yanked_reason or "") if file.is_yanked else None,
        metadata_sha256=_metadata_sha256(file),
        index_url=index_url,
    )


def _parsed(
    filename: str,
) -> tuple[NormalizedName, Version, BuildTag, frozenset[Tag]] | None:
    plain = filename.isascii() and filename.isprintable() and not set(filename) & set("/\\ ")
    if not plain or len(filename) > LONGEST_NAME:
        return None
    try:
        return parse_wheel_filename(filename)
    except (InvalidWheelFilename, InvalidVersion):
        return None


def _metadata_sha256(file: DistributionPackage) -> Sha256 | None:
    try:
        return parse_sha256((file.metadata_digests or {}).get("sha256", ""))
    except MalformedError:
        return None


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None:
        return None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _runs(requires_python: str | None, target: Target) -> bool:
    """Whether any interpreter of the target would do: the micro version is not the target's to
    say."""
    if requires_python is None:
        return True
    version = target.interpreter.version
    micros = [version] if version.count(".") > 1 else [f"{version}.0", f"{version}.99"]
    try:
        wanted = SpecifierSet(requires_python)
    except InvalidSpecifier:
        return False
    return any(wanted.contains(micro, prereleases=True) for micro in micros)
