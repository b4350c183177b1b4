"""Widening: nothing serves a second fingerprint without a proof."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from store.channel import RELEASE, Channel
from store.errors import NotFoundError, PolicyError
from store.fingerprint import Fingerprint, fingerprint_of
from store.publish import Store
from store.release import WideningReason
from store.target import Target
from tests.store.wheelshop import LINUX, MACOS, OTHER_LINUX, make_wheel, publish

PORTABLE = replace(LINUX, build=None)
LOWER = replace(LINUX, baseline=replace(LINUX.baseline, minor=17))


def test_a_linkage_free_wheel_serves_another_build_of_the_interpreter(
    store: Store, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path))
    other = store.catalogue.remember_target(OTHER_LINUX)
    widening = store.widen(release, other, "linkage-free")
    assert widening.evidence["differing_fields"] == ["build.config_sha256"]
    assert store.catalogue.widenings(release) == [widening]
    assert store.catalogue.listing(RELEASE, other) == [release]
    assert store.catalogue.has_index(RELEASE, other)
    assert not store.catalogue.has_index(Channel("dev/me"), other)
    assert {each.fingerprint for each in store.catalogue.indexes()} == {release.fingerprint, other}
    assert other in store.catalogue.targets(RELEASE)


def test_a_portable_wheel_serves_an_exact_target_of_the_same_abi(
    store: Store, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path), target=PORTABLE)
    other = store.catalogue.remember_target(LINUX)
    assert store.widen(release, other, "linkage-free").fingerprint == other


@pytest.mark.parametrize(
    ("target", "why"), [(MACOS, "differ in arch, baseline"), (LOWER, "differ in baseline")]
)
def test_another_abi_or_platform_is_refused(
    store: Store, tmp_path: Path, target: Target, why: str
) -> None:
    release = publish(store, make_wheel(tmp_path))
    other = store.catalogue.remember_target(target)
    with pytest.raises(PolicyError, match=why):
        store.widen(release, other, "linkage-free")
    assert store.catalogue.listing(RELEASE, other) == []


def test_a_wheel_that_is_bound_to_its_interpreter_is_refused(store: Store, tmp_path: Path) -> None:
    bound = make_wheel(tmp_path, members={"embed.so": b"libpython3.11.so.1.0"})
    release = publish(store, bound)
    other = store.catalogue.remember_target(OTHER_LINUX)
    with pytest.raises(PolicyError, match=r"embed\.so is bound to its own"):
        store.widen(release, other, "linkage-free")


def test_a_fingerprint_that_the_store_does_not_know_is_refused(
    store: Store, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path))
    with pytest.raises(NotFoundError, match="does not know the fingerprint"):
        store.widen(release, fingerprint_of(OTHER_LINUX), "linkage-free")


def test_abi3_is_not_granted_while_no_check_proves_it(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    other = store.catalogue.remember_target(OTHER_LINUX)
    with pytest.raises(PolicyError, match="stable ABI"):
        store.widen(release, other, "abi3")


def test_same_content_needs_the_other_targets_own_build(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    other = store.catalogue.remember_target(OTHER_LINUX)
    with pytest.raises(PolicyError, match="no build for it gave the same content"):
        store.widen(release, other, "same-content")
    twin = publish(store, make_wheel(tmp_path), target=OTHER_LINUX)
    widening = store.widen(release, other, "same-content")
    assert widening.evidence["twin"] == twin.filename
    [listed] = store.catalogue.listing(RELEASE, other)
    assert listed.filename == twin.filename


@pytest.mark.parametrize("reason", ["linkage-free", "same-content"])
def test_a_yanked_release_is_not_widened(
    store: Store, tmp_path: Path, reason: WideningReason
) -> None:
    release = publish(store, make_wheel(tmp_path))
    publish(store, make_wheel(tmp_path), target=OTHER_LINUX)
    store.catalogue.yank(RELEASE, release.filename, "broken")
    with pytest.raises(PolicyError, match="yanked"):
        store.widen(store.catalogue.release(release.id), _other(), reason)


def test_widening_twice_keeps_the_first_record(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    other = store.catalogue.remember_target(OTHER_LINUX)
    first = store.widen(release, other, "linkage-free")
    store.widen(release, other, "linkage-free")
    assert store.catalogue.widenings(release) == [first]


def _other() -> Fingerprint:
    return fingerprint_of(OTHER_LINUX)
