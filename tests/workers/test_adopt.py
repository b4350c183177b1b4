"""Wheels of an index, adopted: what is taken, under which name, and what is refused and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from store.attestation import attest, check_attested
from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE, UPSTREAM
from store.digest import sha256_of_file
from store.errors import MalformedError
from store.fsck import check
from store.invalidate import Invalidation
from store.keyring import KeyRing
from store.provenance import Origin
from store.selection import Selection
from store.upstream import refusals
from tests.builder import forge
from tests.store.engines import empty_store, engine_of, over_both
from tests.store.wheelshop import make_wheel, publish
from tests.workers.api.place import Place
from tests.workers.upstream_shop import DEV, NATIVE, Shop, shop_in
from workers.admission import Admission, parse_pattern
from workers.cli.adopt import command
from workers.requirements import read_pins

LOCAL = Origin(kind="local", location="/src", pinned=False)
TAG = f"cp{sys.version_info.major}{sys.version_info.minor}"


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with empty_store(request, engine_of(request), tmp_path) as url, shop_in(tmp_path, url) as made:
        yield made


def codes(shop: Shop, *wanted: str) -> list[str | None]:
    return [each.error.code if each.error else None for each in shop.adopt(*wanted)]


@over_both("shop")
def test_a_true_wheel_keeps_its_name_its_bytes_and_its_hash(shop: Shop) -> None:
    wheel = shop.wheel()
    shop.index.add(wheel)
    (one,) = shop.adopt("wheaty==1.0")
    assert (one.status, one.filename) == ("adopted", wheel.name)
    (release,) = shop.listed()
    assert release.sha256 == sha256_of_file(wheel)
    assert shop.listed(RELEASE) == shop.listed(DEV) == [release]
    record = shop.store.catalogue.provenance(release)
    assert record["source"] == {
        "name": "wheaty",
        "version": "1.0",
        "filename": wheel.name,
        "sha256": sha256_of_file(wheel),
        "origin": {"kind": "index-wheel", "location": shop.index.url, "pinned": False},
    }
    (row,) = audit_rows(shop.store.database, AuditFilter(action="adopt"), 10)
    assert (row.who, row.object) == ("ada", wheel.name)
    assert list(check(shop.store)) == []


@over_both("shop")
def test_what_is_there_by_its_hash_is_not_fetched_again(shop: Shop) -> None:
    shop.index.add(shop.wheel())
    shop.adopt("wheaty==1.0")
    (again,) = shop.adopt("wheaty==1.0")
    assert (again.status, len(shop.index.fetched())) == ("there", 1)
    other = replace(NATIVE, build=None)
    (for_other,) = shop.adopt("wheaty==1.0", target=other)
    assert (for_other.status, len(shop.index.fetched())) == ("adopted", 1)
    everywhere = shop.store.catalogue.releases_of("wheaty-1.0-py3-none-any.whl")
    assert len({each.fingerprint for each in everywhere}) == 2


@over_both("shop")
def test_a_wheel_that_claims_too_much_is_taken_under_the_tags_that_hold(shop: Shop) -> None:
    place = shop.folder / "tags"
    place.mkdir()
    name, members = "wheaty-1.0-py2.py3-none-any.whl", {"w.py": b"1\n"}
    wheel = forge.wheel(place, name, members, tags=["py3-none-any"])
    shop.index.add(wheel)
    (one,) = shop.adopt("wheaty==1.0")
    assert one.status == "adopted"
    assert one.listed == wheel.name
    assert one.filename is not None
    assert one.filename != wheel.name
    assert one.filename.startswith("wheaty-1.0-1_")
    (release,) = shop.listed()
    assert (release.filename, release.sha256 != sha256_of_file(wheel)) == (one.filename, True)
    (again,) = shop.adopt("wheaty==1.0")
    assert (again.status, again.filename, len(shop.index.fetched())) == ("there", one.filename, 1)


@over_both("shop")
def test_a_liar_is_refused_with_what_was_found_and_remembered(shop: Shop) -> None:
    place = shop.folder / "liar"
    place.mkdir()
    elf = {f"w{forge.MAC_SUFFIX}": forge.elf()}
    wheel = forge.wheel(place, "wheaty-1.0-py3-none-any.whl", elf, purelib="true")
    row = shop.index.add(wheel)
    (one,) = shop.adopt("wheaty==1.0")
    assert (one.status, shop.listed()) == ("refused", [])
    told = one.to_json()
    assert isinstance(told["error"], dict)
    assert told["error"]["code"] == "adoption-refused"
    assert told["findings"]
    found = refusals(shop.store.database, "wheaty")  # type: ignore[arg-type]
    assert list(found) == [row["hashes"]["sha256"]]


def test_other_bytes_than_the_index_says_are_refused(shop: Shop) -> None:
    shop.index.add(shop.wheel(), hashes={"sha256": "0" * 64})
    assert codes(shop, "wheaty==1.0") == ["hash-mismatch"]
    assert shop.listed() == []


def test_metadata_that_is_another_beside_the_wheel_is_a_lie(shop: Shop) -> None:
    shop.index.add(shop.wheel(), core_metadata={"sha256": "0" * 64})
    assert codes(shop, "wheaty==1.0") == ["adoption-refused"]


def test_another_project_under_a_file_name_is_a_lie(shop: Shop) -> None:
    shop.index.add(shop.wheel("corny"), name="wheaty-1.0-py3-none-any.whl")
    assert codes(shop, "wheaty==1.0") == ["adoption-refused"]
    assert shop.listed() == []


@pytest.mark.parametrize(
    "name",
    ["../wheaty-1.0-py3-none-any.whl", "wheaty-1.0-py3-none-any.whl/x",
     "wheaty-1.0-py3-none-any.WHL", "corny-1.0-py3-none-any.whl",
     f"wheaty-1.0+{'a' * 300}-py3-none-any.whl", "wheaty 1.0.whl"],
)  # fmt: skip
def test_a_name_that_plays_tricks_is_passed_over(shop: Shop, name: str) -> None:
    row = shop.index.add(shop.wheel())
    shop.index.files["wheaty"] = [{**row, "filename": name}]
    assert codes(shop, "wheaty==1.0") == ["no-such-version"]
    assert shop.index.fetched() == []


def test_more_bytes_than_the_index_says_are_not_read(shop: Shop) -> None:
    shop.index.add(shop.wheel(), size=100)
    assert codes(shop, "wheaty==1.0") == ["index-unreachable"]


def test_a_wheel_without_a_hash_does_not_count(shop: Shop) -> None:
    shop.index.add(shop.wheel(), hashes={})
    assert codes(shop, "wheaty==1.0") == ["no-such-version"]


def test_the_best_wheel_of_the_target_is_chosen(shop: Shop) -> None:
    for tag in ("py3-none-any", f"{TAG}-none-any", "cp27-none-any"):
        shop.index.add(shop.wheel(tag=tag))
    place = shop.folder / "build"
    place.mkdir()
    shop.index.add(forge.wheel(place, f"wheaty-1.0-2-{TAG}-none-any.whl", {"w.py": b"2\n"}))
    (one,) = shop.adopt("wheaty==1.0")
    assert one.listed == f"wheaty-1.0-2-{TAG}-none-any.whl"


def test_a_version_without_a_wheel_for_the_target_is_told(shop: Shop) -> None:
    shop.index.add(shop.wheel(tag="cp27-none-any"))
    shop.index.add(shop.wheel(version="2.0"), requires_python="<3")
    assert codes(shop, "wheaty==1.0", "wheaty==2.0", "wheaty==3.0", "corny==1") == [
        "no-wheel", "no-wheel", "no-such-version", "no-such-project",
    ]  # fmt: skip


def test_hashes_of_the_file_count_beside_those_of_the_index(shop: Shop, tmp_path: Path) -> None:
    wheel = shop.wheel()
    shop.index.add(wheel)
    file = tmp_path / "requirements.txt"
    file.write_text(f"wheaty==1.0 --hash=sha256:{'0' * 64}\n")
    pins = read_pins((), [file])
    assert len(pins[0].hashes) == 1
    answer = _cli(shop, "-r", str(file))
    assert (answer[0], answer[1]["adoptions"][0]["error"]["code"]) == (1, "no-wheel")
    file.write_text(f"wheaty==1.0 --hash=sha256:{sha256_of_file(wheel)}\n")
    assert _cli(shop, "-r", str(file))[0] == 0
    origins = {
        source["origin"]["pinned"]
        for release in shop.listed()
        if isinstance(source := shop.store.catalogue.provenance(release)["source"], dict)
    }
    assert origins == {True}, "here a person gave the hash beforehand"


def test_a_lock_names_wheels(shop: Shop, tmp_path: Path) -> None:
    wheel = shop.wheel()
    shop.index.add(wheel)
    lock = tmp_path / "pylock.toml"
    lock.write_text(
        'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "wheaty"\n'
        f'version = "1.0"\n[[packages.wheels]]\nname = "{wheel.name}"\n'
        f'url = "https://index.example/{wheel.name}"\n'
        f'hashes = {{sha256 = "{sha256_of_file(wheel)}"}}\n'
    )
    code, answer = _cli(shop, "-r", str(lock))
    assert (code, answer["adoptions"][0]["status"]) == (0, "adopted")


def test_the_command_shows_what_was_refused_and_why(shop: Shop) -> None:
    shop.index.add(shop.wheel())
    code, answer = _cli(shop, "wheaty==1.0", "corny==1.0")
    assert code == 1
    assert [each["status"] for each in answer["adoptions"]] == ["adopted", "refused"]
    code, answer = _cli(shop)
    assert (code, answer) == (0, {"adoptions": []})
    shown = CliRunner().invoke(command, ["corny==1.0", *_where(shop)], standalone_mode=False)
    assert (shown.return_value, "no-such-project" in shown.output.replace("\n", "")) == (1, True)


def test_a_young_file_is_not_taken(shop: Shop) -> None:
    shop.index.add(shop.wheel(), upload_time="2100-01-01T00:00:00Z")
    shop.index.add(shop.wheel("corny"), upload_time=None)
    shop.index.add(shop.wheel("rye"))
    cool = shop.ruled(min_age_days=7)
    assert codes(cool, "wheaty==1.0", "corny==1.0", "rye==1.0") == [
        "not-from-upstream", "not-from-upstream", None,
    ]  # fmt: skip
    assert len(shop.index.fetched()) == 1


def test_a_name_that_is_local_is_never_looked_up(shop: Shop, tmp_path: Path) -> None:
    """Whatever the fingerprint, and whatever became of it; unless it is named in full."""
    shop.index.add(shop.wheel(version="99.0"))
    mine = publish(shop.store, make_wheel(tmp_path), channel=DEV, origin=LOCAL)
    Invalidation(shop.store.database).disown(Selection(file=mine.filename), reason="bad", by="ada")
    assert codes(shop, "wheaty==99.0") == ["not-from-upstream"]
    assert codes(shop.ruled(allow=("*",)), "Wheaty==99.0") == ["not-from-upstream"]
    assert shop.index.asked == []
    assert codes(shop.ruled(allow=("wheaty",)), "wheaty==99.0") == [None]
    denied = shop.ruled(allow=("wheaty",), deny=("wh*",))
    assert codes(denied, "wheaty==99.0") == ["not-from-upstream"]


@pytest.mark.parametrize(
    ("rules", "is_local", "may"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"local": ("acme-*",)}, False, False),
        ({"local": ("acme-*",), "allow": ("acme-tool",)}, False, True),
        ({"local": ("acme-*",), "allow": ("acme-t*",)}, False, False),
        ({"allow": ("other",)}, False, False),
        ({"allow": ("acme-*",)}, False, True),
        ({"allow": ("acme-*",)}, True, False),
        ({"allow": ("acme-tool",)}, True, True),
        ({"deny": ("acme-*",), "allow": ("acme-tool",)}, False, False),
    ],
)
def test_the_rules(rules: dict[str, tuple[str, ...]], is_local: bool, may: bool) -> None:
    admission = Admission(**rules)  # type: ignore[arg-type]
    why = admission.refusal("acme-tool", is_local=is_local)  # type: ignore[arg-type]
    assert (why is None) == may


def test_patterns_are_normalised_and_nothing_else_is_one() -> None:
    assert parse_pattern("Acme_Tool.*") == "acme-tool-*"
    for bad in ("", "-", "a b", "[ab]", "a?"):
        with pytest.raises(MalformedError):
            parse_pattern(bad)


def test_what_was_disowned_does_not_come_back(shop: Shop) -> None:
    shop.index.add(shop.wheel())
    shop.adopt("wheaty==1.0")
    Invalidation(shop.store.database).disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert codes(shop, "wheaty==1.0") == ["disowned"]


def test_a_yank_upstream_comes_along(shop: Shop) -> None:
    shop.index.add(shop.wheel(), yanked="breaks")
    assert codes(shop, "wheaty==1.0") == [None]
    assert [each.yanked for each in shop.listed()] == ["breaks"]


def test_several_wheels_of_one_version_stand_beside_each_other(shop: Shop) -> None:
    """An index has several; which is best is for the installer's tags to say."""
    shop.index.add(shop.wheel())
    shop.adopt("wheaty==1.0")
    shop.index.add(shop.wheel(tag=f"{TAG}-none-any"))
    shop.adopt("wheaty==1.0")
    assert [each.yanked for each in shop.listed()] == [None, None]


