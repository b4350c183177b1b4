"""fsck: whatever is broken is found and named, what can be mended is, and the rest is left."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import delete, update

from store.errors import StoreError
from store.fsck import CODES, Fault, check
from store.invalidate import Invalidation
from store.provenance import Pin
from store.publish import Store
from store.release import Release
from store.schema import blobs, files, release_requirements, releases, targets, widenings
from store.selection import Selection
from tests.store.buckets import Bucket
from tests.store.wheelshop import OTHER_LINUX, make_wheel, publish, read_wheel
from workers.cli.fsck import command

PIN = Pin(name="setuptools", version="69.0", filename="s.whl", sha256="c" * 64)  # type: ignore[arg-type]


@pytest.fixture
def release(store: Store, tmp_path: Path) -> Release:
    made = publish(store, make_wheel(tmp_path), inputs={"build_requirements": (PIN,)})
    store.widen(made, store.catalogue.remember_target(OTHER_LINUX), "linkage-free")
    return made


def codes(faults: Iterator[Fault]) -> list[tuple[str, bool]]:
    """(code, whether it was repaired) of all but the notes."""
    return [(each.code, each.repaired) for each in faults if not each.harmless]


def damage(store: Store, digest: str, data: bytes) -> None:
    path = store.blobs.path(digest)  # type: ignore[arg-type]
    path.chmod(0o644)
    path.write_bytes(data)


def change(store: Store, query: Any) -> None:
    with store.database.writing() as connection:
        connection.execute(query)


def test_a_sound_store_is_found_sound(store: Store, release: Release) -> None:
    Invalidation(store.database).disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert list(check(store)) == []


def test_damaged_bytes_are_set_aside_and_nothing_is_thrown_away(
    store: Store, release: Release, tmp_path: Path
) -> None:
    good = store.blobs.read(release.sha256)
    for data in (good[:-1], good[:-1] + b"\x01", b""):
        damage(store, release.sha256, data)
        assert codes(check(store)) == [("damaged-blob", False)]
    (told,) = check(store)
    assert release.filename in told.message
    assert codes(check(store, repair=True)) == [("damaged-blob", True), ("missing-blob", False)]
    assert (tmp_path / "store" / "quarantine" / release.sha256).read_bytes() == b""
    assert codes(check(store)) == [("missing-blob", False)]
    publish(store, tmp_path / release.filename, inputs={"build_requirements": (PIN,)})
    assert list(check(store)) == []


def test_metadata_is_read_out_of_its_wheel_again(store: Store, release: Release) -> None:
    good = store.blobs.read(release.metadata_sha256)
    damage(store, release.metadata_sha256, b"Metadata-Version: 0\n")
    assert codes(check(store, repair=True)) == [("damaged-blob", True), ("missing-blob", True)]
    assert store.blobs.read(release.metadata_sha256) == good
    other = store.keep(_file(store, b"Name: other\n"))
    change(store, update(files).values(metadata_sha256=other.sha256))
    assert codes(check(store, repair=True)) == [("wrong-metadata", True)]
    (unnamed,) = check(store)
    assert unnamed.harmless, "the other one has no name any more"
    (now,) = store.catalogue.releases_of(release.filename)
    assert store.blobs.read(now.metadata_sha256) == good


def _file(store: Store, data: bytes) -> Path:
    path = store.root.parent / "some-file"
    path.write_bytes(data)
    return path


def test_bytes_and_rows_that_nobody_names(store: Store, release: Release) -> None:
    store.blobs.put_bytes(b"of a publication that is under way")
    assert list(check(store)) == []
    for kept in store.blobs.each():
        path = store.blobs.path(kept.blob.sha256)
        old = (kept.since - timedelta(hours=2)).timestamp()
        os.utime(path, (old, old))
    (orphan,) = check(store)
    assert (orphan.code, orphan.harmless) == ("unnamed-bytes", True)
    assert [each.repaired for each in check(store, repair=True)] == [True]
    assert list(check(store)) == []
    sdist = store.keep(_file(store, b"an sdist"))
    assert [(e.code, e.harmless) for e in check(store)] == [("unnamed-blob", True)]
    store.blobs.remove(sdist.sha256)
    assert codes(check(store, repair=True)) == [("missing-blob", True)], "no loss: it is forgotten"
    assert list(check(store)) == []


def test_rows_are_held_against_what_they_were_made_of(store: Store, release: Release) -> None:
    size = update(blobs).where(blobs.c.sha256 == release.sha256).values(size=7)
    change(store, size)
    change(store, delete(release_requirements))
    change(store, update(releases).values(project="corny"))
    change(store, update(widenings).values(project="barley"))
    repaired = ["wrong-size", "wrong-requirements", "wrong-project", "wrong-project"]
    assert codes(check(store, repair=True)) == [(code, True) for code in repaired]
    assert list(check(store)) == []
    assert store.catalogue.release(release.id) == release
    change(store, update(releases).values(build_key="0" * 64))
    change(store, update(targets).values(identity={"arch": "toaster"}))
    found = codes(check(store, repair=True))
    assert found == [("wrong-build-key", False), *[("wrong-fingerprint", False)] * 2]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_rows_that_refer_to_nothing(store: Store, release: Release, tmp_path: Path) -> None:
    """The database itself keeps them out, as long as it is the one that writes."""
    with closing(sqlite3.connect(tmp_path / "store" / "catalogue.sqlite")) as connection:
        connection.execute("DELETE FROM releases")
        connection.commit()
    found = {(each.subject.split()[0], each.repaired) for each in check(store, repair=True)}
    assert found == {("widenings", True), ("release_requirements", True), ("wheaty-1.0-1_abc-cp311-none-any.whl", False)} | {  # noqa: E501
        (each.subject, False) for each in check(store) if each.code == "unnamed-blob"
    }  # fmt: skip
    with closing(sqlite3.connect(tmp_path / "store" / "catalogue.sqlite")) as connection:
        connection.execute("DELETE FROM blobs WHERE sha256 = ?", (release.sha256,))
        connection.commit()
    assert ("dangling-row", False) in codes(check(store, repair=True))


def test_trouble_with_the_disk_is_no_fault_of_a_blob(
    store: Store, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Iterator[bytes]:
        raise StoreError("input/output error")

    monkeypatch.setattr("store.folder_shelf.FolderShelf.read", broken)
    with pytest.raises(StoreError, match="input/output error"):
        list(check(store, repair=True))
    assert store.blobs.size(release.sha256)


def test_a_bucket_is_read_and_mended_like_a_folder(tmp_path: Path, bucket: Bucket) -> None:
    with closing(Store.open(tmp_path / "store", blobs=bucket.url, verifier=read_wheel)) as store:
        release = publish(store, make_wheel(tmp_path))
        assert list(check(store)) == []
        key = f"blobs/{release.metadata_sha256[:2]}/{release.metadata_sha256}"
        bucket.put(key, b"Metadata-Version: 0\n")
        found = codes(check(store, repair=True))
        assert found == [("damaged-blob", True), ("missing-blob", True)]
        assert list(check(store)) == []
        assert bucket.get(f"quarantine/{release.metadata_sha256}") == b"Metadata-Version: 0\n"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_command_says_by_its_status_whether_somebody_is_needed(
    store: Store, release: Release, pack: Callable[[str], Path]
) -> None:
    def run(*options: str) -> tuple[int, list[str]]:
        done = CliRunner().invoke(command, ["--store", str(store.root), *options])
        return done.exit_code, done.output.splitlines()

    assert run() == (0, ["0 found, 0 of them to be mended by a person"])
    damage(store, release.metadata_sha256, b"")
    status, lines = run()
    assert (status, lines[0].split()[:2]) == (1, ["FAULT", "damaged-blob:"])
    status, lines = run("--repair", "--json")
    assert (status, [json.loads(line)["repaired"] for line in lines]) == (0, [True, True])
    assert run()[0] == 0


def test_every_code_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "retention.md").read_text()
    assert [code for code, words in CODES.items() if f"| `{code}` | {words} |" not in text] == []
