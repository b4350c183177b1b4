"""Channels that list what others have: which project comes from where, on every page there is."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from builder.interpreter import measure_self
from store.access import Actor, ChannelPattern, Grant
from store.accounts import Accounts, NewToken
from store.catalogue import Catalogue
from store.channel import RELEASE, UPSTREAM, Channel, Inheritance, parse_inherited
from store.digest import sha256_of
from store.errors import MalformedError, PolicyError
from store.explain import explain
from store.export import export
from store.fingerprint import fingerprint_of
from store.gate import Gate
from store.invalidate import Invalidation
from store.provenance import ADOPTED, Origin
from store.publish import Store
from store.release import Release
from store.resolve import resolve
from store.selection import Selection
from store.servings import Servings
from store.status import ProjectStatus
from tests.store.client import Client
from tests.store.wheelshop import LINUX, MACOS, OTHER_LINUX, make_wheel, publish

DEV, TEAM = Channel("dev/me"), Channel("dev/team")
HERE = fingerprint_of(LINUX)
LOCAL = Origin(kind="local", location="/src", pinned=False)
OF_INDEX = Origin(kind=ADOPTED, location="https://index.example/simple/", pinned=True)
CHAINS: dict[str, tuple[Channel, ...]] = {DEV: (TEAM, RELEASE, UPSTREAM), RELEASE: (UPSTREAM,)}
BY = Actor(who="ada")
WHY: dict[str, Any] = {"reason": "bad", "by": "ada"}


def inheriting(store: Store, **named: tuple[Channel, ...]) -> Store:
    chains: dict[str, tuple[Channel, ...]] = {**CHAINS, **named}
    return replace(store, catalogue=Catalogue(store.database, Inheritance(named=chains)))


@pytest.fixture
def shop(store: Store) -> Store:
    """The store, whose channel `DEV` inherits three others."""
    return inheriting(store)


def add(store: Store, folder: Path, name: str, channel: Channel, **more: Any) -> Release:
    version = more.pop("version", "1.0")
    members, build = {"where.txt": channel.encode()}, f"1_{sha256_of(channel.encode())[:12]}"
    place = folder / channel.replace("/", "-")
    wheel = make_wheel(place, name=name, version=version, members=members, build=build)
    kinds = {RELEASE: None, UPSTREAM: OF_INDEX}
    return publish(store, wheel, channel=channel, origin=kinds.get(channel, LOCAL), **more)


def listed(store: Store, channel: Channel = DEV) -> list[Release]:
    return store.catalogue.listing(channel, HERE)


def test_each_project_comes_from_the_first_channel_that_has_it_and_from_no_other(
    shop: Store, tmp_path: Path
) -> None:
    mine = add(shop, tmp_path, "wheaty", DEV)
    add(shop, tmp_path, "wheaty", RELEASE, version="99.0")
    team = add(shop, tmp_path, "corny", TEAM)
    add(shop, tmp_path, "corny", UPSTREAM, version="2.0")
    rye = add(shop, tmp_path, "rye", UPSTREAM)
    assert listed(shop) == [team, rye, mine]
    assert shop.catalogue.projects(DEV, HERE) == ["corny", "rye", "wheaty"]
    assert [each.version for each in listed(shop, RELEASE)] == ["2.0", "1.0", "99.0"]
    assert [each.name for each in listed(shop, TEAM)] == ["corny"]
    assert shop.catalogue.served_file(DEV, HERE, rye.filename) == rye
    far = [each for each in listed(shop, RELEASE) if each.version == "99.0"]
    assert shop.catalogue.served_file(DEV, HERE, far[0].filename) is None
    summary = {each.channel: (each.projects, each.files) for each in shop.catalogue.indexes()}
    assert summary == {DEV: (3, 3), TEAM: (1, 1), RELEASE: (3, 3), UPSTREAM: (2, 2)}


def test_it_is_one_level_that_is_written_out(store: Store, tmp_path: Path) -> None:
    """What a channel inherits that is inherited does not come along."""
    short = inheriting(store, **{DEV: (RELEASE,)})
    add(short, tmp_path, "rye", UPSTREAM)
    assert (listed(short), len(listed(short, RELEASE))) == ([], 1)
    assert short.catalogue.has_index(DEV, HERE) is False


def test_the_rule_for_every_dev_channel_counts_where_a_channel_has_no_table(
    store: Store, tmp_path: Path
) -> None:
    chains: dict[str, tuple[Channel, ...]] = {"dev/*": (TEAM, RELEASE), DEV: ()}
    shop = replace(store, catalogue=Catalogue(store.database, Inheritance(named=chains)))
    add(shop, tmp_path, "corny", TEAM)
    assert (listed(shop), len(listed(shop, Channel("dev/you")))) == ([], 1)
    assert len(listed(shop, TEAM)) == 1  # not itself twice


def test_every_index_of_what_is_inherited_is_there(shop: Store, tmp_path: Path) -> None:
    add(shop, tmp_path, "rye", UPSTREAM, target=MACOS)
    assert list(shop.catalogue.targets(DEV)) == [fingerprint_of(MACOS)]
    assert shop.catalogue.targets(DEV, inherited=False) == {}
    assert shop.catalogue.has_index(DEV, fingerprint_of(MACOS))
    assert not shop.catalogue.has_index(DEV, HERE)


def test_with_pull_through_every_target_has_an_index(shop: Store) -> None:
    shop.catalogue.remember_target(OTHER_LINUX)
    assert not shop.catalogue.has_index(DEV, fingerprint_of(OTHER_LINUX))
    pulling = Catalogue(shop.database, Inheritance(named=CHAINS, pull_through=True))
    assert pulling.has_index(DEV, fingerprint_of(OTHER_LINUX))
    assert list(pulling.targets(DEV)) == [fingerprint_of(OTHER_LINUX)]
    assert not pulling.has_index(DEV, HERE)  # nobody has heard of it
    assert not pulling.has_index(TEAM, fingerprint_of(OTHER_LINUX))


def test_to_take_something_back_brings_no_other_channel_in_its_place(
    shop: Store, tmp_path: Path
) -> None:
    mine = add(shop, tmp_path, "wheaty", DEV)
    theirs = add(shop, tmp_path, "wheaty", RELEASE, version="2.0")
    orders = Invalidation(shop.database)
    order, _ = orders.disown(Selection(file=mine.filename), **WHY)
    assert (listed(shop), shop.catalogue.projects(DEV, HERE)) == ([], [])
    assert shop.catalogue.was_disowned(DEV, HERE, mine.filename)
    assert shop.catalogue.holder(DEV, HERE, mine.name) == DEV  # type: ignore[arg-type]
    assert {each.channel for each in shop.catalogue.indexes()} == {RELEASE}
    assert order is not None
    orders.undo("disown", order.id, by="ada")
    orders.disown(Selection(file=theirs.filename), **WHY)
    assert listed(shop) == [mine]


def test_what_is_yanked_or_disowned_where_it_is_is_so_for_who_inherits_it(
    shop: Store, tmp_path: Path
) -> None:
    one, two = (add(shop, tmp_path, "rye", UPSTREAM, version=each) for each in ("1.0", "2.0"))
    orders = Invalidation(shop.database)
    orders.yank(Selection(file=one.filename), **WHY)
    orders.disown(Selection(file=two.filename), **WHY)
    assert [(each.filename, each.yanked) for each in listed(shop)] == [(one.filename, "bad")]
    client = Client(shop)
    assert client.get(f"/{DEV}/{HERE}/files/{two.filename}").status_code == 410


@pytest.mark.parametrize("where", [DEV, TEAM, RELEASE])
def test_a_quarantine_of_the_heir_the_owner_or_between_hides_the_project(
    shop: Store, tmp_path: Path, where: Channel
) -> None:
    rye = add(shop, tmp_path, "rye", RELEASE)
    bad = ProjectStatus(status="quarantined", reason="malware")
    shop.catalogue.set_project_status(where, "rye", bad, BY)  # type: ignore[arg-type]
    assert listed(shop) == []
    assert shop.catalogue.served_file(DEV, HERE, rye.filename) is None
    page = Client(shop).get(
        f"/{DEV}/{HERE}/simple/rye/?format=application/vnd.pypi.simple.v1%2Bjson"
    )
    assert (page.status_code, page.json()["project-status"]["status"]) == (200, "quarantined")
    assert bool(listed(shop, RELEASE)) == (where != RELEASE)


def test_a_quarantine_behind_the_owner_says_nothing(shop: Store, tmp_path: Path) -> None:
    mine = add(shop, tmp_path, "wheaty", TEAM)
    bad = ProjectStatus(status="quarantined", reason="malware")
    shop.catalogue.set_project_status(UPSTREAM, "wheaty", bad, BY)  # type: ignore[arg-type]
    assert listed(shop) == [mine]
    status = shop.catalogue.shown_status(DEV, HERE, mine.name)  # type: ignore[arg-type]
    assert status.status == "active"


def test_an_inherited_file_has_an_address_of_its_own_that_gives_the_same_bytes(
    shop: Store, tmp_path: Path
) -> None:
    rye = add(shop, tmp_path, "rye", UPSTREAM)
    client = Client(shop)
    base = f"/{DEV}/{HERE}"
    page = client.get(f"{base}/simple/rye/", accept="application/vnd.pypi.simple.v1+json")
    (file,) = page.json()["files"]
    assert file["url"] == f"../../files/{rye.filename}"
    got = client.get(f"{base}/files/{rye.filename}")
    assert got.content == shop.blobs.read(rye.sha256)
    assert got.headers["etag"] == f'"{rye.sha256}"'
    assert client.get(f"{base}/files/{rye.filename}.metadata").status_code == 200
    assert rye.filename in client.get(f"{base}/links/").text
    told = client.get(f"{base}/provenance/{rye.filename}").json()
    assert [each["release"]["channel"] for each in told["publications"]] == [UPSTREAM]


def test_an_etag_changes_when_what_is_inherited_does(shop: Store, tmp_path: Path) -> None:
    add(shop, tmp_path, "rye", UPSTREAM)
    client, page = Client(shop), f"/{DEV}/{HERE}/simple/rye/"
    before = client.get(page).headers["etag"]
    assert client.get(page, if_none_match=before).status_code == 304
    add(shop, tmp_path, "rye", UPSTREAM, version="2.0")
    assert client.get(page, if_none_match=before).status_code == 200


def test_who_was_given_an_inherited_file_is_known_where_it_is_taken_back(
    shop: Store, tmp_path: Path
) -> None:
    rye = add(shop, tmp_path, "rye", UPSTREAM)
    client = Client(shop)
    client.get(f"/{DEV}/{HERE}/files/{rye.filename}")
    record = client.app.state.servings
    assert isinstance(record, Servings)
    record.flush()
    radius = Invalidation(shop.database).look(Selection(file=rye.filename))
    assert [(each.channel, each.fingerprint) for each in radius.served] == [(UPSTREAM, HERE)]


def test_who_may_read_a_channel_may_read_what_it_inherits_and_nothing_more(
    shop: Store, tmp_path: Path
) -> None:
    rye = add(shop, tmp_path, "rye", UPSTREAM)
    add(shop, tmp_path, "secret", TEAM)
    only_dev = inheriting(shop, **{DEV: (UPSTREAM,)})
    accounts = Accounts(shop.database)
    client = Client(only_dev, gate=Gate(accounts=accounts, anonymous="none"))
    grant = Grant(scopes=frozenset({"read"}), channels=(ChannelPattern(DEV),))
    new = NewToken(name="reader", grant=grant, life=timedelta(days=1))
    key = f"Bearer {accounts.create(new, BY)[1].text}"
    assert client.get(f"/{DEV}/{HERE}/files/{rye.filename}", authorization=key).status_code == 200
    for place in (f"/{UPSTREAM}/{HERE}/files/{rye.filename}", f"/{TEAM}/{HERE}/simple/"):
        assert client.get(place, authorization=key).status_code == 403
    home = client.get("/", authorization=key).text
    assert (DEV in home, TEAM in home) == (True, False)


def test_an_export_holds_what_is_inherited(shop: Store, tmp_path: Path) -> None:
    rye, mine = add(shop, tmp_path, "rye", UPSTREAM), add(shop, tmp_path, "wheaty", DEV)
    old = ProjectStatus(status="deprecated", reason="use wheaty")
    shop.catalogue.set_project_status(UPSTREAM, "rye", old, BY)  # type: ignore[arg-type]
    done = export(shop, DEV, HERE, tmp_path / "out")
    assert done.releases == (rye, mine)
    assert "deprecated" in (tmp_path / "out/simple/rye/index.html").read_text()


@pytest.mark.parametrize(
    ("heir", "inherited"),
    [
        ("release", ["dev/me"]),
        ("release", ["upstream", "dev/me"]),
        ("release", ["release"]),
        ("upstream", ["release"]),
        ("dev/me", ["dev/me"]),
        ("dev/me", ["release", "release"]),
        ("dev/me", ["elsewhere"]),
    ],
)
def test_no_channel_inherits_what_it_may_not(heir: str, inherited: list[str]) -> None:
    with pytest.raises(MalformedError):
        parse_inherited(heir, inherited)


def test_what_may_be_inherited() -> None:
    assert parse_inherited("release", ["upstream"]) == (UPSTREAM,)
    assert parse_inherited("dev/me", ["dev/team", "release"]) == (TEAM, RELEASE)
    assert parse_inherited("upstream", []) == ()
    assert parse_inherited("dev/*", ["dev/team"]) == (TEAM,)


def test_upstream_takes_wheels_of_an_index_and_release_takes_none(
    store: Store, tmp_path: Path
) -> None:
    for origin in (LOCAL, None):
        with pytest.raises(PolicyError, match="upstream"):
            publish(store, make_wheel(tmp_path), channel=UPSTREAM, origin=origin)
    with pytest.raises(PolicyError, match="release"):
        publish(store, make_wheel(tmp_path), channel=RELEASE, origin=OF_INDEX)
    release = publish(store, make_wheel(tmp_path), channel=UPSTREAM, origin=OF_INDEX)
    assert json.loads(json.dumps(release.to_json()))["channel"] == UPSTREAM
    assert not store.catalogue.is_local(release.name)  # type: ignore[arg-type]


def test_a_name_is_local_from_its_first_build_on_whatever_becomes_of_it(
    store: Store, tmp_path: Path
) -> None:
    release = publish(store, make_wheel(tmp_path, name="Wheaty"), channel=DEV, origin=LOCAL)
    Invalidation(store.database).disown(Selection(file=release.filename), **WHY)
    assert store.catalogue.is_local(release.name)  # type: ignore[arg-type]


def test_it_is_explained_who_lists_it_by_inheritance(shop: Store, tmp_path: Path) -> None:
    rye = add(shop, tmp_path, "rye", UPSTREAM)
    (explained,) = explain(shop, rye.filename)
    found = {(each.channel, each.reason) for each in explained.serves}
    assert found == {(UPSTREAM, "built-for"), (DEV, "inherited"), (RELEASE, "inherited")}
    page = Client(shop).get(f"/{UPSTREAM}/{HERE}/provenance/{rye.filename}").json()
    assert [each["channel"] for each in page["serves"]] == [UPSTREAM]


def test_an_environment_finds_the_index_of_a_channel_that_only_inherits(
    shop: Store, tmp_path: Path
) -> None:
    here = measure_self()
    add(shop, tmp_path, "rye", RELEASE, target=here.target())
    found = resolve(shop.catalogue, DEV, here)
    assert found.fingerprint == fingerprint_of(here.target())
    assert DEV in resolve(shop.catalogue, Channel("dev/none"), here).elsewhere
