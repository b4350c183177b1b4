"""Several machines, each with a folder of its own, over one PostgreSQL and one bucket."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select

from store.database import Database
from store.errors import NotAStoreError
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.schema import identity
from tests.services import SECRET, Postgresql
from tests.store.buckets import Bucket
from tests.store.client import Client
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel

NOT_THIS_ONES = "is the catalogue of another store than"


def _refused(folder: Path, database: str | None, blobs: str | None, *, create: bool = True) -> str:
    with pytest.raises(NotAStoreError) as caught:
        Store.open(folder, database=database, blobs=blobs, create=create)
    assert SECRET not in f"{caught.value.message} {caught.value.hint}"
    assert not (folder / "blobs").exists()
    return caught.value.message


def test_what_one_machine_publishes_another_serves(
    tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    def machine(name: str, *, create: bool = True) -> closing[Store]:
        return closing(
            Store.open(
                tmp_path / name,
                database=new_database,
                blobs=bucket.url,
                verifier=read_wheel,
                create=create,
            )
        )

    with machine("one") as one:
        release = publish(one, make_wheel(tmp_path))
    with machine("two", create=False) as two:
        index = f"/release/{fingerprint_of(LINUX)}"
        assert release.filename in Client(two).get(f"{index}/simple/wheaty/").text
        got = Client(two).get(f"{index}/files/{release.filename}")
        assert got.content == (tmp_path / release.filename).read_bytes()
    markers = [(tmp_path / name / "store.json").read_text() for name in ("one", "two")]
    assert markers[0] == markers[1]
    with machine("two") as two:
        again = publish(two, make_wheel(tmp_path, version="2.0"))
    with closing(Store.open(tmp_path / "one", database=new_database)) as one:
        assert one.blobs.read(again.metadata_sha256)


def test_nothing_but_the_stores_own_bucket_lets_a_folder_join(
    tmp_path: Path, new_database: str, postgresql: Postgresql, bucket: Bucket
) -> None:
    Store.open(tmp_path / "one", database=new_database, blobs=bucket.url).close()
    foreign = f"{bucket.url}/foreign"
    Store.open(tmp_path / "foreign", blobs=foreign).close()
    before = bucket.keys()
    for blobs in (None, f"{bucket.url}/empty", foreign):
        assert NOT_THIS_ONES in _refused(tmp_path / "two", new_database, blobs)
    other = postgresql.create("other")
    holds = f"{bucket.url} holds the blobs of another store"
    assert _refused(tmp_path / "two", other, bucket.url) == holds
    postgresql.drop("other")
    assert bucket.keys() == before
    assert not (tmp_path / "two/store.json").exists()


def test_a_folder_of_another_store_does_not_join(
    tmp_path: Path, new_database: str, postgresql: Postgresql, bucket: Bucket
) -> None:
    Store.open(tmp_path / "one", database=new_database, blobs=bucket.url).close()
    Store.open(tmp_path / "two", database=postgresql.create("other")).close()
    shutil.rmtree(tmp_path / "two/blobs")
    assert NOT_THIS_ONES in _refused(tmp_path / "two", new_database, bucket.url)
    postgresql.drop("other")
    Store.open(tmp_path / "three").close()
    shutil.rmtree(tmp_path / "three/blobs")
    assert "is catalogue.sqlite" in _refused(tmp_path / "three", new_database, bucket.url)


def test_a_store_of_a_folder_has_no_second_one(
    tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    """Its blobs are in a folder that the second machine does not have."""
    Store.open(tmp_path / "one", database=new_database).close()
    assert NOT_THIS_ONES in _refused(tmp_path / "two", new_database, bucket.url)
    assert bucket.keys() == []


def test_who_only_reads_begins_no_store(tmp_path: Path, new_database: str, bucket: Bucket) -> None:
    folder = tmp_path / "one"
    assert "there is no store" in _refused(folder, new_database, bucket.url, create=False)
    assert bucket.keys() == []


def test_a_database_that_was_lost_is_not_begun_again_over_its_bucket(
    tmp_path: Path, new_database: str, postgresql: Postgresql, bucket: Bucket
) -> None:
    with closing(
        Store.open(tmp_path / "one", database=new_database, blobs=bucket.url, verifier=read_wheel)
    ) as one:
        publish(one, make_wheel(tmp_path))
    told = _refused(tmp_path / "one", postgresql.create("other"), bucket.url)
    assert f"holds no catalogue, and {bucket.url} holds blobs already" in told
    postgresql.drop("other")


def test_folders_that_begin_one_store_at_once_all_join_it(
    tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    def opened(name: str) -> str:
        Store.open(tmp_path / name, database=new_database, blobs=bucket.url).close()
        return (tmp_path / name / "store.json").read_text()

    with ThreadPoolExecutor(3) as pool:
        assert len(set(pool.map(opened, "abc"))) == 1


@pytest.mark.parametrize("lost", ["row", "row and bucket's marker"])
def test_a_crash_while_a_store_is_begun_is_mended(
    tmp_path: Path, new_database: str, bucket: Bucket, lost: str
) -> None:
    Store.open(tmp_path / "one", database=new_database, blobs=bucket.url).close()
    marker = (tmp_path / "one/store.json").read_text()
    with closing(Database(new_database)) as database, database.writing() as connection:
        connection.execute(identity.delete())
    if lost != "row":
        bucket.remove("store.json")
    Store.open(tmp_path / "one", database=new_database).close()
    Store.open(tmp_path / "two", database=new_database, blobs=bucket.url).close()
    assert (tmp_path / "two/store.json").read_text() == marker
    with closing(Database(new_database)) as database, database.reading() as connection:
        assert connection.execute(select(identity.c.store_id)).scalar_one() in marker


def test_a_marker_that_was_lost_is_missed(tmp_path: Path, bucket: Bucket) -> None:
    """Else the store would look for its blobs in its folder."""
    Store.open(tmp_path / "one", blobs=bucket.url).close()
    (tmp_path / "one/store.json").unlink()
    assert NOT_THIS_ONES in _refused(tmp_path / "one", None, None)
    Store.open(tmp_path / "one", blobs=bucket.url).close()
    Store.open(tmp_path / "one").close()
