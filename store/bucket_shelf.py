"""A shelf in a bucket: S3, Google Cloud Storage, Azure, or any server that speaks S3.

    PREFIX/blobs/3f/3f9a…    one blob
    PREFIX/incoming/…        a large one on its way in
    PREFIX/quarantine/3f9a…  bytes that were found not to be those of their name
    PREFIX/store.json        whose bucket it is

A blob gets its final name by one conditional request (``If-None-Match: *`` on S3), so it is whole
or absent, and nobody overwrites it. Credentials come from the environment, as obstore reads it;
no message of ours repeats what the other side said, which can hold them.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, cast

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import AzureStore, GCSStore, S3Store, from_url

from store.digest import Sha256, parse_sha256, sha256_of
from store.disk import disk_trouble
from store.errors import BlobsUnreachableError, MalformedError, StoreError, UsageError
from store.marker import LARGEST, MARKER
from store.shelf import Blob, Kept, check_size, damaged, place_of

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

PIECE: Final = 8 << 20
"""Bytes of one request, up or down; S3 wants at least 5 MiB."""
WHOLE: Final = 2 * PIECE
"""Up to this size a blob goes up in one request, and is in memory meanwhile."""
_AT_ONCE: Final = 4
_GIVEN_UP: Final = timedelta(days=1)
_URL: Final = re.compile(
    r"(s3|gs|az)://([A-Za-z0-9][A-Za-z0-9._-]{1,62})((?:/[A-Za-z0-9_=+-][A-Za-z0-9._=+-]*)*)/?"
)
_CLIENT: Final = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "120s"}
_RETRIES: Final[RetryConfig] = {"max_retries": 4, "retry_timeout": timedelta(seconds=60)}
_ALLOW_HTTP: Final = ("AWS_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP", "AZURE_ALLOW_HTTP")
_NO_BUCKET: Final = re.compile(
    r"<Code>(NoSuchBucket|ContainerNotFound)</Code>|The specified bucket does not exist"
)
_STATUS: Final = re.compile(r"status code: ([45][0-9]{2})\b")
_DENIED: Final = ("401", "403")
_PASSING: Final = ("408", "429")
_CREDENTIALS: Final = "check the credentials in the environment, and what they may do"
_UNREACHABLE: Final = (
    "is the endpoint (AWS_ENDPOINT_URL) right and up? one without TLS needs AWS_ALLOW_HTTP=true"
)
# Without a key obstore asks the machine itself for one, as machines of a cloud have it.
_NO_CREDENTIALS: Final = re.compile(r"token request|/latest/api/token")


def check_url(url: str) -> str:
    """`url` without a slash at its end. Raises MalformedError for what is no bucket's URL."""
    if len(url) > 1_000 or not _URL.fullmatch(url):
        raise MalformedError(
            f"not a bucket: {re.sub('//[^/]*@', '//…@', url)[:80]!r}",
            hint="write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX; "
            "credentials and endpoint belong into the environment",
        )
    return url.rstrip("/")


