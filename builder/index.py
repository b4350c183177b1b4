"""Find an sdist in a package index, and fetch it: the simple API (PEP 503, 691, 592, 700).

pypi-simple reads the pages; what comes over the wire is bounded here, in bytes and in time.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version
from pypi_simple import (
    ACCEPT_ANY,
    PYPI_SIMPLE_ENDPOINT,
    DistributionPackage,
    ProjectPage,
    UnsupportedRepoVersionError,
)
from requests.adapters import HTTPAdapter

from builder.deposit import deposit
from builder.errors import (
    DigestError,
    IndexUnreachableError,
    NoSdistError,
    NoSuchProjectError,
    NoSuchVersionError,
)
from builder.stages import Sdist
from store.digest import Sha256, parse_sha256, sha256_of_file
from store.errors import MalformedError, UsageError
from store.provenance import Origin, Source

_CONNECT_AND_READ: Final = (15.0, 60.0)
_PAGE_BYTES: Final = 64 << 20
_PAGE_SECONDS: Final = 120.0
_SDIST_BYTES: Final = 1 << 30
_SDIST_SECONDS: Final = 1800.0
_CHUNK: Final = 1 << 16
_JSON_PAGE: Final = "application/vnd.pypi.simple.v1+json"
_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE")


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
    index_url = _checked_url(index_url or PYPI_SIMPLE_ENDPOINT)
    page = _project_page(index_url, name)
    sdists = _sdists_of(page, name, wanted)
    chosen = _choose(sdists, pinned, f"{name}=={version}")
    return _found(chosen, pinned, index_url)


def has_project(name: str, index_url: str | None = None) -> bool:
    """Whether the index knows a project of that name, asked now. Raises IndexUnreachableError."""
    try:
        _project_page(_checked_url(index_url or PYPI_SIMPLE_ENDPOINT), name)
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

    with _answer(found.url, found.index_url) as response:
        body = _Bounded(response, _SDIST_BYTES, _SDIST_SECONDS)
        path, sha256 = deposit(cast("BinaryIO", body), target, accept)
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


def without_secrets(url: str) -> str:
    """`url` without user name, password, query and fragment: safe to show and to keep."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


# --- choosing ----------------------------------------------------------------------------------


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
        with_hash = [file for file in sdists if _sha256_of(file)]
        if not with_hash:
            raise DigestError(
                f"the index gives no SHA-256 for the sdist of {what}",
                hint="pin it: --hash=sha256:… in the requirements file",
            )
        return with_hash[0]
    for file in sdists:
        if (sha256 := _sha256_of(file)) is None or sha256 in pinned:
            return file
    raise DigestError(
        f"none of the {len(pinned)} pinned hashes of {what} is its sdist's",
        hint=f"add --hash=sha256:{_sha256_of(sdists[0])} if you trust the index's word on "
        f"{sdists[0].filename}; a lock made for wheels alone leaves sdists out",
    )


def _sha256_of(file: DistributionPackage) -> Sha256 | None:
    try:
        return parse_sha256(file.digests.get("sha256", ""))
    except MalformedError:
        return None


def _found(file: DistributionPackage, pinned: frozenset[Sha256], index_url: str) -> FoundSdist:
    # Name and version are the file's own spelling: `1` and `1.0` are to be one Source.
    name, version = parse_sdist_filename(file.filename)
    sha256 = _sha256_of(file) or (next(iter(pinned)) if len(pinned) == 1 else None)
    return FoundSdist(
        name=name, version=str(version), filename=file.filename, url=file.url,
        sha256=sha256, pinned=pinned, index_url=index_url,
        yanked=(file.yanked_reason or "") if file.is_yanked else None,
    )  # fmt: skip


# --- the wire ----------------------------------------------------------------------------------


def _checked_url(index_url: str) -> str:
    try:
        parts = urlsplit(index_url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"not the URL of a package index: {without_secrets(index_url)[:200]!r}"
            if parts.scheme
            else "not the URL of a package index",
            hint="an index is reached by http or https; for files on disk give their paths",
        )
    return index_url.rstrip("/") + "/"


