"""Blobs: whole under their digest, or absent."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from store.blobs import Blobs
from store.digest import sha256_of
from store.errors import StoreError


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    kept = Blobs(tmp_path)
    kept.prepare()
    return kept


def test_bytes_come_back_under_their_digest(blobs: Blobs) -> None:
    blob = blobs.put(io.BytesIO(b"straw"))
    assert (blob.sha256, blob.size) == (sha256_of(b"straw"), 5)
    assert blobs.read(blob.sha256) == b"straw"
    assert blobs.path(blob.sha256).name == blob.sha256


def test_a_blob_is_read_only(blobs: Blobs) -> None:
    assert blobs.path(blobs.put_bytes(b"straw").sha256).stat().st_mode & 0o777 == 0o444


def test_putting_again_leaves_the_first_file(blobs: Blobs) -> None:
    first = blobs.put_bytes(b"straw")
    inode = blobs.path(first.sha256).stat().st_ino
    assert blobs.put_bytes(b"straw") == first
    assert blobs.path(first.sha256).stat().st_ino == inode


def test_a_blob_of_another_size_is_trouble_and_not_replaced(blobs: Blobs) -> None:
    path = blobs.path(blobs.put_bytes(b"straw").sha256)
    path.chmod(0o644)
    path.write_bytes(b"stra")
    with pytest.raises(StoreError, match="is damaged"):
        blobs.put_bytes(b"straw")
    assert path.read_bytes() == b"stra"


def test_a_missing_blob_is_trouble(blobs: Blobs) -> None:
    with pytest.raises(StoreError, match="is missing"):
        blobs.path(sha256_of(b"never"))


def test_a_file_that_cannot_be_read_is_trouble(blobs: Blobs, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot read"):
        blobs.put_file(tmp_path / "absent")


def test_what_is_staged_and_not_adopted_is_gone(blobs: Blobs, tmp_path: Path) -> None:
    with blobs.stage(io.BytesIO(b"straw"), "a.whl") as staged:
        assert staged.path.name == "a.whl"
        assert staged.path.read_bytes() == b"straw"
    assert not list((tmp_path / "staging").iterdir())
    assert not list((tmp_path / "blobs").iterdir())


def test_a_start_sweeps_what_the_dead_left_and_spares_the_living(
    blobs: Blobs, tmp_path: Path
) -> None:
    dead = tmp_path / "staging" / "dead"
    dead.mkdir()
    (dead / "half.whl").write_bytes(b"ha")
    with blobs.stage(io.BytesIO(b"straw"), "a.whl") as staged:
        Blobs(tmp_path).prepare()
        assert not dead.exists()
        assert blobs.adopt(staged).size == 5


_FULL = """
import resource, sys
from pathlib import Path
from store.blobs import Blobs
from store.errors import StoreError
blobs = Blobs(Path(sys.argv[1]))
blobs.prepare()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    blobs.put_bytes(b"x" * 200_000)
except StoreError as error:
    print(error.code, error.exit_status, error.message)
"""


def test_a_disk_that_takes_no_more_is_trouble_with_nothing_left(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("store-trouble 3 cannot write to"), done.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_no_descriptor_is_left_open(blobs: Blobs) -> None:
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208
    for number in range(20):
        blobs.put_bytes(b"%d" % number)
    after = len(os.listdir("/proc/self/fd")) if before else 0  # noqa: PTH208
    assert after == before
