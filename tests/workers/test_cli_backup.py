"""backup and restore as a person calls them; what is served from the restored store."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from store.audit import AuditFilter, audit_rows
from store.fingerprint import fingerprint_of
from store.publish import Store
from tests.services import SECRET
from tests.store.buckets import Bucket, bucket, s3_endpoint
from tests.store.client import Client
from tests.store.test_clients import pip, serving
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel
from tests.workers.test_cli_store import run

__all__ = ["bucket", "s3_endpoint"]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store with a key, wheaty, and corny, which it needs."""
    with closing(Store.open(tmp_path / "old", verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path, requires=("corny",)))
        publish(store, make_wheel(tmp_path, name="corny"))
    assert run("key", "create", "--store", tmp_path / "old").returncode == 0
    return tmp_path / "old"


PAGES = [
    f"/release/{fingerprint_of(LINUX)}/{page}"
    for page in ("simple/", "simple/wheaty/", "simple/corny/", "links/")
]


def pages(store: Store) -> list[bytes]:
    """What a store serves, in HTML and JSON, with the times and digests in it."""
    client = Client(store)
    forms = ("text/html", "application/vnd.pypi.simple.v1+json")
    answers = [client.get(page, accept=form) for page in PAGES for form in forms if
               form == "text/html" or "links" not in page]  # fmt: skip
    assert {answer.status_code for answer in answers} == {200}
    return [answer.content for answer in answers]


@pytest.mark.slow
def test_a_restored_store_serves_the_same_and_pip_installs_from_it(
    old: Path, tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    folder, new = tmp_path / "backup", tmp_path / "new"
    done = run("backup", folder, "--store", old)
    assert done.returncode == 0, done.stderr
    assert "the keys are in it" in done.stdout
    done = run(
        "restore", folder, "--store", new,
        WHEELFARM_DATABASE=new_database, WHEELFARM_BLOBS=bucket.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert (new / "keys" / "keys.json").read_text() == (old / "keys" / "keys.json").read_text()
    with (
        closing(Store.open(old)) as before,
        closing(Store.open(new, database=new_database)) as after,
    ):
        assert pages(after) == pages(before)
    with serving(new, tmp_path / "log", WHEELFARM_DATABASE=new_database) as url:
        index = f"{url}release/{fingerprint_of(LINUX)}/simple/"
        done = pip(tmp_path / "site", "--index-url", index, "wheaty")
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "corny.py").is_file()


def test_what_it_did_is_told_in_json_and_in_the_log(old: Path, tmp_path: Path) -> None:
    done = run("backup", tmp_path / "backup", "--store", old, "--without-keys", "--json")
    told = json.loads(done.stdout)
    assert (done.returncode, told["copied"], told["there"]) == (0, 6, 0)
    assert not told["manifest"]["has_keys"]
    with closing(Store.open(old)) as store:
        (row,) = audit_rows(store.database, AuditFilter(action="backup"), 9)
    assert (row.object, row.result) == ("store", "done")
    assert row.who


@pytest.mark.slow
def test_faults_and_refusals_have_their_exit_status(old: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    with closing(Store.open(old)) as store:
        lost = next(store.blobs.each()).blob.sha256
        store.blobs.remove(lost)
    done = run("backup", folder, "--store", old)
    assert (done.returncode, f"LOST {lost}" in done.stdout) == (1, True)
    done = run("restore", folder, "--store", tmp_path / "new")
    assert (done.returncode, "FAULT missing-blob" in done.stdout) == (1, True)
    done = run("restore", folder, "--store", tmp_path / "new")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "error[not-empty]")
    done = run("restore", tmp_path / "nowhere", "--store", tmp_path / "newer")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "error[not-a-backup]")
    assert not (tmp_path / "newer").exists()
    done = run("backup", tmp_path / "other", "--store", tmp_path / "newer")
    assert (done.returncode, done.stderr.split(":")[0]) == (2, "error[not-a-store]")
    assert not (tmp_path / "other").exists()
