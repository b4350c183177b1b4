"""Explaining a wheel: every publication, every input, whom it serves and why."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.channel import RELEASE, Channel
from store.errors import NotFoundError
from store.explain import explain
from store.fingerprint import fingerprint_of
from store.provenance import Origin
from store.publish import Store
from store.verdict import Finding
from tests.store.wheelshop import LINUX, OTHER_LINUX, make_wheel, publish

FINDING = Finding(check="abi3", severity="note", message="uses the stable ABI", member="a.so")


def test_by_name_digest_and_build_key(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    expected = explain(store, release.filename)
    digest = release.sha256
    for text in (digest, f"sha256:{digest}", digest.upper(), release.build_key):
        assert explain(store, text) == expected


def test_all_that_is_known_is_told(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path), findings=(FINDING,))
    other = store.catalogue.remember_target(OTHER_LINUX)
    store.widen(release, other, "linkage-free")
    [explanation] = explain(store, release.filename)
    record = explanation.to_json()
    [publication] = explanation.publications
    assert publication.provenance["findings"] == [FINDING.to_json()]
    assert publication.provenance["build_key"] == release.build_key
    assert publication.release == release
    assert [(each.fingerprint, each.reason) for each in explanation.serves] == [
        (fingerprint_of(LINUX), "built-for"),
        (other, "linkage-free"),
    ]
    assert explanation.serves[1].evidence["differing_fields"] == ["build.config_sha256"]
    assert record["filename"] == release.filename


def test_one_file_in_two_channels_is_explained_once(store: Store, tmp_path: Path) -> None:
    path = make_wheel(tmp_path)
    publish(store, path)
    local = Origin(kind="local", location="/src", pinned=False)
    publish(store, path, channel=Channel("dev/me"), origin=local)
    [explanation] = explain(store, path.name)
    assert [each.channel for each in explanation.serves] == [RELEASE, "dev/me"]


def test_one_build_key_of_two_files_is_two_explanations(store: Store, tmp_path: Path) -> None:
    one = publish(store, make_wheel(tmp_path))
    changed = make_wheel(tmp_path, build="1_def", members={"new.py": b""})
    two = publish(store, changed, channel=Channel("dev/me"))
    assert one.build_key == two.build_key
    assert [each.filename for each in explain(store, one.build_key)] == [one.filename, two.filename]


@pytest.mark.parametrize("text", ["", "nope.whl", "0" * 64, "'; DROP TABLE files; --", "\x00", "%"])
def test_what_the_store_does_not_have(store: Store, text: str) -> None:
    with pytest.raises(NotFoundError, match="knows no wheel and no build"):
        explain(store, text)
