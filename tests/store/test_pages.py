"""Pages: frozen as text, and safe whatever a wheel calls itself."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import parse_tag

from store import pages
from store.catalogue import IndexSummary
from store.channel import RELEASE, Channel
from store.digest import sha256_of
from store.fingerprint import Fingerprint
from store.provenance import BuildKey
from store.release import Release

GOLDEN = Path(__file__).parent.parent / "golden" / "pages"
FINGERPRINT = Fingerprint("cp311-macosx_11_0_arm64-0123456789ab")
WHEEL = Release(
    id=1,
    channel=RELEASE,
    fingerprint=FINGERPRINT,
    build_key=BuildKey(sha256_of(b"key")),
    filename="wheaty-1.0+local-1_abc-cp311-cp311-macosx_11_0_arm64.whl",
    sha256=sha256_of(b"wheel"),
    size=1234,
    name="wheaty",
    version="1.0+local",
    tags=parse_tag("cp311-cp311-macosx_11_0_arm64"),
    requires_python=">=3.8,<4",
    metadata_sha256=sha256_of(b"metadata"),
    content_sha256=sha256_of(b"content"),
    extension_modules=frozenset(),
    interpreter_bound=(),
    proof="statically-verified",
    published_at=datetime(2026, 11, 21, 6, 14, 0, 250_000, tzinfo=UTC),
    yanked=None,
)
YANKED = replace(
    WHEEL,
    filename="wheaty-0.9-1_def-py3-none-any.whl",
    version="0.9",
    requires_python=None,
    yanked='eats "data" & <b>time</b>',
)
NO_REASON = replace(YANKED, filename="wheaty-0.10-1_a-py3-none-any.whl", version="0.10", yanked="")
RELEASES = [WHEEL, YANKED, NO_REASON]
INDEXES = [
    IndexSummary(channel=Channel("dev/me"), fingerprint=FINGERPRINT, projects=1, files=2),
    IndexSummary(channel=RELEASE, fingerprint=FINGERPRINT, projects=3, files=4),
]
PAGES = {
    "projects.html": pages.project_list_html(["corny", "wheaty"]),
    "projects.json": pages.project_list_json(["corny", "wheaty"]),
    "project.html": pages.project_html("wheaty", RELEASES, "../../files/"),
    "project.json": pages.project_json("wheaty", RELEASES, "../../files/"),
    "links.html": pages.links_html("Links", RELEASES, "../files/"),
    "home.html": pages.home_html(INDEXES),
    "home-empty.html": pages.home_html([]),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_the_frozen_one(name: str) -> None:
    assert PAGES[name] == (GOLDEN / name).read_text(encoding="utf-8")


def test_every_frozen_page_is_tested() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(PAGES)


def test_json_says_what_peps_691_and_700_ask_for() -> None:
    page = json.loads(PAGES["project.json"])
    assert page["meta"] == {"api-version": "1.4"}
    assert page["versions"] == ["0.9", "0.10", "1.0+local"]
    wheel, yanked, no_reason = page["files"]
    assert wheel["hashes"] == {"sha256": WHEEL.sha256}
    assert wheel["core-metadata"] == {"sha256": WHEEL.metadata_sha256}
    assert wheel["size"] == 1234
    assert wheel["upload-time"] == "2026-11-21T06:14:00.250000Z"
    assert unquote(wheel["url"]) == f"../../files/{WHEEL.filename}"
    assert (wheel["yanked"], no_reason["yanked"]) == (False, True)
    assert yanked["yanked"] == YANKED.yanked
    assert yanked["requires-python"] is None


class _Reader(HTMLParser):
    """Every element of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")


# Text as wheels, channels and requirements could bring it, with what HTML makes much of.
_HOSTILE = st.text(
    st.one_of(st.sampled_from("<>&\"'/=`;#!-\n "), st.characters(exclude_categories=["Cs", "Cc"])),
    min_size=1,
    max_size=30,
) | st.sampled_from(
    ["<script>alert(1)</script>", '"><img src=x onerror=y>', "--><b>", "&lt;", "../"]
)
_ELEMENTS = {"html", "head", "meta", "title", "style", "body", "h1", "h2", "p", "code", "table"}
_ELEMENTS |= {"tr", "th", "td", "a", "br"}
_ATTRIBUTES = {"href", "class", "lang", "charset", "name", "content", "data-requires-python"}
_ATTRIBUTES |= {"data-core-metadata", "data-dist-info-metadata", "data-yanked"}


def _check_safe(page: str) -> _Reader:
    reader = _Reader(page)
    assert {tag for tag, _ in reader.elements} <= _ELEMENTS
    assert {name for _, attributes in reader.elements for name in attributes} <= _ATTRIBUTES
    for tag, attributes in reader.elements:
        if tag == "a":
            assert not (attributes["href"] or "").lower().startswith(("javascript:", "//", "http"))
    return reader


@given(_HOSTILE, _HOSTILE, _HOSTILE)
def test_no_page_shows_a_hostile_text_as_markup(name: str, python: str, reason: str) -> None:
    release = replace(WHEEL, filename=name, requires_python=python, yanked=reason)
    for page in (
        pages.project_html(name, [release], "../../files/"),
        pages.links_html(name, [release], "../files/"),
    ):
        [anchor] = [each for tag, each in _check_safe(page).elements if tag == "a"]
        assert anchor["data-requires-python"] == python
        assert anchor["data-yanked"] == reason
        path, _, digest = (anchor["href"] or "").partition("#")
        assert digest == f"sha256={release.sha256}"
        assert unquote(path).endswith(name)
        assert "/" not in path.rpartition("files/")[2]
        assert "<" not in page.split('data-requires-python="')[1].split('"')[0]
    summary = IndexSummary(
        channel=Channel(name), fingerprint=Fingerprint(python), projects=1, files=1
    )
    _check_safe(pages.home_html([summary]))
    _check_safe(pages.project_list_html([name, python]))


@given(_HOSTILE, _HOSTILE)
def test_json_gives_every_text_back(name: str, reason: str) -> None:
    release = replace(WHEEL, filename=name, yanked=reason)
    [file] = json.loads(pages.project_json(name, [release], ""))["files"]
    assert (file["filename"], file["yanked"], unquote(file["url"])) == (name, reason, name)
