"""Yanks and disownings: what they reach, what is gone then, and how it comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.interpreter import measure_self
from store.channel import RELEASE, Channel
from store.digest import JSON, digest_of, sha256_of
from store.errors import DisownedError, MalformedError, NotFoundError
from store.explain import explain
from store.fingerprint import fingerprint_of
from store.invalidate import Invalidation
from store.provenance import Origin, Pin, Recipe
from store.publish import Store
from store.release import Release
from store.resolve import resolve
from store.selection import Selection, parse_selection
from store.servings import Servings
from tests.store.wheelshop import LINUX, MACOS, OTHER_LINUX, make_wheel, publish

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src", pinned=False)
WHY: dict[str, Any] = {"reason": "loses data", "by": "ada@farm"}


@pytest.fixture
def orders(store: Store) -> Invalidation:
    return Invalidation(store.database)


def pinned(*used: Release) -> dict[str, Any]:
    """The inputs of a build with these wheels."""
    pins = [
        Pin(name=each.name, version=each.version, filename=each.filename, sha256=each.sha256)
        for each in used
    ]
    return {"build_requirements": tuple(pins)}


def wheel(store: Store, folder: Path, name: str, *used: Release, **more: Any) -> Release:
    inputs = {**pinned(*used), **more.pop("inputs", {})}
    return publish(store, make_wheel(folder, name=name), inputs=inputs, **more)


def listed(store: Store, release: Release) -> list[str]:
    return [each.filename for each in store.catalogue.listing(release.channel, release.fingerprint)]


def test_a_disowned_release_is_gone_from_everything_and_its_bytes_stay(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    release = wheel(store, tmp_path, "wheaty")
    order, radius = orders.disown(Selection(file=release.filename), **WHY)
    assert order is not None
    assert [each.filename for each in radius.selected] == [release.filename]
    catalogue = store.catalogue
    place = (release.channel, release.fingerprint)
    assert catalogue.find_release(*place, release.build_key) is None
    assert (catalogue.indexes(), catalogue.has_index(*place)) == ([], False)
    assert (catalogue.projects(*place), catalogue.listing(*place)) == ([], [])
    assert catalogue.served_file(*place, release.filename) is None
    assert catalogue.targets(RELEASE) == {}
    assert resolve(catalogue, RELEASE, measure_self()).fingerprint is None
    assert catalogue.siblings(sha256_of(b"wheaty 1.0")) == {}
    assert store.blobs.read(release.sha256) == (tmp_path / release.filename).read_bytes()
    (kept,) = catalogue.releases_of(release.sha256)
    assert kept == replace(release, disowned=order.id)
    (explained,) = explain(store, release.filename)
    assert (explained.serves, explained.publications[0].disowned) == ((), order)


def test_what_was_built_with_it_goes_with_it_link_by_link(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    root = wheel(store, tmp_path, "root")
    middle = wheel(store, tmp_path, "middle", root)
    leaf = wheel(store, tmp_path, "leaf", middle, channel=DEV)
    other = wheel(store, tmp_path, "other")
    looked = orders.look(Selection(package="root"))
    assert [(each.name, each.because) for each in looked.made_with] == [
        ("middle", root.filename),
        ("leaf", middle.filename),
    ]
    assert looked.channels == [DEV, RELEASE]
    assert listed(store, root) == [each.filename for each in (middle, other, root)], "only looked"
    orders.disown(Selection(package="root==1.0"), **WHY)
    assert (listed(store, root), listed(store, leaf)) == ([other.filename], [])


def test_shallow_leaves_what_was_built_with_it(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    root = wheel(store, tmp_path, "root")
    middle = wheel(store, tmp_path, "middle", root)
    orders.disown(Selection(package="root"), deep=False, **WHY)
    assert listed(store, root) == [middle.filename]


def test_two_wheels_that_were_built_with_each_other_end_the_search(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    hen = wheel(store, tmp_path, "hen")
    egg = wheel(store, tmp_path, "egg", hen)
    wheel(store, tmp_path, "hen", egg, inputs={"epoch": 1, **pinned(egg)})
    orders.disown(Selection(package="egg"), **WHY)
    assert listed(store, hen) == [hen.filename], "the first hen came before the egg"


TOOLCHAIN: dict[str, JSON] = {
    "kind": "native",
    "compiler": {"version": "gcc 12.2.0", "sha256": "ab" * 32},
}


CONDITIONS: list[Mapping[str, Any]] = [
    {"requirement": "setuptools==69.0"},
    {"requirement": "c" * 64},
    {"worker": "host-1"},
    {"toolchain": "gcc 12.2"},
    {"toolchain": "ab" * 32},
    {"toolchain": digest_of(TOOLCHAIN)},
    {"fields": {"toolchain.compiler.version": "gcc 12.2.0"}},
    {"fields": {"recipe.env.CFLAGS": '-O2 "x"'}},
    {"fields": {"recipe": digest_of(Recipe(env={"CFLAGS": '-O2 "x"'}).to_json())}},
    {"fields": {"epoch": "3", "salt": "pepper"}},
    {"fields": {"build_requirements.name": "setuptools"}},
    {"fields": {"recipe.timeout_seconds": "3600"}, "worker": "host-1"},
    {"interpreter": "two-dots.so.1.0"},
    {"interpreter": sha256_of(b"bound")},
    {"interpreter": "BOUND"},
    {"fields": {"target.build.libpython_name": "/opt/two-dots.so.1.0"}},
    {"sdist": sha256_of(b"odd 1.0")},
    {"sdist": "odd-1.0.tar.gz"},
    {"package": "Odd"},
    {"build_key": "KEY"},
    {"linked": True, "package": "odd"},
]


def test_it_is_found_by_whatever_went_into_it(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    assert LINUX.build is not None
    build = replace(
        LINUX.build,
        libpython="shared",
        libpython_name="/opt/two-dots.so.1.0",
        config_sha256=sha256_of(b"bound"),
    )
    bound = replace(LINUX, build=build)
    setuptools = Pin(name="setuptools", version="69.0", filename="s.whl", sha256=sha256_of(b""))
    inputs = {
        "build_requirements": (replace(setuptools, sha256="c" * 64),),  # type: ignore[arg-type]
        "toolchain": TOOLCHAIN,
        "recipe": Recipe(env={"CFLAGS": '-O2 "x"'}),
        "epoch": 3,
        "salt": "pepper",
    }
    path = make_wheel(tmp_path, name="odd", members={"odd.so": b"libpython3.11.so"})
    odd = publish(store, path, target=bound, inputs=inputs, environment={"worker": "host-1"})
    publish(
        store, make_wheel(tmp_path, name="even", tag="py3-none-any"), target=MACOS,
        environment={"worker": "host-10"},
        inputs={"recipe": Recipe(env={"worker": "host-1"}, timeout_seconds=36000)},
    )  # fmt: skip
    stand_ins = {"KEY": odd.build_key, "BOUND": odd.fingerprint}
    for condition in CONDITIONS:
        said = {
            name: stand_ins.get(value, value) if isinstance(value, str) else value
            for name, value in condition.items()
        }
        found = orders.look(parse_selection(said))
        assert [each.name for each in found.struck] == ["odd"], condition


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "nothing is selected"),
        ({"channel": "release"}, "nothing is selected"),
        ({"linked": True, "fingerprint": fingerprint_of(LINUX)}, "nothing is selected"),
        ({"channel": "mine", "package": "x"}, "channel: not a channel"),
        ({"package": "==1"}, "package: not a package"),
        ({"build_key": "ff"}, "build_key: not a SHA-256"),
        ({"requirement": "setuptools"}, "requirement: not a SHA-256"),
        ({"toolchain": "g"}, "toolchain: shorter than 3"),
        ({"worker": " "}, "worker: is empty"),
        ({"worker": "a\nb"}, "worker: not an acceptable value"),
        ({"fields": {"epoch": 3}}, "fields.epoch: not a string"),
        ({"shape": "round"}, "unknown fields"),
    ],
)
def test_nothing_is_never_everything(said: Mapping[str, object], words: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_selection(said)
    assert words in caught.value.message


def test_a_selection_survives_its_words() -> None:
    chosen = Selection(package="wheaty==1.0", linked=True, fields={"epoch": "3"})
    assert parse_selection(chosen.to_json()) == chosen
    assert str(chosen) == "package wheaty==1.0, linked True, epoch=3"


def test_conditions_add_up_and_narrow(store: Store, orders: Invalidation, tmp_path: Path) -> None:
    here = wheel(store, tmp_path, "wheaty")
    there = wheel(store, tmp_path, "wheaty", channel=DEV, target=OTHER_LINUX)
    assert here.filename == there.filename
    found = orders.look(Selection(package="wheaty", channel=DEV))
    assert [each.channel for each in found.selected] == [DEV]
    assert [each.channel for each in found.same_bytes] == [RELEASE], "told, and left alone"
    assert not orders.look(Selection(package="wheaty", fingerprint=fingerprint_of(MACOS))).struck
    assert not orders.look(Selection(package="wheat_%")).struck


def test_the_same_bytes_stay_away_until_somebody_says_otherwise(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    release = wheel(store, tmp_path, "wheaty")
    order, _ = orders.disown(Selection(package="wheaty"), **WHY)
    assert order is not None
    for channel in (RELEASE, DEV):
        with pytest.raises(DisownedError, match=r"was disowned on .* by ada@farm: loses data"):
            wheel(store, tmp_path, "wheaty", channel=channel)
    salted = wheel(store, tmp_path, "wheaty", inputs={"salt": "fresh"})
    raised = wheel(store, tmp_path, "wheaty", channel=DEV, epoch=1)
    assert salted.filename == raised.filename == release.filename
    assert listed(store, release) == [release.filename]


def test_a_fresh_build_of_the_same_key_takes_the_place_of_a_disowned_one(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    first = wheel(store, tmp_path, "wheaty")
    order, _ = orders.disown(Selection(build_key=first.build_key), **WHY)
    assert order is not None
    fresh = publish(store, make_wheel(tmp_path, build="1_def", members={"new.py": b""}))
    assert (fresh.build_key, fresh.filename) != (first.build_key, first.filename)
    assert fresh.build_key == first.build_key
    assert listed(store, first) == [fresh.filename]
    lifted = orders.undo("disown", order.id, by="bob")
    assert [each.filename for each in lifted.replaced] == [first.filename]
    assert listed(store, first) == [fresh.filename]


def test_what_is_built_with_a_disowned_wheel_is_refused_at_the_door(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    """The build had begun before the order, say."""
    root = wheel(store, tmp_path, "root")
    key = sha256_of(b"some build")
    pins = pinned(root)["build_requirements"]
    store.catalogue.remember_resolution(key, pins)
    store.catalogue.remember_resolution(sha256_of(b"another"), ())
    orders.disown(Selection(package="root"), **WHY)
    with pytest.raises(DisownedError, match=r"leaf-1.0.* was built with root-1.0.*, which was"):
        wheel(store, tmp_path, "leaf", root)
    assert store.catalogue.resolution(key) is None, "it is resolved afresh"
    assert store.catalogue.resolution(sha256_of(b"another")) == ()


def test_an_order_is_undone_as_a_whole(store: Store, orders: Invalidation, tmp_path: Path) -> None:
    root = wheel(store, tmp_path, "root")
    middle = wheel(store, tmp_path, "middle", root)
    widened = store.widen(root, store.catalogue.remember_target(OTHER_LINUX), "linkage-free")
    before = listed(store, root)
    order, radius = orders.disown(Selection(package="root"), **WHY)
    assert order is not None
    assert [each.fingerprint for each in radius.widened] == [widened.fingerprint]
    assert store.catalogue.listing(RELEASE, widened.fingerprint) == []
    assert store.catalogue.was_disowned(RELEASE, widened.fingerprint, root.filename)
    lifted = orders.undo("disown", order.id, by="bob")
    assert {each.id for each in lifted.restored} == {root.id, middle.id}
    assert listed(store, root) == before
    assert store.catalogue.listing(RELEASE, widened.fingerprint) == [root]
    (undone,) = orders.orders()
    assert (undone.undone_by, undone.reason, undone.by) == ("bob", "loses data", "ada@farm")
    with pytest.raises(NotFoundError, match=f"nothing of order {order.id} is disowned"):
        orders.undo("disown", order.id, by="bob")


def test_a_part_is_undone_and_what_a_second_order_holds_is_not(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    one, two = wheel(store, tmp_path, "one"), wheel(store, tmp_path, "two")
    first, _ = orders.disown(Selection(fields={"tools.build": "1.4"}), **WHY)
    assert first is not None
    orders.undo("disown", Selection(package="one"), by="bob")
    assert listed(store, one) == [one.filename]
    second, _ = orders.disown(Selection(package="one"), **WHY)
    assert second is not None
    assert orders.undo("disown", first.id, by="bob").restored[0].filename == two.filename
    assert listed(store, one) == [two.filename]
    assert [order.undone_by for order in orders.orders()] == [None, "bob"]


def test_nothing_is_no_order(store: Store, orders: Invalidation) -> None:
    order, radius = orders.disown(Selection(package="absent"), **WHY)
    assert (order, radius.struck, orders.orders()) == (None, (), [])


@pytest.mark.parametrize("wrong", ["", " ", "a\nb", "x" * 501])
def test_a_reason_is_one_line(orders: Invalidation, wrong: str) -> None:
    for reason, by in ((wrong, "ada"), ("x", wrong)):
        with pytest.raises(MalformedError, match="one line of 1 to 500"):
            orders.disown(Selection(package="x"), reason=reason, by=by)


def test_the_build_that_was_superseded_is_offered_again(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    old = publish(store, make_wheel(tmp_path))
    new = publish(store, make_wheel(tmp_path, build="1_def", members={"new.py": b""}), epoch=1)
    order, _ = orders.disown(Selection(file=new.filename), **WHY)
    assert order is not None
    assert store.catalogue.listing(RELEASE, old.fingerprint) == [old]
    orders.undo("disown", order.id, by="bob")
    offered = {e.filename: e.yanked for e in store.catalogue.listing(RELEASE, old.fingerprint)}
    assert offered == {old.filename: f"superseded by {new.filename}", new.filename: None}


def test_a_yank_has_a_reason_and_is_undone_to_what_was_before(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    old = publish(store, make_wheel(tmp_path))
    new = publish(store, make_wheel(tmp_path, build="1_def", members={"new.py": b""}), epoch=1)
    leaf = wheel(store, tmp_path, "leaf", new)
    first, radius = orders.yank(Selection(package="wheaty"), **WHY)
    second, _ = orders.yank(Selection(package="wheaty"), reason="and is slow", by="eve")
    assert first is not None
    assert second is not None
    assert radius.made_with == (), "a yank hides only what is meant"
    yanked = {e.filename: e.yanked for e in store.catalogue.listing(RELEASE, old.fingerprint)}
    assert yanked == {
        old.filename: "and is slow",
        new.filename: "and is slow",
        leaf.filename: None,
    }
    orders.undo("yank", second.id, by="bob")
    assert store.catalogue.release(new.id).yanked == "loses data"
    orders.undo("yank", Selection(package="wheaty"), by="bob")
    assert store.catalogue.release(new.id).yanked is None
    assert store.catalogue.release(old.id).yanked == f"superseded by {new.filename}"


def test_a_widening_goes_with_the_wheel_that_proved_it(
    store: Store, orders: Invalidation, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path, tag="py3-none-any"))
    twin = publish(store, make_wheel(tmp_path, build="1_twin"), target=OTHER_LINUX)
    store.widen(release, twin.fingerprint, "same-content")
    order, radius = orders.disown(Selection(file=twin.filename), **WHY)
    assert order is not None
    assert [(each.filename, each.reason) for each in radius.widened] == [
        (release.filename, "same-content")
    ]
    assert store.catalogue.listing(RELEASE, twin.fingerprint) == []
    assert store.catalogue.listing(RELEASE, release.fingerprint) == [release]
    assert store.catalogue.widenings(release) == []
    orders.undo("disown", order.id, by="bob")
    assert len(store.catalogue.listing(RELEASE, twin.fingerprint)) == 2


def test_who_was_given_it_is_known_to_the_day(
    store: Store, orders: Invalidation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = wheel(store, tmp_path, "wheaty")
    elsewhere = wheel(store, tmp_path, "wheaty", channel=DEV, inputs={"salt": "x"})
    record = Servings(store.database)
    other = fingerprint_of(OTHER_LINUX)
    for day in (3, 5, 4):  # the clock goes back once
        moment = release.published_at.replace(month=3, day=day)
        monkeypatch.setattr("store.servings.now", lambda moment=moment: moment)
        for fingerprint in (release.fingerprint, other):
            record.note(RELEASE, fingerprint, release.filename)
        record.note(DEV, elsewhere.fingerprint, release.filename)
        record.note(RELEASE, other, "garbage-1.0-py3-none-any.whl")
        record.flush()
    found = orders.look(Selection(package="wheaty", channel=RELEASE))
    year = release.published_at.year
    seen = {(each.fingerprint, each.first_on, each.last_on) for each in found.served}
    days = (f"{year}-03-03", f"{year}-03-05")
    assert seen == {(release.fingerprint, *days), (other, *days)}
    assert found.fingerprints == sorted({release.fingerprint, other})
