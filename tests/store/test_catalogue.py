"""Questions to the catalogue."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from store.channel import RELEASE, Channel
from store.digest import sha256_of
from store.errors import NotFoundError
from store.fingerprint import fingerprint_of
from store.provenance import Origin, Pin
from store.publish import Store
from store.schema import CanonicalJson, UtcTime
from tests.store.wheelshop import (
    LINUX,
    MACOS,
    OTHER_LINUX,
    make_wheel,
    provenance_for,
    publish,
    read_wheel,
)

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src", pinned=False)


def test_a_build_is_found_by_channel_fingerprint_and_key(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    find = store.catalogue.find_release
    assert find(RELEASE, release.fingerprint, release.build_key) == release
    assert find(DEV, release.fingerprint, release.build_key) is None
    assert find(RELEASE, fingerprint_of(MACOS), release.build_key) is None
    assert store.catalogue.release(release.id) == release


def test_indexes_count_projects_and_files(store: Store, tmp_path: Path) -> None:
    assert store.catalogue.indexes() == []
    publish(store, make_wheel(tmp_path))
    publish(store, make_wheel(tmp_path, version="2.0"))
    publish(store, make_wheel(tmp_path, name="corny"), epoch=1)
    publish(store, make_wheel(tmp_path, name="corny"), channel=DEV, origin=LOCAL)
    found = {(each.channel, each.projects, each.files) for each in store.catalogue.indexes()}
    assert found == {(RELEASE, 2, 3), (DEV, 1, 1)}
    fingerprint = fingerprint_of(LINUX)
    assert store.catalogue.projects(RELEASE, fingerprint) == ["corny", "wheaty"]
    assert store.catalogue.projects(DEV, fingerprint) == ["corny"]
    assert store.catalogue.projects(DEV, fingerprint_of(MACOS)) == []
    assert list(store.catalogue.targets(DEV)) == [fingerprint]
    assert store.catalogue.targets(DEV)[fingerprint] == LINUX


def test_two_fingerprints_never_see_each_others_wheels(store: Store, tmp_path: Path) -> None:
    one = publish(store, make_wheel(tmp_path))
    other = make_wheel(tmp_path, build="1_def", members={"new.py": b""})
    two = publish(store, other, target=OTHER_LINUX)
    assert store.catalogue.listing(RELEASE, one.fingerprint) == [one]
    assert store.catalogue.listing(RELEASE, two.fingerprint) == [two]
    assert store.catalogue.served_file(RELEASE, one.fingerprint, two.filename) is None


def test_a_yank_counts_for_the_file_in_its_channel(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    release = publish(store, path)
    publish(store, path, channel=DEV)
    assert store.catalogue.yank(RELEASE, path.name, "loses data") == 1
    publish(store, path, epoch=1)
    [listed] = store.catalogue.listing(RELEASE, release.fingerprint)
    assert listed.yanked == "loses data"
    [in_dev] = store.catalogue.listing(DEV, release.fingerprint)
    assert in_dev.yanked is None
    assert store.catalogue.yank(RELEASE, "other.whl", "x") == 0


def test_siblings_tell_what_the_same_sdist_gave_elsewhere(store: Store, tmp_path: Path) -> None:
    native = make_wheel(tmp_path, members={"wheaty_fast.cpython-311-x86_64-linux-gnu.so": b"ELF"})
    release = publish(store, native)
    log = tmp_path / "log"
    log.touch()
    source = provenance_for(read_wheel(native), log).source.sha256
    assert store.catalogue.siblings(source) == {release.fingerprint: frozenset({"wheaty_fast"})}
    assert store.catalogue.siblings(source, but=release.fingerprint) == {}
    assert store.catalogue.siblings(sha256_of(b"another")) == {}


def test_a_resolution_is_remembered_and_replaced(store: Store) -> None:
    key = sha256_of(b"key")
    pins = tuple(
        Pin(name=name, version="1", filename=f"{name}-1.whl", sha256=sha256_of(name.encode()))
        for name in ("wheel", "setuptools")
    )
    assert store.catalogue.resolution(key) is None
    store.catalogue.remember_resolution(key, pins)
    assert store.catalogue.resolution(key) == pins
    store.catalogue.remember_resolution(key, pins[:1])
    assert store.catalogue.resolution(key) == pins[:1]
    store.catalogue.remember_resolution(sha256_of(b"none"), ())
    assert store.catalogue.resolution(sha256_of(b"none")) == ()


def test_names_are_in_the_order_of_their_characters(store: Store, tmp_path: Path) -> None:
    """A locale would put wheaty-1.0 before Wheaty-2.0."""
    for name, version in (("wheaty", "1.0"), ("Wheaty", "2.0"), ("corny", "1.0")):
        publish(store, make_wheel(tmp_path, name=name, version=version))
    found = store.catalogue.listing(RELEASE, fingerprint_of(LINUX))
    names = [release.filename.partition("-1_")[0] for release in found]
    assert names == ["corny-1.0", "Wheaty-2.0", "wheaty-1.0"]
    assert store.catalogue.projects(RELEASE, fingerprint_of(LINUX)) == ["corny", "wheaty"]


def test_a_moment_comes_back_as_the_same_moment(store: Store, tmp_path: Path) -> None:
    before = datetime.now(UTC)
    release = publish(store, make_wheel(tmp_path))
    assert before <= release.published_at <= datetime.now(UTC)
    assert release.published_at.tzinfo is UTC


def test_an_unknown_number_is_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError):
        store.catalogue.release(7)


def test_no_naive_moment_and_no_float_gets_in(store: Store) -> None:
    with store.database.reading() as connection:
        dialect = connection.dialect
    with pytest.raises(ValueError, match="without a time zone"):
        UtcTime().process_bind_param(datetime(2026, 1, 1), dialect)  # noqa: DTZ001
    with pytest.raises(TypeError, match="no floats"):
        CanonicalJson().process_bind_param(1.5, dialect)  # type: ignore[arg-type]
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    assert UtcTime().process_bind_param(moment, dialect) == moment
