"""A bucket: its URL, its troubles, what a killed upload leaves, and whose it is."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from store import bucket_shelf
from store.blobs import Blobs
from store.bucket_shelf import WHOLE, BucketShelf, check_url
from store.channel import RELEASE
from store.digest import sha256_of
from store.errors import (
    BlobsUnreachableError,
    MalformedError,
    NotAStoreError,
    StoreError,
    UsageError,
)
from store.export import export
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.shelf import Blob, place_of
from tests.store.buckets import KEY, SECRET, Bucket, Dam, new_bucket, s3_server, use
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel


@pytest.mark.parametrize("url", ["s3://bkt", "s3://bkt/", "gs://b.kt/a/b=1", "az://con-t/p_q/+"])
def test_the_url_of_a_bucket(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    [
        "", "bkt", "s3:bkt", "s3://", "s3://b", "S3://bkt", "ftp://bkt/a", "https://bkt/a",
        "file:///tmp", "memory:///", "s3://bkt//a", "s3://bkt/../a", "s3://bkt/./a", "s3://bkt/a?b",
        "s3://bkt/a#b", "s3://bkt/a b", "s3://bkt/%2e", "s3://bkt/a\n", "s3://bkt:80/a",
        f"s3://bkt/{'a' * 1_000}",
    ],
)  # fmt: skip
def test_what_is_no_url_of_a_bucket(url: str) -> None:
    with pytest.raises(MalformedError, match="not a bucket"):
        check_url(url)


def test_credentials_in_a_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(MalformedError) as caught:
        check_url(f"s3://{KEY}:{SECRET}@bkt/a")
    assert SECRET not in str(caught.value)


def _every_way(shelf: BucketShelf, file: Path) -> Iterator[Any]:
    """Each call that a shelf takes, to be made."""
    digest = sha256_of(b"straw")
    small, large = file.with_name("small"), file.with_name("large")
    many = bytes(WHOLE + 1)
    small.write_bytes(b"straw")
    large.write_bytes(many)
    yield shelf.prepare
    yield shelf.marker
    yield lambda: shelf.claim(b"{}")
    yield lambda: shelf.keep(small, Blob(sha256=digest, size=5))
    yield lambda: shelf.keep(large, Blob(sha256=sha256_of(many), size=len(many)))
    yield lambda: shelf.size(digest)
    yield lambda: list(shelf.read(digest, 0, 4))
    yield lambda: list(shelf.each())
    yield lambda: shelf.remove(digest)


def _hides_secrets(error: StoreError) -> None:
    told = f"{error.message} {error.hint}"
    assert SECRET not in told
    assert KEY not in told
    assert error.__cause__ is None
    assert error.__suppress_context__


def test_a_bucket_that_is_gone_is_trouble(bucket: Bucket, tmp_path: Path) -> None:
    shelf = BucketShelf(bucket.url)
    bucket.destroy()
    for call in _every_way(shelf, tmp_path / "file"):
        with pytest.raises(StoreError, match=rf"{bucket.url}/.*there is no such bucket") as caught:
            call()
        assert not caught.value.transient
        _hides_secrets(caught.value)


def test_an_endpoint_that_is_down_may_come_back(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setitem(bucket_shelf._RETRIES, "max_retries", 1)
    for call in _every_way(BucketShelf(bucket.url), tmp_path / "file"):
        with pytest.raises(BlobsUnreachableError, match="it does not answer") as caught:
            call()
        assert (caught.value.transient, caught.value.http_status) == (True, 503)
        _hides_secrets(caught.value)


def test_a_key_that_the_server_does_not_take_is_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one request that needs no key makes the bucket.
    with s3_server(tmp_path, INITIAL_NO_AUTH_ACTION_COUNT="1") as endpoint:
        bucket = new_bucket(endpoint)
        use(bucket, monkeypatch)
        for call in _every_way(BucketShelf(bucket.url), tmp_path / "file"):
            with pytest.raises(StoreError, match="access denied") as caught:
                call()
            assert caught.value.transient is False
            _hides_secrets(caught.value)


def test_an_environment_that_says_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(UsageError, match="cannot be used as the environment describes it"):
        BucketShelf("az://container/wheels")


def test_a_store_without_the_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "store.bucket_shelf", None)
    with pytest.raises(UsageError) as caught:
        Store.open(tmp_path / "store", blobs="s3://bkt/wheels")
    assert "wheelfarm[objects]" in str(caught.value.hint)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_link_is_signed_for_its_method_and_time(
    bucket: Bucket, tmp_path: Path, method: str
) -> None:
    shelf, digest = BucketShelf(bucket.url), sha256_of(b"straw")
    (file := tmp_path / "straw").write_bytes(b"straw")
    shelf.keep(file, Blob(sha256=digest, size=5))
    link = shelf.link(digest, method, 600)
    assert "X-Amz-Expires=600" in link
    assert SECRET not in link
    assert requests.request(method, link.partition("?")[0], timeout=30).status_code == 403
    answer = requests.request(method, link, timeout=30)
    assert (answer.status_code, answer.headers["content-length"]) == (200, "5")


def test_a_link_into_azure_is_signed_without_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "wheat")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
    digest = sha256_of(b"straw")
    link = BucketShelf("az://field/farm").link(digest, "GET", 600)
    place = f"/field/farm/blobs/{place_of(digest)}?"
    assert re.fullmatch(rf"https://wheat\.blob\.core\.windows\.net{re.escape(place)}.*sig=.*", link)


def test_leftovers_go_after_a_day_and_not_before(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put("incoming/half", b"straw")
    BucketShelf(bucket.url).prepare()
    assert bucket.keys() == ["incoming/half"]
    monkeypatch.setattr(bucket_shelf, "_GIVEN_UP", timedelta(seconds=-2))
    BucketShelf(bucket.url).prepare()
    assert bucket.keys() == []


_UPLOAD = """
import sys
from pathlib import Path
from store.blobs import Blobs
from store.bucket_shelf import BucketShelf
blobs = Blobs(Path(sys.argv[1]), BucketShelf(sys.argv[2]))
blobs.prepare()
blobs.put_bytes(b"x" * int(sys.argv[3]))
"""


@pytest.mark.parametrize("size", [WHOLE // 2, 2 * WHOLE], ids=["whole", "in parts"])
def test_an_upload_that_is_killed_leaves_no_blob(bucket: Bucket, tmp_path: Path, size: int) -> None:
    dam = Dam(bucket.endpoint, most=WHOLE // 4)
    upload = subprocess.Popen(
        [sys.executable, "-c", _UPLOAD, str(tmp_path), bucket.url, str(size)],
        env={**os.environ, "AWS_ENDPOINT_URL": dam.endpoint},
    )
    assert dam.full.wait(60), "nothing was uploaded"
    upload.kill()
    upload.wait()
    dam.close()
    assert bucket.keys() == []
    blobs = Blobs(tmp_path, BucketShelf(bucket.url))
    blobs.prepare()
    assert list((tmp_path / "staging").iterdir()) == []
    assert blobs.size(blobs.put_bytes(b"x" * size).sha256) == size


def test_a_store_and_its_bucket_are_each_others(bucket: Bucket, tmp_path: Path) -> None:
    root = tmp_path / "store"
    Store.open(root, blobs=f"{bucket.url}/").close()
    assert bucket.keys() == ["store.json"]
    Store.open(root).close()  # it knows its bucket
    Store.open(root, blobs=bucket.url).close()
    with pytest.raises(NotAStoreError, match=f"has its blobs in {bucket.url}, not in s3://other"):
        Store.open(root, blobs="s3://other/wheels")
    with pytest.raises(NotAStoreError, match="holds the blobs of another store"):
        Store.open(tmp_path / "second", blobs=bucket.url)
    Store.open(tmp_path / "second", blobs=f"{bucket.url}/second").close()


def test_a_store_with_blobs_in_its_folder_does_not_look_for_them_in_a_bucket(
    store: Store, database_url: str | None, bucket: Bucket, tmp_path: Path
) -> None:
    publish(store, make_wheel(tmp_path))
    with pytest.raises(NotAStoreError, match="has its blobs in its folder, not in"):
        Store.open(tmp_path / "store", database=database_url, blobs=bucket.url)
    assert bucket.keys() == []


def test_blobs_that_were_moved_to_a_bucket_are_found_there(
    store: Store, database_url: str | None, bucket: Bucket, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path))
    folder = tmp_path / "store" / "blobs"
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        bucket.put(str(path.relative_to(tmp_path / "store")), path.read_bytes())
    folder.rename(tmp_path / "old")
    Store.open(tmp_path / "store", database=database_url, blobs=bucket.url).close()
    with closing(Store.open(tmp_path / "store", database=database_url)) as moved:
        assert moved.blobs.read(release.metadata_sha256)
    with pytest.raises(NotAStoreError, match="holds the blobs of another store"):
        Store.open(tmp_path / "other", blobs=bucket.url)


@pytest.mark.parametrize("held", [b"", b"{}", b"[]", b"x" * 5_000, b'{"store": "me"}'])
def test_a_bucket_that_does_not_say_whose_it_is(
    bucket: Bucket, tmp_path: Path, held: bytes
) -> None:
    bucket.put("store.json", held)
    with pytest.raises(NotAStoreError, match="does not say whose bucket it is"):
        Store.open(tmp_path / "store", blobs=bucket.url)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_marker_that_does_not_say_where(bucket: Bucket, tmp_path: Path) -> None:
    Store.open(tmp_path / "store", blobs=bucket.url).close()
    (tmp_path / "store" / "store.json").write_text("{}")
    with pytest.raises(NotAStoreError, match=r"store\.json does not say"):
        Store.open(tmp_path / "store")


def test_several_processes_may_begin_one_store(bucket: Bucket, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from store.publish import Store\n"
    code += "Store.open(Path(sys.argv[1]), blobs=sys.argv[2]).close()"
    command = [sys.executable, "-c", code, str(tmp_path / "store"), bucket.url]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ends = [(each.communicate()[1], each.returncode) for each in started]
    assert ends == [("", 0)] * 3


def test_an_export_from_a_bucket_holds_only_true_bytes(bucket: Bucket, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", blobs=bucket.url, verifier=read_wheel)
    release = publish(store, make_wheel(tmp_path))
    export(store, RELEASE, fingerprint_of(LINUX), tmp_path / "out")
    wheel = tmp_path / "out" / release.filename
    assert sha256_of(wheel.read_bytes()) == release.sha256
    bucket.put(f"blobs/{place_of(release.sha256)}", b"x" * release.size)
    with pytest.raises(StoreError, match="is damaged"):
        export(store, RELEASE, fingerprint_of(LINUX), tmp_path / "again")
    assert not (tmp_path / "again").exists()
    store.close()
