"""What comes over the wire from a package index, bounded in bytes and in time (PEP 503, 691).

pypi-simple reads the pages; what asks for sdists and for wheels is in `builder.index` and
`builder.index_wheels`.
"""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast
from urllib.parse import urlsplit, urlunsplit

import requests
import urllib3
from packaging.utils import canonicalize_name
from pypi_simple import ACCEPT_ANY, DistributionPackage, ProjectPage, UnsupportedRepoVersionError
from requests.adapters import HTTPAdapter

from builder.deposit import deposit
from builder.errors import IndexUnreachableError, NoSuchProjectError
from store.digest import Sha256, parse_sha256
from store.errors import MalformedError, UsageError

_CONNECT_AND_READ: Final = (15.0, 60.0)
_PAGE_BYTES: Final = 64 << 20
_PAGE_SECONDS: Final = 120.0
_CHUNK: Final = 1 << 16
_JSON_PAGE: Final = "application/vnd.pypi.simple.v1+json"
_CA_VARIABLES: Final = ("REQUESTS_CA_BUNDLE", "PIP_CERT", "SSL_CERT_FILE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """How many bytes a file may have, and how many seconds it may take."""

    most: int
    seconds: float


def fetch_file(
    url: str,
    index_url: str,
    target: Path,
    limit: Limit,
    accept: Callable[[Sha256, int], None],
) -> tuple[Path, Sha256]:
    """Fetch a file that an index names to `target`; give the path and the SHA-256.

    `accept` is told digest and size before the file gets its name, and raises to refuse it. Raises
    IndexUnreachableError, OSError; nothing is left under the final name then.
    """
    with _answer(url, index_url) as response:
        body = _Bounded(response, limit.most, limit.seconds)
        return deposit(cast("BinaryIO", body), target, accept)


def sha256_listed(file: DistributionPackage) -> Sha256 | None:
    """The SHA-256 that the index gives for a file, if it does."""
    try:
        return parse_sha256(file.digests.get("sha256", ""))
    except MalformedError:
        return None


def without_secrets(url: str) -> str:
    """`url` without user name, password, query and fragment: safe to show and to keep."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def checked_url(index_url: str) -> str:
    """`index_url` with a slash at its end. Raises UsageError unless it is one of http or https."""
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


def project_page(index_url: str, name: str) -> ProjectPage:
    """The page of a project. Raises NoSuchProjectError, IndexUnreachableError."""
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