def test_its_statement_says_that_it_was_taken_from_an_index(shop: Shop, tmp_path: Path) -> None:
    shop.index.add(shop.wheel())
    shop.adopt("wheaty==1.0")
    (release,) = shop.listed()
    ring = KeyRing(folder=tmp_path / "keys")
    ring.create("a" * 32)
    envelope = attest(release, shop.store.catalogue.provenance(release), ring.signer())
    said = check_attested(envelope, ring.public().keys, release.filename, release.sha256)
    assert (said.adopted, said.uploaded, said.channel) == (True, False, UPSTREAM)


@pytest.mark.network
@pytest.mark.slow
def test_the_real_index(tmp_path: Path) -> None:
    with shop_in(tmp_path) as shop:
        real = shop.ruled(index_url=None)
        target = "macos-11.0-arm64:cp311"
        code, answer = _cli(real, "six==1.16.0", "markupsafe==3.0.2", "--target", target)
        assert code == 0, answer
        assert [each["status"] for each in answer["adoptions"]] == ["adopted"] * 4
        six = "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"
        assert {each["sha256"] for each in answer["adoptions"][:2]} == {six}


def _where(shop: Shop) -> list[str]:
    rules = shop.settings.upstream
    line = f'[upstream]\nindex-url = "{rules.index_url}"\n' if rules.index_url else ""
    settings = shop.folder / "farm.toml"
    settings.write_text(f'store = "store"\ncache = "cache"\n{line}')
    return ["--settings", str(settings), "--target", "native"]


