"""The exported folder: whole, up to date, and never somebody else's."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urljoin

import pytest

from store.channel import RELEASE, Channel
from store.digest import sha256_of_file
from store.errors import PolicyError, StoreError, UnknownIndexError
from store.export import export
from store.fingerprint import fingerprint_of
from store.keyring import FOLDER as KEYS
from store.keyring import KeyRing
from store.pages import JSON_V1
from store.publish import Store
from tests.store.client import Client
from tests.store.wheelshop import LINUX, OTHER_LINUX, make_wheel, publish

HERE = fingerprint_of(LINUX)


def _names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def _check_links(page: Path) -> int:
    """Every link of a page leads to a file of the digest that it names; how many there are."""
    links = re.findall(r'href="([^"#]*)#sha256=([0-9a-f]*)"', page.read_text())
    for place, digest in links:
        assert sha256_of_file(page.parent / place.replace("%2B", "+")) == digest
    return len(links)


def test_the_folder_has_wheels_metadata_and_pages(store: Store, tmp_path: Path) -> None:
    one = publish(store, make_wheel(tmp_path, version="1.0+local"))
    two = publish(store, make_wheel(tmp_path, name="corny"))
    folder = tmp_path / "deep" / "out"
    done = export(store, RELEASE, HERE, folder)
    assert set(done.releases) == {one, two}
    files = {each.filename + more for each in (one, two) for more in ("", ".metadata", ".cdx.json")}
    pages = {"index.html", "simple/index.html", "simple/corny/index.html"}
    assert _names(folder) == {
        *files, *pages, "simple/wheaty/index.html", "wheelfarm-export.json"
    }  # fmt: skip
    assert _check_links(folder / "index.html") == 2
    assert _check_links(folder / "simple/wheaty/index.html") == 1
    assert sha256_of_file(folder / f"{one.filename}.metadata") == one.metadata_sha256
    assert list(folder.parent.iterdir()) == [folder]


def test_statements_and_bills_are_those_that_a_server_gives(store: Store, tmp_path: Path) -> None:
    wheel = publish(store, make_wheel(tmp_path)).filename
    keys = KeyRing(folder=store.root / KEYS)
    keys.create("1" * 32)
    folder = tmp_path / "out"
    export(store, RELEASE, HERE, folder, keys)
    client = Client(store)
    page = f"/release/{HERE}/simple/wheaty/"
    (listed,) = client.get(page, accept=JSON_V1).json()["files"]
    for what, name in (("sbom", f"{wheel}.cdx.json"), ("statement", f"{wheel}.intoto.jsonl")):
        answer = client.get(urljoin(page, listed["_wheelfarm"][what]))
        assert (answer.status_code, answer.text) == (200, (folder / name).read_text())
    assert client.get("/keys.json").text == (folder / "keys.json").read_text()
    export(store, RELEASE, HERE, folder)
    left = {name for name in _names(folder) if name.endswith((".intoto.jsonl", "keys.json"))}
    assert left == set()


def test_wheels_are_hard_links_where_the_file_system_has_them(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    export(store, RELEASE, HERE, tmp_path / "out")
    assert (tmp_path / "out" / release.filename).samefile(store.blobs.path(release.sha256))


def test_a_second_export_brings_new_wheels_and_takes_old_ones_away(
    store: Store, tmp_path: Path
) -> None:
    publish(store, make_wheel(tmp_path))
    folder = tmp_path / "out"
    export(store, RELEASE, HERE, folder)
    stale = folder / "gone-1.0-py3-none-any.whl"
    for path in (stale, folder / f"{stale.name}.metadata", folder / "simple/gone/index.html"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "notes.txt").touch()
    new = publish(store, make_wheel(tmp_path, name="corny"))
    export(store, RELEASE, HERE, folder)
    assert (folder / new.filename).is_file()
    assert _check_links(folder / "index.html") == 2
    assert not stale.exists()
    assert not (folder / "simple/gone").exists()
    assert (folder / "notes.txt").exists()
    assert not [name for name in _names(folder) if name.endswith(".tmp")]


def test_a_second_export_without_news_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    export(store, RELEASE, HERE, tmp_path / "out")
    before = _names(tmp_path / "out")
    export(store, RELEASE, HERE, tmp_path / "out")
    assert _names(tmp_path / "out") == before


def test_a_foreign_folder_is_left_alone(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "thesis.tex").write_text("x")
    with pytest.raises(PolicyError, match="holds other files; nothing was written"):
        export(store, RELEASE, HERE, folder)
    assert _names(folder) == {"thesis.tex"}


@pytest.mark.parametrize("marker", ["", "[]", "{", '{"channel": "release"}', "x" * 10_000])
def test_a_marker_of_something_else_is_foreign(store: Store, tmp_path: Path, marker: str) -> None:
    publish(store, make_wheel(tmp_path))
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "wheelfarm-export.json").write_text(marker)
    with pytest.raises(PolicyError):
        export(store, RELEASE, HERE, folder)


def test_the_export_of_another_index_is_left_alone(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    publish(store, make_wheel(tmp_path), target=OTHER_LINUX)
    export(store, RELEASE, HERE, tmp_path / "out")
    with pytest.raises(PolicyError, match=f"holds the export of {HERE}"):
        export(store, RELEASE, fingerprint_of(OTHER_LINUX), tmp_path / "out")


def test_an_empty_folder_is_filled(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    (tmp_path / "out").mkdir()
    export(store, RELEASE, HERE, tmp_path / "out")
    assert _check_links(tmp_path / "out/index.html") == 1


def test_an_unknown_index_writes_nothing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UnknownIndexError):
        export(store, Channel("dev/me"), HERE, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_export_that_fails_leaves_nothing(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    store.blobs.path(release.metadata_sha256).unlink()
    (tmp_path / "here").mkdir()
    with pytest.raises(StoreError, match="is missing"):
        export(store, RELEASE, HERE, tmp_path / "here" / "out")
    assert list((tmp_path / "here").iterdir()) == []


def test_a_file_in_the_way_is_trouble(store: Store, tmp_path: Path) -> None:
    publish(store, make_wheel(tmp_path))
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot write to"):
        export(store, RELEASE, HERE, tmp_path / "file" / "out")
    with pytest.raises(PolicyError, match="holds other files"):
        export(store, RELEASE, HERE, tmp_path / "file")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system, to which no hard link leads."""
    shared = Path("/dev/shm")
    if not os.access(shared, os.W_OK) or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system to write to")
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


def test_another_file_system_gets_copies(store: Store, tmp_path: Path, elsewhere: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    export(store, RELEASE, HERE, elsewhere / "out")
    copy = elsewhere / "out" / release.filename
    assert sha256_of_file(copy) == release.sha256
    assert not copy.samefile(store.blobs.path(release.sha256))
