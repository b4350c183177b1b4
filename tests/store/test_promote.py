"""Promotion: what becomes of a release in another channel, and what may not be promoted."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store.access import Actor
from store.attestation import attest, check_attested
from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE, UPSTREAM, Channel
from store.errors import (
    DisownedError,
    MalformedError,
    NameTakenError,
    NotFoundError,
    PolicyError,
    QuotaError,
    WheelfarmError,
)
from store.explain import explain
from store.fingerprint import fingerprint_of
from store.fsck import check
from store.garbage import collect
from store.invalidate import Invalidation
from store.keyring import FOLDER, KeyRing
from store.promote import Move, promote
from store.provenance import ADOPTED, Origin, Pin
from store.publish import Store
from store.release import Release
from store.retention import Policy, Rule
from store.selection import Selection
from store.status import ProjectStatus
from tests.store.wheelshop import LINUX, OTHER_LINUX, make_wheel, publish

DEV, TEAM = Channel("dev/me"), Channel("dev/team")
LOCAL = Origin(kind="local", location="/src", pinned=False)
UNPINNED = Origin(kind="index", location="https://index.example/simple/", pinned=False)
PINNED_WHEEL = Origin(kind=ADOPTED, location="https://index.example/simple/", pinned=True)
BY = Actor(who="ada", token="t1")
WHY: dict[str, Any] = {"reason": "bad", "by": "ada"}


def never(name: str) -> bool:
    raise AssertionError(f"the index was asked for {name}")


def mine(store: Store, folder: Path, **more: Any) -> Release:
    """A local build in `DEV`."""
    more = {"channel": DEV, "origin": LOCAL, **more}
    wheel = {key: more.pop(key) for key in ("name", "version", "members") if key in more}
    return publish(store, make_wheel(folder, **wheel), **more)


def move(
    what: str = "wheaty", *, source: Channel = DEV, target: Channel = TEAM, **more: Any
) -> Move:
    chosen: dict[str, Any] = {"file" if what.endswith(".whl") else "package": what, **more}
    return Move(
        selection=Selection(**chosen), source=source, target=target, reason="tested for a week"
    )


def test_the_same_bytes_are_in_the_other_channel_with_a_reason(
    store: Store, tmp_path: Path
) -> None:
    old = mine(store, tmp_path)
    done = promote(store, move(), actor=BY, index_has=never)
    (new,) = done.made
    assert done.there == ()
    same = {"channel": TEAM, "id": new.id, "published_at": new.published_at}
    assert new == replace(old, **same, promotion=new.promotion)  # type: ignore[arg-type]
    assert new.promotion is not None
    told = {key: new.promotion[key] for key in ("from", "reason", "by")}
    assert told == {"from": DEV, "reason": "tested for a week", "by": "ada"}
    assert store.catalogue.provenance(new) == store.catalogue.provenance(old)
    assert store.catalogue.listing(TEAM, new.fingerprint) == [new]
    assert store.catalogue.listing(DEV, old.fingerprint) == [old]
    (row,) = audit_rows(store.database, AuditFilter(action="promote"), 10)
    assert (row.who, row.token, row.object) == ("ada", "t1", old.filename)
    assert row.detail["reason"] == "tested for a week"
    (explained,) = explain(store, old.filename)
    assert [each.release.promotion for each in explained.publications] == [None, new.promotion]
    assert list(check(store)) == []


def test_a_second_promotion_changes_nothing(store: Store, tmp_path: Path) -> None:
    mine(store, tmp_path)
    (new,) = promote(store, move(), actor=BY, index_has=never).made
    again = promote(store, move(), actor=BY, index_has=never)
    assert (again.made, again.there) == ((), (new,))
    assert len(audit_rows(store.database, AuditFilter(action="promote"), 10)) == 1


def test_a_dry_run_says_what_would_be_and_leaves_no_trace(store: Store, tmp_path: Path) -> None:
    old = mine(store, tmp_path)
    done = promote(store, move(), actor=BY, index_has=never, dry_run=True)
    assert [each.filename for each in done.made] == [old.filename]
    assert store.catalogue.listing(TEAM, old.fingerprint) == []
    assert audit_rows(store.database, AuditFilter(action="promote"), 10) == []


def test_what_is_meant_is_promoted_and_nothing_else(store: Store, tmp_path: Path) -> None:
    for version in ("1.0", "2.0"):
        for target in (LINUX, OTHER_LINUX):
            mine(store, tmp_path, version=version, target=target)
    mine(store, tmp_path, name="corny")
    here = fingerprint_of(OTHER_LINUX)
    done = promote(store, move("wheaty==2.0", fingerprint=here), actor=BY, index_has=never)
    assert [(each.version, each.fingerprint) for each in done.made] == [("2.0", here)]
    rest = promote(store, move(), actor=BY, index_has=never)
    assert (len(rest.made), len(rest.there)) == (3, 1)


def test_a_local_build_of_a_name_that_the_index_has_never_gets_into_release(
    store: Store, tmp_path: Path
) -> None:
    asked: list[str] = []

    def has(name: str) -> bool:
        asked.append(name)
        return name == "corny"

    for version, origin in (("1.0", LOCAL), ("2.0", UNPINNED)):
        old = mine(store, tmp_path, name="Corny", version=version, origin=origin)
        for what in (f"corny=={version}", old.filename):
            with pytest.raises(PolicyError, match="the index has a project corny"):
                promote(store, move(what, target=RELEASE), actor=BY, index_has=has)
    assert asked == ["corny"] * 4
    assert store.catalogue.listing(RELEASE, old.fingerprint) == []
    mine(store, tmp_path)
    (new,) = promote(store, move(target=RELEASE), actor=BY, index_has=has).made
    assert (new.channel, asked[-1]) == (RELEASE, "wheaty")


def test_an_index_that_cannot_be_asked_is_no_permission(store: Store, tmp_path: Path) -> None:
    class AwayError(WheelfarmError):
        code = "away"

    def away(name: str) -> bool:
        raise AwayError("no answer")

    old = mine(store, tmp_path)
    with pytest.raises(AwayError):
        promote(store, move(target=RELEASE), actor=BY, index_has=away)
    assert store.catalogue.listing(RELEASE, old.fingerprint) == []


def test_what_is_pinned_from_an_index_gets_into_release_without_asking(
    store: Store, tmp_path: Path
) -> None:
    publish(store, make_wheel(tmp_path), channel=DEV)
    assert promote(store, move(target=RELEASE), actor=BY, index_has=never).made
    rye = make_wheel(tmp_path, name="rye")
    publish(store, rye, channel=UPSTREAM, origin=PINNED_WHEEL)
    up = move("rye", source=UPSTREAM, target=RELEASE)
    assert promote(store, up, actor=BY, index_has=never).made


def test_nothing_is_promoted_into_upstream_nor_into_itself(store: Store, tmp_path: Path) -> None:
    mine(store, tmp_path)
    with pytest.raises(PolicyError, match="upstream"):
        promote(store, move(target=UPSTREAM), actor=BY, index_has=never)
    with pytest.raises(MalformedError):
        promote(store, move(target=DEV), actor=BY, index_has=never)
    with pytest.raises(MalformedError, match="reason"):
        promote(store, replace(move(), reason=" "), actor=BY, index_has=never)


def test_yanked_disowned_and_quarantined_releases_stay_where_they_are(
    store: Store, tmp_path: Path
) -> None:
    with pytest.raises(NotFoundError):
        promote(store, move(), actor=BY, index_has=never)
    old = mine(store, tmp_path)
    orders = Invalidation(store.database)
    orders.yank(Selection(file=old.filename), **WHY)
    with pytest.raises(PolicyError, match="yanked in dev/me: bad"):
        promote(store, move(old.filename), actor=BY, index_has=never)
    newer = mine(store, tmp_path, version="2.0")
    (made,) = promote(store, move(), actor=BY, index_has=never).made
    assert made.filename == newer.filename
    orders.disown(Selection(package="wheaty", channel=DEV), **WHY)
    with pytest.raises(NotFoundError):
        promote(store, move(target=Channel("dev/x")), actor=BY, index_has=never)
    mine(store, tmp_path, name="corny")
    bad = ProjectStatus(status="quarantined", reason="malware")
    store.catalogue.set_project_status(DEV, "corny", bad, BY)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="quarantine"):
        promote(store, move("corny"), actor=BY, index_has=never)


def test_the_target_has_its_own_say(store: Store, tmp_path: Path) -> None:
    """Its project status, its quota, and what was disowned count as for any publication."""
    old = mine(store, tmp_path)
    shut = ProjectStatus(status="archived", reason=None)
    store.catalogue.set_project_status(TEAM, "wheaty", shut, BY)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="archived in dev/team"):
        promote(store, move(), actor=BY, index_has=never)
    small = replace(store, quota=lambda _: 10)
    with pytest.raises(QuotaError):
        promote(small, move(target=Channel("dev/x")), actor=BY, index_has=never)
    other = Channel("dev/other")
    promote(store, move(target=other), actor=BY, index_has=never)
    Invalidation(store.database).disown(Selection(package="wheaty", channel=other), **WHY)
    with pytest.raises(DisownedError):
        promote(store, move(target=Channel("dev/y")), actor=BY, index_has=never)
    assert store.catalogue.listing(DEV, old.fingerprint) == [old]


def test_the_first_release_of_a_build_stands(store: Store, tmp_path: Path) -> None:
    """Of one build that gave other bytes in each channel, the target keeps its own."""
    mine(store, tmp_path)
    wheel = make_wheel(tmp_path / "3", members={"more.py": b"1\n"}, build="1_def")
    theirs = publish(store, wheel, channel=TEAM, origin=LOCAL)
    with pytest.raises(NameTakenError, match="first"):
        promote(store, move(), actor=BY, index_has=never)
    assert store.catalogue.listing(TEAM, theirs.fingerprint) == [theirs]


def test_the_promoted_build_supersedes_the_older_ones_of_its_version(
    store: Store, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "3", members={"more.py": b"1\n"}, build="1_def")
    theirs = publish(store, wheel, channel=TEAM, origin=LOCAL, epoch=7)
    mine(store, tmp_path)
    (new,) = promote(store, move(), actor=BY, index_has=never).made
    said = {each.filename: each.yanked for each in store.catalogue.listing(TEAM, new.fingerprint)}
    assert said == {new.filename: None, theirs.filename: f"superseded by {new.filename}"}


def test_whom_a_wheel_was_widened_to_it_serves_there_too(store: Store, tmp_path: Path) -> None:
    old = mine(store, tmp_path)
    other = store.catalogue.remember_target(OTHER_LINUX)
    store.widen(old, other, "linkage-free")
    (new,) = promote(store, move(), actor=BY, index_has=never).made
    assert store.catalogue.listing(TEAM, other) == [new]


def test_a_widening_whose_proof_is_a_twin_needs_the_twin(store: Store, tmp_path: Path) -> None:
    old, twin = mine(store, tmp_path), mine(store, tmp_path, target=OTHER_LINUX)
    store.widen(old, twin.fingerprint, "same-content")
    alone = move(fingerprint=old.fingerprint)
    (new,) = promote(store, alone, actor=BY, index_has=never).made
    assert store.catalogue.widenings(new) == []
    both = move(target=Channel("dev/x"))
    made = promote(store, both, actor=BY, index_has=never).made
    assert sorted(len(store.catalogue.widenings(each)) for each in made) == [0, 1]


def test_what_takes_back_a_build_takes_back_what_was_promoted_of_it(
    store: Store, tmp_path: Path
) -> None:
    root = mine(store, tmp_path, name="root")
    pin = Pin(name="root", version="1.0", filename=root.filename, sha256=root.sha256)
    mine(store, tmp_path, inputs={"build_requirements": (pin,)})
    promote(store, move(), actor=BY, index_has=never)
    radius = Invalidation(store.database).look(Selection(package="root"))
    assert sorted(each.channel for each in radius.made_with) == [DEV, TEAM]
    one = Invalidation(store.database).look(Selection(package="wheaty", channel=DEV))
    assert [each.channel for each in one.same_bytes] == [TEAM]


def test_the_target_keeps_by_its_own_rules(store: Store, tmp_path: Path) -> None:
    """What the source drops stays where it was promoted to, with its blobs."""
    old = mine(store, tmp_path)
    promote(store, move(), actor=BY, index_has=never)
    mine(store, tmp_path, version="2.0")
    rules = {DEV: Rule(versions=1)}
    policy = Policy(rule=lambda channel: rules.get(channel, Rule()), grace=timedelta(0))
    for _ in range(2):
        collect(store, policy)
    assert [each.version for each in store.catalogue.listing(DEV, old.fingerprint)] == ["2.0"]
    (kept,) = store.catalogue.listing(TEAM, old.fingerprint)
    assert store.blobs.read(kept.sha256)
    assert list(check(store)) == []


def test_the_statement_of_what_was_promoted_is_made_anew_and_holds(
    store: Store, tmp_path: Path
) -> None:
    mine(store, tmp_path)
    (new,) = promote(store, move(), actor=BY, index_has=never).made
    ring = KeyRing(folder=tmp_path / FOLDER)
    ring.create("a" * 32)
    envelope = attest(new, store.catalogue.provenance(new), ring.signer())
    said = check_attested(envelope, ring.public().keys, new.filename, new.sha256)
    assert (said.channel, said.build_key) == (TEAM, new.build_key)
