"""Blobs, wherever they are kept: one contract for the folder and the bucket."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from store.blobs import Blobs
from store.bucket_shelf import WHOLE, BucketShelf
from store.digest import Sha256, sha256_of
from store.errors import StoreError
from store.shelf import place_of
from tests.store.buckets import Bucket

NEVER = sha256_of(b"never")
LARGE = os.urandom(WHOLE + 1_000)
"""Beyond what a bucket gets in one request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Blobs, and a way to what holds them behind their back."""

    blobs: Blobs
    write: Callable[[str, bytes], None]
    names: Callable[[], list[str]]

    def tamper(self, digest: Sha256, data: bytes) -> None:
        self.write(f"blobs/{place_of(digest)}", data)


@pytest.fixture(params=["folder", "bucket"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    root = tmp_path / "store"
    root.mkdir()
    if request.param == "bucket":
        bucket: Bucket = request.getfixturevalue("bucket")
        made = Kept(blobs=Blobs(root, BucketShelf(bucket.url)), write=bucket.put, names=bucket.keys)
    else:
        made = Kept(
            blobs=Blobs(root),
            write=lambda name, data: _write(root / name, data),
            names=lambda: sorted(str(path.relative_to(root)) for path in _files(root)),
        )
    made.blobs.prepare()
    return made


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def test_bytes_come_back_under_their_digest(kept: Kept) -> None:
    blob = kept.blobs.put(io.BytesIO(b"straw"))
    assert (blob.sha256, blob.size) == (sha256_of(b"straw"), 5)
    assert kept.blobs.read(blob.sha256) == b"straw"
    assert kept.blobs.size(blob.sha256) == 5
    assert kept.names() == [f"blobs/{place_of(blob.sha256)}"]


def test_no_bytes_are_a_blob_too(kept: Kept) -> None:
    assert kept.blobs.read(kept.blobs.put_bytes(b"").sha256) == b""


def test_a_large_blob_is_whole_and_leaves_nothing_beside_it(kept: Kept) -> None:
    blob = kept.blobs.put_bytes(LARGE)
    assert b"".join(kept.blobs.stream(blob.sha256)) == LARGE
    assert kept.blobs.put_bytes(LARGE) == blob
    assert kept.names() == [f"blobs/{place_of(blob.sha256)}"]


@pytest.mark.parametrize("data", [b"straw", LARGE], ids=["small", "large"])
def test_several_at_once_keep_one(kept: Kept, data: bytes) -> None:
    with ThreadPoolExecutor(4) as threads:
        blobs = set(threads.map(kept.blobs.put_bytes, [data] * 4))
    assert len(blobs) == 1
    assert kept.names() == [f"blobs/{place_of(sha256_of(data))}"]
    assert kept.blobs.read(sha256_of(data)) == data


@pytest.mark.parametrize("data", [b"straw", LARGE], ids=["small", "large"])
def test_what_is_there_is_never_overwritten(kept: Kept, data: bytes) -> None:
    changed = data[:-1] + bytes([data[-1] ^ 1])
    kept.tamper(sha256_of(data), changed)
    kept.blobs.put_bytes(data)
    assert b"".join(kept.blobs.part(sha256_of(data), 0, len(data) - 1)) == changed


@pytest.mark.parametrize("data", [b"straw", LARGE], ids=["small", "large"])
def test_a_blob_of_another_size_is_trouble_and_not_replaced(kept: Kept, data: bytes) -> None:
    kept.tamper(sha256_of(data), b"stra")
    with pytest.raises(StoreError, match="is damaged"):
        kept.blobs.put_bytes(data)
    assert b"".join(kept.blobs.part(sha256_of(data), 0, 3)) == b"stra"


def test_bytes_that_changed_are_found_when_they_are_read(kept: Kept) -> None:
    digest = kept.blobs.put_bytes(LARGE).sha256
    kept.tamper(digest, LARGE[:-1] + bytes([LARGE[-1] ^ 1]))
    with pytest.raises(StoreError, match="is damaged: its bytes have another digest"):
        kept.blobs.read(digest)
    got: list[bytes] = []
    with pytest.raises(StoreError, match="is damaged"):
        got.extend(kept.blobs.stream(digest))
    assert sum(map(len, got)) < len(LARGE), "the last piece waits until the digest holds"


def test_a_missing_blob_is_trouble(kept: Kept, tmp_path: Path) -> None:
    for ask in (kept.blobs.size, kept.blobs.read, kept.blobs.path, kept.blobs.stream):
        with pytest.raises(StoreError, match="is missing"):
            ask(NEVER)
    with pytest.raises(StoreError, match="is missing"):
        kept.blobs.place(NEVER, tmp_path / "a.whl")


@pytest.mark.parametrize(("first", "last"), [(0, 0), (1, 3), (4, 4), (0, 4)])
def test_a_part(kept: Kept, first: int, last: int) -> None:
    digest = kept.blobs.put_bytes(b"straw").sha256
    assert b"".join(kept.blobs.part(digest, first, last)) == b"straw"[first : last + 1]


def test_a_part_over_several_pieces(kept: Kept) -> None:
    digest = kept.blobs.put_bytes(LARGE).sha256
    last = len(LARGE) - 2
    assert b"".join(kept.blobs.part(digest, 1, last)) == LARGE[1 : last + 1]


def test_each_blob_is_listed_with_size_and_age(kept: Kept) -> None:
    before = datetime.now(UTC) - timedelta(seconds=2)  # S3 counts whole seconds
    blobs = {kept.blobs.put_bytes(data) for data in (b"straw", b"wheat", b"")}
    for stranger in ("blobs/README", "blobs/zz/note", f"blobs/00/{NEVER}", "blobs/aa/ff"):
        kept.write(stranger, b"not ours")
    listed = list(kept.blobs.each())
    assert {each.blob for each in listed} == blobs
    assert all(before <= each.since <= datetime.now(UTC) for each in listed)


def test_a_removed_blob_is_gone_and_may_come_back(kept: Kept) -> None:
    digest = kept.blobs.put_bytes(b"straw").sha256
    kept.blobs.remove(digest)
    kept.blobs.remove(digest)
    assert list(kept.blobs.each()) == []
    assert kept.blobs.read(kept.blobs.put_bytes(b"straw").sha256) == b"straw"


def test_a_blob_is_placed_as_a_file(kept: Kept, tmp_path: Path) -> None:
    kept.blobs.place(kept.blobs.put_bytes(LARGE).sha256, tmp_path / "a.whl")
    assert (tmp_path / "a.whl").read_bytes() == LARGE


def test_a_blob_is_opened_as_a_file(kept: Kept) -> None:
    with kept.blobs.opened(kept.blobs.put_bytes(LARGE).sha256) as file:
        assert file.read() == LARGE


def test_what_is_staged_and_not_adopted_is_gone(kept: Kept) -> None:
    with kept.blobs.stage(io.BytesIO(b"straw"), "a.whl") as staged:
        assert staged.path.read_bytes() == b"straw"
    assert not staged.path.parent.exists()
    assert kept.names() == []


def test_staged_bytes_that_changed_are_not_uploaded(bucket: Bucket, tmp_path: Path) -> None:
    blobs = Blobs(tmp_path, BucketShelf(bucket.url))
    blobs.prepare()
    for data in (b"straw", LARGE):
        with blobs.stage(io.BytesIO(data), "a.whl") as staged:
            staged.path.chmod(0o644)
            with staged.path.open("r+b") as file:
                file.write(b"S")
            with pytest.raises(StoreError, match="is damaged"):
                blobs.adopt(staged)
    assert bucket.keys() == []


_FULL = """
import resource, sys
from pathlib import Path
from store.blobs import Blobs
from store.bucket_shelf import BucketShelf
from store.errors import StoreError
blobs = Blobs(Path(sys.argv[1]), BucketShelf(sys.argv[2]))
blobs.prepare()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    blobs.put_bytes(b"x" * 200_000)
except StoreError as error:
    print(error.code, error.exit_status, error.message)
"""


def test_a_full_disk_stops_a_blob_before_its_bucket(bucket: Bucket, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _FULL, str(tmp_path), bucket.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("store-trouble 3 cannot write to"), done.stdout
    assert _files(tmp_path) == []
    assert bucket.keys() == []