def _cli(shop: Shop, *arguments: str) -> tuple[int, dict[str, Any]]:
    asked = [*arguments, *_where(shop), "--json"]
    done = CliRunner().invoke(command, asked, standalone_mode=False)
    assert done.exception is None, done.exception
    return done.return_value, json.loads(done.output)


def test_adopting_at_a_server(shop: Shop, tmp_path: Path) -> None:
    shop.index.add(shop.wheel())
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place")
    line = f'[upstream]\nindex-url = "{shop.index.url}"\n'
    (tmp_path / "place/wheelfarm.toml").write_text(line)
    place.serve()
    try:
        code, answer = place.ask("adopt", "wheaty==1.0", "corny==1.0", "--target", "native")
        assert code == 1
        found = [(each["status"], each["filename"]) for each in answer["adoptions"]]
        assert found == [("adopted", "wheaty-1.0-py3-none-any.whl"), ("refused", None)]
        name = answer["adoptions"][0]["fingerprint"]
        code, answer = place.ask("adopt", "wheaty==1.0", "--fingerprint", name)
        assert (code, answer["adoptions"][0]["status"]) == (0, "there")
        code, _, err = place.say("adopt", "wheaty==1.0", "--fingerprint", name[:-1] + "x")
        assert (code, "error[farm-refused]" in err) == (2, True)
    finally:
        place.stop_server()
