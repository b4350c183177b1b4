"""What the catalogue knows of wheels of an index: which were adopted, and which refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from store.channel import UPSTREAM, Channel
from store.digest import sha256_of
from store.invalidate import Invalidation
from store.provenance import ADOPTED, Origin
from store.publish import Store
from store.selection import Selection
from store.upstream import (
    Refusal,
    adoptions,
    adoptions_of,
    forget_refusal,
    refusals,
    refusals_of,
    remember_refusal,
)
from tests.store.wheelshop import LINUX, OTHER_LINUX, make_wheel, publish

OF_INDEX = Origin(kind=ADOPTED, location="https://index.example/simple/", pinned=True)
WHEATY = canonicalize_name("wheaty")
BAD = Refusal(
    sha256=sha256_of(b"bad"),
    filename="wheaty-1.0-py3-none-any.whl",
    name="wheaty",
    code="adoption-refused",
    message="it lies",
    findings=[{"check": "any-wheel", "message": "binaries"}],
)


def test_adoptions_are_known_by_project_and_by_the_file_of_the_index(
    store: Store, tmp_path: Path
) -> None:
    taken: dict[str, Any] = {"channel": UPSTREAM, "origin": OF_INDEX}
    one = publish(store, make_wheel(tmp_path), **taken)
    two = publish(store, make_wheel(tmp_path), target=OTHER_LINUX, **taken)
    publish(store, make_wheel(tmp_path, name="corny"), **taken)
    publish(store, make_wheel(tmp_path), channel=Channel("dev/me"), target=LINUX)
    found = adoptions(store.database, WHEATY)
    assert [each.release for each in found] == [one, two]
    assert {each.sha256 for each in found} == {sha256_of(b"wheaty 1.0")}
    assert adoptions_of(store.database, found[0].sha256) == found
    assert adoptions_of(store.database, sha256_of(b"other")) == []
    Invalidation(store.database).disown(Selection(file=one.filename), reason="bad", by="ada")
    taken_back = adoptions(store.database, WHEATY)
    assert [each.release.disowned is None for each in taken_back] == [False, False]


def test_a_refusal_is_remembered_by_its_digest_until_a_later_look(store: Store) -> None:
    remember_refusal(store.database, BAD)
    again = replace(BAD, message="it lies still")
    remember_refusal(store.database, again)
    assert refusals(store.database, WHEATY) == {BAD.sha256: again}
    assert refusals_of(store.database, BAD.filename) == [again]
    assert refusals_of(store.database, BAD.sha256) == [again]
    assert refusals_of(store.database, "\0") == []
    assert refusals(store.database, canonicalize_name("corny")) == {}
    with store.database.writing() as connection:
        forget_refusal(connection, BAD.sha256)
    assert refusals(store.database, WHEATY) == {}
