from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path

import pytest

from builder.errors import (
    DigestError,
    IndexUnreachableError,
    NoSdistError,
    NoSuchProjectError,
    NoSuchVersionError,
)
from builder.index import fetch_sdist, find_sdist
from builder.wire import without_secrets
from store.errors import MalformedError, UsageError
from tests.indexes import answering

BYTES = b"the bytes of an sdist"
SHA256 = hashlib.sha256(BYTES).hexdigest()
OTHER = "0" * 64


@dataclass
class Index:
    """A real index on 127.0.0.1: `files` of project `thing`, `answers` for odd paths."""

    url: str = ""
    files: list[dict[str, object]] = field(default_factory=list)
    answers: dict[str, tuple[int, str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def add(self, filename: str, sha256: str | None = SHA256, **more: object) -> None:
        hashes = {"sha256": sha256} if sha256 else {}
        self.files.append(
            {"filename": filename, "url": f"/files/{filename}", "hashes": hashes, **more}
        )

    def answer(self, path: str) -> tuple[int, str, bytes]:
        if path in self.answers:
            return self.answers[path]
        if path.startswith("/files/"):
            return 200, "application/octet-stream", BYTES
        if path == "/simple/thing/":
            page = {"meta": {"api-version": "1.1"}, "name": "thing", "files": self.files}
            return 200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        return 404, "text/plain", b"not found"


@pytest.fixture
def index() -> Iterator[Index]:
    served = Index()

    def answer(path: str, headers: Message) -> tuple[int, str, bytes]:
        served.asked.append((path, headers.get("Authorization")))
        return served.answer(path)

    with answering(answer) as url:
        served.url = f"{url}simple/"
        yield served


def test_an_sdist_is_found_and_fetched(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0-py3-none-any.whl")
    index.add("thing-1.0.zip")
    index.add("thing-1.0.tar.gz")
    index.add("thing-1.1.tar.gz")
    found = find_sdist("Thing", "1", index_url=index.url.rstrip("/"))
    assert (found.filename, found.sha256, found.yanked) == ("thing-1.0.tar.gz", SHA256, None)
    sdist = fetch_sdist(found, tmp_path / "sdists")
    assert sdist.path.read_bytes() == BYTES
    assert (sdist.source.name, sdist.source.version, sdist.source.sha256) == (
        "thing", "1.0", SHA256,
    )  # fmt: skip
    assert (sdist.source.origin.kind, sdist.source.origin.pinned) == ("index", False)
    fetch_sdist(found, tmp_path / "sdists")
    assert [path for path, _auth in index.asked].count("/files/thing-1.0.tar.gz") == 1


def test_old_names_html_pages_and_yanks(index: Index) -> None:
    page = (
        '<a href="../../files/Thing.One-1.0.tar.gz#sha256='
        f'{SHA256}" data-yanked="broken">Thing.One-1.0.tar.gz</a>'
    )
    index.answers["/simple/thing-one/"] = (200, "text/html; charset=utf-8", page.encode())
    found = find_sdist("thing.one", "1.0", index_url=index.url)
    assert (found.yanked, found.sha256) == ("broken", SHA256)
    assert found.url.endswith("/files/Thing.One-1.0.tar.gz")


def test_a_pinned_hash_chooses_among_sdists(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0.tar.gz", OTHER)
    index.add("thing-1.0.zip")
    found = find_sdist("thing", "1.0", [f"sha256:{SHA256}", "1" * 64], index.url)
    assert found.filename == "thing-1.0.zip"
    assert fetch_sdist(found, tmp_path).source.origin.pinned


@pytest.mark.parametrize(
    ("name", "version", "error", "words"),
    [
        ("nothing", "1.0", NoSuchProjectError, "no project 'nothing'"),
        ("thing", "9", NoSuchVersionError, "no thing 9"),
        ("thing", "1.0", NoSdistError, "only 2 wheels"),
        ("thing", "one", MalformedError, "not a version"),
    ],
)
def test_what_is_not_there_has_its_own_error(
    index: Index, name: str, version: str, error: type[Exception], words: str
) -> None:
    index.add("thing-1.0-py3-none-any.whl")
    index.add("thing-1.0.tar.bz2")
    with pytest.raises(error, match=words):
        find_sdist(name, version, index_url=index.url)


def test_pinned_hashes_that_are_no_sdists_are_refused(index: Index) -> None:
    index.add("thing-1.0.tar.gz")
    with pytest.raises(DigestError, match="none of the 1 pinned hashes") as caught:
        find_sdist("thing", "1.0", [OTHER], index.url)
    assert SHA256 in str(caught.value.hint)


def test_without_a_hash_from_anybody_nothing_is_fetched(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0.tar.gz", None)
    with pytest.raises(DigestError, match="gives no SHA-256"):
        find_sdist("thing", "1.0", index_url=index.url)
    one = find_sdist("thing", "1.0", [SHA256], index.url)
    assert fetch_sdist(one, tmp_path / "a").source.sha256 == SHA256
    two = find_sdist("thing", "1.0", [OTHER, SHA256], index.url)
    assert two.sha256 is None
    assert fetch_sdist(two, tmp_path / "b").source.sha256 == SHA256
    with pytest.raises(DigestError):
        fetch_sdist(find_sdist("thing", "1.0", [OTHER], index.url), tmp_path / "c")


def test_other_bytes_than_the_index_promised_leave_nothing(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0.tar.gz", OTHER)
    with pytest.raises(DigestError, match=SHA256):
        fetch_sdist(find_sdist("thing", "1.0", index_url=index.url), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_name_cannot_lead_out_of_the_folder(index: Index) -> None:
    index.add("../thing-1.0.tar.gz")
    index.add("thing-1.0-py3-none-any.whl")
    with pytest.raises(NoSdistError):
        find_sdist("thing", "1.0", index_url=index.url)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((403, "text/plain", b""), "said 403"),
        ((500, "text/plain", b""), "said 500"),
        ((200, "text/plain", b"hello"), "type 'text/plain'"),
        ((200, "application/json", b"{"), "cannot be read"),
        ((200, "application/json", b"[]"), "cannot be read"),
        ((200, "application/json", b'{"meta": {"api-version": "9.0"}}'), "cannot be read"),
        ((200, "application/json", b"[" * 100_000), "cannot be read"),
    ],
)
def test_a_useless_answer_is_transient_trouble(
    index: Index, answer: tuple[int, str, bytes], words: str
) -> None:
    index.answers["/simple/thing/"] = answer
    with pytest.raises(IndexUnreachableError, match=words) as caught:
        find_sdist("thing", "1.0", index_url=index.url)
    assert caught.value.transient


def test_a_file_that_is_gone_is_trouble_with_the_index(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0.tar.gz")
    index.answers["/files/thing-1.0.tar.gz"] = (404, "text/plain", b"")
    with pytest.raises(IndexUnreachableError, match="said 404"):
        fetch_sdist(find_sdist("thing", "1.0", index_url=index.url), tmp_path)


def test_an_index_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexUnreachableError) as caught:
        find_sdist("thing", "1.0", index_url="http://me:hunter2@127.0.0.1:9/simple/")
    assert "hunter2" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("url", ["file:///tmp/simple", "simple", "http://", "http://[::1"])
def test_what_is_no_index_url_is_wrong_usage(url: str) -> None:
    with pytest.raises(UsageError, match="not the URL of a package index"):
        find_sdist("thing", "1.0", index_url=url)


def test_credentials_go_to_the_indexs_own_host_only(index: Index, tmp_path: Path) -> None:
    index.add("thing-1.0.tar.gz")
    other = index.url.replace("127.0.0.1", "localhost").replace("/simple/", "/files/")
    index.add("thing-2.0.tar.gz")
    index.files[-1]["url"] = f"{other}thing-2.0.tar.gz"
    private = index.url.replace("http://", "http://me:hunter2@")
    for version in ("1.0", "2.0"):
        sdist = fetch_sdist(find_sdist("thing", version, index_url=private), tmp_path)
        assert "hunter2" not in sdist.source.origin.location
    sent = {path: auth is not None for path, auth in index.asked}
    assert sent["/simple/thing/"]
    assert sent["/files/thing-1.0.tar.gz"]
    assert not sent["/files/thing-2.0.tar.gz"]


def test_secrets_are_taken_out_of_a_url() -> None:
    assert without_secrets("https://u:p@h:1/s/?token=t#f") == "https://h:1/s/"


@pytest.mark.network
def test_a_real_index_answers(tmp_path: Path) -> None:
    found = find_sdist("six", "1.17.0")
    assert fetch_sdist(found, tmp_path).source.sha256 == found.sha256
    with pytest.raises(NoSuchVersionError):
        find_sdist("six", "0.0.0.1")