class BucketShelf:
    """A `Shelf` in the bucket and under the prefix that `url` names."""

    def __init__(self, url: str) -> None:
        self.url = check_url(url)
        self._store = _connect(self.url)

    def prepare(self) -> None:
        """Remove what uploads that died a day ago or longer left behind."""
        horizon = datetime.now(UTC) - _GIVEN_UP
        with self._trouble("list", "incoming"):
            for batch in obstore.list(self._store, "incoming"):
                dead = [meta["path"] for meta in batch if meta["last_modified"] < horizon]
                if dead:
                    obstore.delete(self._store, dead)

    def marker(self) -> bytes | None:
        """The bucket's marker; None when it has none, b"" when that is too large for one."""
        with self._trouble("read", MARKER):
            try:
                found = obstore.get(self._store, MARKER)
            except FileNotFoundError as error:
                if _NO_BUCKET.search(str(error)):
                    raise
                return None
            return found.bytes().to_bytes() if found.meta["size"] <= LARGEST else b""

    def claim(self, marker: bytes) -> None:
        """Put `marker` into the bucket unless it has one."""
        with self._trouble("write", MARKER), suppress(AlreadyExistsError):
            obstore.put(self._store, MARKER, marker, mode="create", use_multipart=False)

    def keep(self, file: Path, blob: Blob) -> None:
        """Upload `file`, hashed once more on its way, unless the bucket has the blob."""
        upload = self._put_whole if blob.size <= WHOLE else self._put_in_parts
        with self._trouble("write", _key(blob.sha256)):
            try:
                upload(file, blob)
            except AlreadyExistsError:
                check_size(blob, self.size(blob.sha256))

    def size(self, digest: Sha256) -> int | None:
        """The size of the blob in bytes; None when it is absent and the bucket is not."""
        with self._trouble("read", _key(digest)):
            try:
                return obstore.head(self._store, _key(digest))["size"]
            except FileNotFoundError:
                # Such an answer has no body, so a bucket that is gone looks the same.
                next(iter(obstore.list(self._store, "blobs", chunk_size=1)), None)
                return None

    def read(self, digest: Sha256, first: int, last: int) -> Iterator[bytes]:
        """The bytes from `first` to `last`, each piece by a request of its own.

        So no request outlasts its time limit because a client reads slowly, and each is retried.
        """
        for start in range(first, last + 1, PIECE):
            with self._trouble("read", _key(digest)):
                piece = obstore.get_range(
                    self._store, _key(digest), start=start, end=min(start + PIECE, last + 1)
                )
            yield piece.to_bytes()

    def remove(self, digest: Sha256) -> None:
        """Delete the blob."""
        with self._trouble("delete", _key(digest)):
            obstore.delete(self._store, _key(digest))

    def set_aside(self, digest: Sha256) -> None:
        """Copy the object to ``quarantine/DIGEST``, then delete it."""
        with self._trouble("set aside", _key(digest)), suppress(FileNotFoundError):
            obstore.copy(self._store, _key(digest), f"quarantine/{digest}")
            obstore.delete(self._store, _key(digest))

    def each(self) -> Iterator[Kept]:
        """Every object with the name of a blob, in the place of a blob."""
        with self._trouble("list", "blobs"):
            for batch in obstore.list(self._store, "blobs"):
                for meta in batch:
                    digest = _digest(meta["path"])
                    if digest is not None:
                        blob = Blob(sha256=digest, size=meta["size"])
                        yield Kept(blob=blob, since=meta["last_modified"])

    def file(self, digest: Sha256) -> None:  # noqa: ARG002
        """None: a bucket is no file of this machine."""
        return

    def link(self, digest: Sha256, method: str, seconds: int) -> str:
        """A signed URL. Signing asks nobody, except where the environment's credentials do."""
        verb = cast("Literal['GET', 'HEAD']", method)
        with self._trouble("sign for", _key(digest)):
            return obstore.sign(self._store, verb, _key(digest), timedelta(seconds=seconds))

    def _put_whole(self, file: Path, blob: Blob) -> None:
        with disk_trouble("read", file):
            data = file.read_bytes()
        if sha256_of(data) != blob.sha256:
            raise damaged(blob.sha256)
        obstore.put(self._store, _key(blob.sha256), data, mode="create", use_multipart=False)

    def _put_in_parts(self, file: Path, blob: Blob) -> None:
        """In parts under a name of its own, then, when the digest holds, under its final one."""
        if check_size(blob, self.size(blob.sha256)):
            return
        seen, incoming = hashlib.sha256(), f"incoming/{uuid.uuid4().hex}"
        pieces = _hashed_pieces(file, seen.update)
        obstore.put(self._store, incoming, pieces, chunk_size=PIECE, max_concurrency=_AT_ONCE)
        try:
            if seen.hexdigest() != blob.sha256:
                raise damaged(blob.sha256)
            obstore.copy(self._store, incoming, _key(blob.sha256), overwrite=False)
        finally:
            obstore.delete(self._store, incoming)
        check_size(blob, self.size(blob.sha256))

    @contextmanager
    def _trouble(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except (BaseError, FileNotFoundError) as error:
            raise _explained(f"cannot {verb} {self.url}/{key}", error) from None


def _connect(url: str) -> S3Store | GCSStore | AzureStore:
    allowed = any(os.environ.get(name, "").lower() in {"1", "true"} for name in _ALLOW_HTTP)
    client = cast("ClientConfig", {**_CLIENT, "allow_http": allowed})
    # On S3 the one conditional way to a final name for what came in parts.
    own = {"copy_if_not_exists": "multipart"} if url.startswith("s3:") else {}
    try:
        store = from_url(url, client_options=client, retry_config=_RETRIES, **own)  # type: ignore[call-overload]
    except (BaseError, ValueError):
        raise UsageError(
            f"{url} cannot be used as the environment describes it",
            hint="docs/store.md lists the variables; Azure needs AZURE_STORAGE_ACCOUNT_NAME",
        ) from None
    assert isinstance(store, S3Store | GCSStore | AzureStore)
    return store


def _key(digest: Sha256) -> str:
    return f"blobs/{place_of(digest)}"


def _digest(key: str) -> Sha256 | None:
    try:
        digest = parse_sha256(key.rpartition("/")[2])
    except MalformedError:
        return None
    return digest if key == _key(digest) else None


def _hashed_pieces(file: Path, update: Callable[[bytes], None]) -> Iterator[bytes]:
    with disk_trouble("read", file), file.open("rb") as source:
        while piece := source.read(1 << 20):
            update(piece)
            yield piece


def _explained(what: str, error: Exception) -> StoreError:
    """Our words for what obstore says; from its own only a status is taken."""
    said = str(error)
    status = _STATUS.search(said)
    if _NO_BUCKET.search(said):
        return StoreError(f"{what}: there is no such bucket", hint="is its name right?")
    if _NO_CREDENTIALS.search(said):
        return StoreError(f"{what}: no credentials were found", hint=_CREDENTIALS)
    denied = isinstance(error, PermissionDeniedError | UnauthenticatedError)
    if denied or (status and status[1] in _DENIED):
        return StoreError(f"{what}: access denied", hint=_CREDENTIALS)
    if isinstance(error, FileNotFoundError):
        return StoreError(f"{what}: it is missing", hint="restore it from a backup")
    if status and status[1] not in _PASSING and status[1] < "500":
        return StoreError(f"{what}: the server answered {status[1]}", hint=_CREDENTIALS)
    came = f"the server answered {status[1]}" if status else "it does not answer"
    return BlobsUnreachableError(f"{what}: {came}", hint=_UNREACHABLE)
