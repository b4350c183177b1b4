"""Retention and garbage: what is kept and why, what is swept and when, and what may run beside."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from store.channel import RELEASE, Channel
from store.digest import sha256_of
from store.errors import MalformedError, NotFoundError, QuotaError, StoreError
from store.garbage import Heap, collect, look
from store.invalidate import Invalidation
from store.provenance import Origin, Pin
from store.publish import Store
from store.release import Release
from store.retention import Pins, Policy, Rule
from store.schema import blobs, files, releases, servings, sources
from store.selection import Selection
from store.servings import Servings
from tests.store.buckets import Bucket
from tests.store.wheelshop import OTHER_LINUX, make_wheel, publish, read_wheel

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src", pinned=False)
AT_ONCE = timedelta(0)
NOTHING = Policy(rule=lambda _: Rule(versions=0), grace=AT_ONCE)
"""Keeps nothing by itself, and waits for nothing."""


def wheel(store: Store, folder: Path, name: str, *used: Release, **more: Any) -> Release:
    pins = tuple(
        Pin(name=each.name, version=each.version, filename=each.filename, sha256=each.sha256)
        for each in used
    )
    path = make_wheel(folder, name=name, version=more.pop("version", "1.0"))
    return publish(store, path, inputs={"build_requirements": pins}, **more)


def held(store: Store) -> set[str]:
    """The digests of the bytes that are there."""
    return {kept.blob.sha256 for kept in store.blobs.each()}


def rows(store: Store) -> set[str]:
    with store.database.reading() as connection:
        return set(connection.execute(select(blobs.c.sha256)).scalars())


def names(store: Store) -> set[str]:
    with store.database.reading() as connection:
        return set(connection.execute(select(files.c.filename)).scalars())


def collected(store: Store, policy: Policy) -> list[str]:
    """The names of what went; what was foretold is what went."""
    foretold = look(store, policy)
    done = collect(store, policy)
    assert {each.id for each in foretold.releases} == {each.id for each in done.releases}
    assert foretold.swept == done.swept
    assert held(store) == rows(store)
    return sorted(each.filename for each in done.releases)


def test_a_channel_without_a_rule_keeps_everything(store: Store, tmp_path: Path) -> None:
    release = wheel(store, tmp_path, "wheaty")
    before = held(store)
    assert collected(store, Policy(grace=AT_ONCE)) == []
    assert held(store) == before
    assert store.catalogue.release(release.id) == release


def test_nothing_is_left_of_what_nothing_keeps(store: Store, tmp_path: Path) -> None:
    release = wheel(store, tmp_path, "wheaty")
    store.widen(release, store.catalogue.remember_target(OTHER_LINUX), "linkage-free")
    record = Servings(store.database)
    record.note(RELEASE, release.fingerprint, release.filename)
    record.flush()
    Invalidation(store.database).yank(Selection(package="wheaty"), reason="old", by="ada")
    assert collected(store, NOTHING) == [release.filename]
    assert (held(store), names(store)) == (set(), set())
    with store.database.reading() as connection:
        for table in (releases, sources, servings):
            assert connection.execute(table.select()).first() is None
    assert wheel(store, tmp_path, "wheaty").filename == release.filename


def test_the_bytes_that_are_foretold_are_those_that_go(store: Store, tmp_path: Path) -> None:
    kept, gone = wheel(store, tmp_path, "kept"), wheel(store, tmp_path, "gone")
    Pins(store.database).pin("kept", reason="ours", by="ada")
    before = {each.blob.sha256: each.blob.size for each in store.blobs.each()}
    foretold = look(store, NOTHING)
    assert (held(store), [each.filename for each in foretold.releases]) == (
        set(before),
        [gone.filename],
    )
    collect(store, NOTHING)
    lost = [size for digest, size in before.items() if digest not in held(store)]
    assert foretold.swept == Heap(blobs=len(lost), bytes=sum(lost))
    assert len(lost) == 3, "wheel, METADATA and log"
    assert {kept.sha256, kept.metadata_sha256} < held(store)


def test_the_newest_versions_and_the_last_days_are_kept(store: Store, tmp_path: Path) -> None:
    made = {v: wheel(store, tmp_path, "wheaty", version=v) for v in ("1.9", "1.10", "1.2")}
    other = wheel(store, tmp_path, "corny", version="0.1")
    elsewhere = wheel(store, tmp_path, "wheaty", version="1.2", target=OTHER_LINUX, epoch=1)
    old = made["1.9"].published_at - timedelta(days=40)
    with store.database.writing() as connection:
        ids = [made["1.9"].id, made["1.10"].id]
        query = update(releases).where(releases.c.id.in_(ids))
        connection.execute(query.values(published_at=old))
    rules = {"versions": Rule(versions=1), "days": Rule(days=30), "both": Rule(versions=1, days=30)}
    left = {
        name: {each.filename.split("-")[1] for each in look(store, _ruled(rule)).releases}
        for name, rule in rules.items()
    }
    assert left == {"versions": {"1.9", "1.2"}, "days": {"1.9", "1.10"}, "both": {"1.9"}}
    assert collected(store, _ruled(rules["both"])) == [made["1.9"].filename]
    assert store.catalogue.release(other.id)
    assert store.catalogue.release(elsewhere.id)


def _ruled(rule: Rule) -> Policy:
    return Policy(rule=lambda channel: rule if channel == RELEASE else Rule(), grace=AT_ONCE)


def test_what_is_pinned_locked_or_young_is_kept(store: Store, tmp_path: Path) -> None:
    by_name, by_hash = wheel(store, tmp_path, "by-name"), wheel(store, tmp_path, "by-hash")
    by_version = wheel(store, tmp_path, "by-version")
    by_sdist = wheel(store, tmp_path, "by-sdist")
    loose = wheel(store, tmp_path, "loose")
    sdist = sha256_of(b"by-sdist 1.0")
    locked = frozenset({by_hash.sha256, "by-version==1.0", sdist})
    pins = Pins(store.database)
    pins.pin(by_name.filename, reason="shown at the fair", by="ada")
    assert look(store, replace(NOTHING, locked=locked, grace=timedelta(hours=1))).releases == ()
    assert collected(store, replace(NOTHING, locked=locked)) == [loose.filename]
    pins.unpin(by_name.filename)
    gone = collected(store, replace(NOTHING, locked=frozenset({sdist, "by-version==2.0"})))
    assert gone == sorted(each.filename for each in (by_name, by_hash, by_version))
    assert store.catalogue.release(by_sdist.id)


def test_pins_are_listed_and_refused_when_they_name_nothing(store: Store) -> None:
    pins = Pins(store.database)
    first = pins.pin("Wheat_Y==1.0", reason="ours", by="ada")
    assert pins.pin("wheat-y==1.0", reason="theirs", by="eve") == first
    assert pins.all() == [first]
    for wrong in ("==1", "", "a\nb", "x" * 5_000):
        with pytest.raises(MalformedError):
            pins.pin(wrong, reason="x", by="ada")
    with pytest.raises(NotFoundError, match="is not pinned"):
        pins.unpin("corny")


def test_what_a_kept_wheel_was_built_with_is_kept(store: Store, tmp_path: Path) -> None:
    root = wheel(store, tmp_path, "root")
    middle = wheel(store, tmp_path, "middle", root)
    leaf = wheel(store, tmp_path, "leaf", middle)
    loose = wheel(store, tmp_path, "loose", root)
    Pins(store.database).pin("leaf", reason="ours", by="ada")
    store.catalogue.remember_resolution(
        sha256_of(b"x"),
        [Pin(name="loose", version="1.0", filename=loose.filename, sha256=loose.sha256)],
    )
    assert collected(store, NOTHING) == [loose.filename]
    assert names(store) == {each.filename for each in (root, middle, leaf)}
    assert store.catalogue.resolution(sha256_of(b"x")) is None
    Pins(store.database).unpin("leaf")
    assert len(collected(store, NOTHING)) == 3


def test_what_was_disowned_stays_for_the_inquiry(store: Store, tmp_path: Path) -> None:
    release = wheel(store, tmp_path, "wheaty")
    Invalidation(store.database).disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert collected(store, NOTHING) == []
    assert store.blobs.read(release.sha256)


def test_a_file_that_another_release_has_stays(store: Store, tmp_path: Path) -> None:
    here = wheel(store, tmp_path, "wheaty")
    wheel(store, tmp_path, "wheaty", channel=DEV, origin=LOCAL)
    gone = Policy(rule=lambda c: Rule(versions=0) if c == DEV else Rule(), grace=AT_ONCE)
    assert collected(store, gone) == [here.filename]
    assert store.blobs.read(here.sha256)
    assert store.catalogue.listing(RELEASE, here.fingerprint) == [here]


def test_a_blob_is_condemned_first_and_swept_when_its_grace_is_over(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = wheel(store, tmp_path, "wheaty")
    moment = release.published_at
    policy = replace(NOTHING, grace=timedelta(days=1))
    days = iter(range(1, 10))

    def another_day() -> None:
        later = moment + timedelta(days=1.1 * next(days))
        for module in ("garbage", "retention"):
            monkeypatch.setattr(f"store.{module}.now", lambda: later)

    another_day()
    foretold = look(store, policy)
    done = collect(store, policy)
    assert (done.swept, len(done.releases), foretold) == (Heap(), 1, done)
    assert done.condemned.blobs == 3
    assert store.blobs.read(release.sha256), "who downloads it now gets all of it"
    wheel(store, tmp_path, "wheaty")  # it comes back, and so it is pardoned
    with store.database.writing() as connection:
        connection.execute(update(releases).values(published_at=moment))
    another_day()
    assert collect(store, Policy(grace=timedelta(days=1))).condemned == Heap()
    done = collect(store, policy)
    assert (done.swept.blobs, done.condemned.blobs) == (0, 3), "its grace begins anew"
    another_day()
    assert (collect(store, policy).swept.blobs, held(store)) == (3, set())


@pytest.mark.parametrize("at_once", [1, 2, 3, 4])
def test_every_blob_is_looked_at_whatever_fits_in_one_step(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("store.garbage._MARKED_AT_ONCE", at_once)
    release = wheel(store, tmp_path, "wheaty")
    assert len(rows(store)) == 3
    assert collected(store, NOTHING) == [release.filename]
    assert held(store) == set()


def test_bytes_without_a_row_are_swept_when_they_are_old(store: Store, tmp_path: Path) -> None:
    orphan = store.blobs.put_bytes(b"what a killed publication left")
    assert collect(store, replace(NOTHING, grace=timedelta(hours=1))).swept == Heap()
    assert collect(store, NOTHING).swept == Heap(blobs=1, bytes=orphan.size)
    assert not store.blobs.has(orphan)


def test_a_publication_loses_no_blob_that_is_swept_under_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A collection runs between the keeping of the blobs and the writing of the rows."""
    path = make_wheel(tmp_path)
    store.blobs.put_bytes(read_wheel(path).metadata)  # this one is only found, not put
    keep, times = Store._keep, iter(range(10))

    def interrupted(self: Store, *arguments: Any) -> None:
        keep(self, *arguments)
        if next(times) == 0:
            assert collect(store, NOTHING).swept.blobs == 3

    monkeypatch.setattr(Store, "_keep", interrupted)
    release = publish(store, path)
    assert next(times) == 2, "the whole publication was done again"
    assert store.blobs.read(release.sha256) == path.read_bytes()
    assert store.blobs.read(release.metadata_sha256)
    assert held(store) == rows(store)