def _project_page(index_url: str, name: str) -> ProjectPage:
    with _answer(f"{index_url}{canonicalize_name(name)}/", index_url) as response:
        if response.status_code == requests.codes.not_found:
            raise NoSuchProjectError(
                f"the index has no project {name!r}",
                hint=f"asked {without_secrets(index_url)}; is the name right?",
            )
        body = _Bounded(response, _PAGE_BYTES, _PAGE_SECONDS).read_all()
        return _parse_page(name, body, response)


def _parse_page(name: str, body: bytes, response: requests.Response) -> ProjectPage:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind in (_JSON_PAGE, "application/json"):
            return ProjectPage.from_json_data(json.loads(body), response.url)
        if kind in ("application/vnd.pypi.simple.v1+html", "text/html"):
            return ProjectPage.from_html(name, body, response.url)
    except (ValueError, UnsupportedRepoVersionError, RecursionError) as error:
        raise _useless(response.url, f"a page that cannot be read: {str(error)[:200]}") from error
    raise _useless(response.url, f"a page of type {kind[:80]!r}")


def _useless(url: str, what: str) -> IndexUnreachableError:
    return IndexUnreachableError(
        f"{without_secrets(url)} answered with {what}",
        hint="is this the URL of a simple index (PEP 503, 691)?",
    )


@contextmanager
def _answer(url: str, index_url: str) -> Iterator[requests.Response]:
    """The open response to GET `url`: 404 or a success. Raises IndexUnreachableError."""
    headers = {"Accept": ACCEPT_ANY, "Accept-Encoding": "identity"}
    if url != index_url and not url.endswith("/"):
        headers["Accept"] = "*/*"
    try:
        with _session(url, index_url) as session:
            response = session.get(url, stream=True, timeout=_CONNECT_AND_READ, headers=headers)
            with response:
                if response.status_code != requests.codes.not_found or not url.endswith("/"):
                    response.raise_for_status()
                yield response
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise IndexUnreachableError(
            f"cannot read {without_secrets(url)}: {_reason(error)}",
            hint="is the index up, and are proxy and certificate settings right?",
        ) from error


def _reason(error: Exception) -> str:
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server said {error.response.status_code}"
    # The text of a connection error repeats the URL, and with it a password: only its kind.
    return type(error).__name__


def _session(url: str, index_url: str) -> requests.Session:
    session = requests.Session()
    session.headers["User-Agent"] = "wheelfarm"
    retries = urllib3.Retry(total=3, backoff_factor=0.3, status_forcelist=(429, 502, 503, 504))
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retries))
    if bundle := next((path for key in _CA_VARIABLES if (path := os.environ.get(key))), None):
        session.verify = bundle
    index, file = urlsplit(index_url), urlsplit(url)
    # Credentials in the index's URL are for its own host; files often live on another one.
    if index.username and (index.scheme, index.hostname, index.port) == (
        file.scheme, file.hostname, file.port,
    ):  # fmt: skip
        session.auth = (index.username, index.password or "")
    return session


class _Bounded(io.RawIOBase):
    """The body of a response, of no more than so many bytes, and in no more than so long."""

    def __init__(self, response: requests.Response, most: int, seconds: float) -> None:
        super().__init__()
        self._url = response.url
        self._chunks = response.iter_content(_CHUNK)
        self._left = most
        self._deadline = time.monotonic() + seconds

    def read(self, _size: int = -1) -> bytes:
        """The next piece, of whatever size the wire gives; empty at the end."""
        chunk = next(self._chunks, b"")
        self._left -= len(chunk)
        if self._left < 0:
            raise _useless(self._url, "more bytes than wheelfarm takes")
        if time.monotonic() > self._deadline:
            raise _useless(self._url, "too few bytes in too long a time")
        return chunk

    def read_all(self) -> bytes:
        """Everything."""
        return b"".join(iter(self.read, b""))
