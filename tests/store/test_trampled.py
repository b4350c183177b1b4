"""Publications and collections that are killed at random points leave a store that is sound.

Each run prints a line: where, how many kills, releases and blobs at the end.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import func, select

from store.fsck import check
from store.publish import Store
from store.schema import blobs as table_of_blobs
from store.schema import releases
from tests.store.buckets import Bucket
from tests.store.wheelshop import make_wheel, publish, read_wheel

FEW = 2
MANY = int(os.environ.get("KILLS", "100"))
ROLES = ("publish", "publish", "collect")


def trample(folder: Path, rounds: int, *places: str) -> None:
    """Rounds of processes that work on one store and are killed, one after the other."""
    chance = random.Random(f"{rounds}")
    for number in range(rounds):
        running = [start(role, f"{number}-{place}", folder, *places)
                   for place, role in enumerate(ROLES)]  # fmt: skip
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        chance.shuffle(running)
        for process in running:
            time.sleep(chance.random() / 3)
            process.kill()
            errors = process.communicate()[1]
            assert errors == "", errors


def start(role: str, seed: str, folder: Path, *places: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.store.trampled", role, seed, str(folder), *places],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


def examine(store: Store, folder: Path) -> None:
    """No fault; every release can be had whole; and publishing goes on."""
    assert [fault for fault in check(store) if not fault.harmless] == []
    for index in store.catalogue.indexes():
        for release in store.catalogue.listing(index.channel, index.fingerprint):
            assert len(store.blobs.read(release.sha256)) == release.size
            assert store.blobs.read(release.metadata_sha256)
    assert publish(store, make_wheel(folder, name="last")).name == "last"
    assert [fault for fault in check(store) if not fault.harmless] == []


def run(folder: Path, rounds: int, database: str = "", blobs: str = "") -> None:
    trample(folder / "store", rounds, database, blobs)
    with closing(
        Store.open(
            folder / "store", database=database or None, blobs=blobs or None, verifier=read_wheel
        )
    ) as store:
        examine(store, folder)
        with store.database.reading() as connection:
            kept, left = (
                connection.execute(select(func.count()).select_from(table)).scalar_one()
                for table in (releases, table_of_blobs)
            )
    engines = f"{'PostgreSQL' if database else 'SQLite'}, {'a bucket' if blobs else 'a folder'}"
    print(f"\n| {engines} | {rounds * len(ROLES)} | {kept} | {left} | no fault |")  # noqa: T201


@pytest.mark.slow
def test_a_few_kills_over_a_folder_and_sqlite(tmp_path: Path) -> None:
    run(tmp_path, FEW)


@pytest.mark.slow
def test_a_few_kills_over_a_bucket_and_postgresql(
    tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    run(tmp_path, FEW, new_database, bucket.url)


@pytest.mark.chaos
@pytest.mark.timeout(7_200)
def test_many_kills_over_a_folder_and_sqlite(tmp_path: Path) -> None:
    run(tmp_path, MANY // len(ROLES))


@pytest.mark.chaos
@pytest.mark.timeout(7_200)
def test_many_kills_over_a_bucket_and_postgresql(
    tmp_path: Path, new_database: str, bucket: Bucket
) -> None:
    run(tmp_path, MANY // len(ROLES), new_database, bucket.url)