def test_a_publication_that_never_wins_says_so(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "_keep", lambda *_: None)
    with pytest.raises(StoreError, match="swept as soon as they are kept"):
        publish(store, make_wheel(tmp_path))
    assert store.catalogue.indexes() == []


def test_a_blob_that_gets_a_name_between_two_steps_is_not_swept(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its row is deleted; before its bytes are, somebody publishes it again."""
    release = wheel(store, tmp_path, "wheaty")
    real = store.database.writing
    done: list[bool] = []

    def interrupting() -> Any:
        if release.sha256 not in rows(store) and not done:
            done.append(True)
            wheel(store, tmp_path, "wheaty")
        return real()

    monkeypatch.setattr(store.database, "writing", interrupting)
    collect(store, NOTHING)
    monkeypatch.undo()
    assert done
    assert store.blobs.read(release.sha256) == (tmp_path / release.filename).read_bytes()
    assert rows(store) <= held(store)


def test_publishing_again_puts_back_what_is_missing(store: Store, tmp_path: Path) -> None:
    release = wheel(store, tmp_path, "wheaty")
    for digest in (release.sha256, release.metadata_sha256):
        store.blobs.remove(digest)
    assert wheel(store, tmp_path, "wheaty") == release
    assert store.blobs.read(release.sha256)
    assert store.blobs.read(release.metadata_sha256)


def test_a_quota_is_for_new_files_alone(tmp_path: Path, migrated: Path) -> None:
    shutil.copytree(migrated, tmp_path / "store")
    size = make_wheel(tmp_path).stat().st_size
    quotas = {RELEASE: size + 10}
    store = Store.open(tmp_path / "store", verifier=read_wheel, quota=quotas.get)
    first = wheel(store, tmp_path, "wheaty")
    before = rows(store)
    with pytest.raises(QuotaError, match=rf"holds {size} bytes .* over its quota of {size + 10}"):
        wheel(store, tmp_path, "corny")
    assert rows(store) == before
    assert wheel(store, tmp_path, "wheaty", epoch=1).filename == first.filename
    assert wheel(store, tmp_path, "corny", channel=DEV).channel == DEV
    store.close()


def test_a_bucket_is_collected_like_a_folder(tmp_path: Path, bucket: Bucket) -> None:
    store = Store.open(tmp_path / "store", blobs=bucket.url, verifier=read_wheel)
    kept, gone = wheel(store, tmp_path, "kept"), wheel(store, tmp_path, "gone")
    Pins(store.database).pin("kept", reason="ours", by="ada")
    assert collected(store, NOTHING) == [gone.filename]
    assert store.blobs.read(kept.sha256)
    store.close()
