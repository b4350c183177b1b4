"""Channels: their names, and what the release channel takes."""

from __future__ import annotations

import pytest

from store.channel import RELEASE, Channel, admit, parse_channel
from store.digest import sha256_of
from store.errors import MalformedError, PolicyError
from store.provenance import Origin, OriginKind, Source


@pytest.mark.parametrize(
    "text", ["release", "dev/me", "dev/a", "dev/team.x_1-b", f"dev/{'a' * 63}"]
)
def test_names(text: str) -> None:
    assert parse_channel(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "dev", "dev/", "Release", "dev/a/b", "dev/..", "dev/-a", "dev/a.", "dev/A", "dev/ä",
     "release\n", f"dev/{'a' * 64}"],
)  # fmt: skip
def test_other_names_are_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="not a channel"):
        parse_channel(text)


def _source(kind: OriginKind, *, pinned: bool) -> Source:
    return Source(
        name="wheaty",
        version="1.0",
        filename="wheaty-1.0.tar.gz",
        sha256=sha256_of(b""),
        origin=Origin(kind=kind, location="somewhere", pinned=pinned),
    )


def test_release_takes_what_an_index_gave_under_a_known_digest() -> None:
    admit(_source("index", pinned=True), RELEASE)


@pytest.mark.parametrize(
    ("kind", "pinned"), [("index", False), ("local", True), ("local", False), ("vcs", True)]
)
def test_release_takes_nothing_else_and_a_dev_channel_takes_it(
    kind: OriginKind, pinned: bool
) -> None:
    with pytest.raises(PolicyError, match="may not enter the release channel"):
        admit(_source(kind, pinned=pinned), RELEASE)
    admit(_source(kind, pinned=pinned), Channel("dev/me"))
