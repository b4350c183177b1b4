"""`wheelfarm promote` as a person calls it, here and at a server, with a real index to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from store.channel import RELEASE, Channel
from store.errors import PolicyError
from store.provenance import Origin
from store.publish import Store
from store.release import Release
from tests.indexes import Index, index_of
from tests.store.wheelshop import make_wheel, publish, read_wheel
from tests.workers.api.place import Place
from workers.cli.promote import command

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src", pinned=False)


@pytest.fixture
def stocked(served: Place) -> Iterator[tuple[Place, Release]]:
    with closing(Store.open(served.settings.store, verifier=read_wheel)) as store:
        yield served, publish(store, make_wheel(served.folder), channel=DEV, origin=LOCAL)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    with index_of(tmp_path / "index") as found:
        yield found


def test_promoting_at_a_server(stocked: tuple[Place, Release]) -> None:
    place, release = stocked
    code, looked = place.ask("promote", "wheaty", "--from", DEV, "--to", "dev/team", "--dry-run")
    assert (code, [each["filename"] for each in looked["made"]]) == (0, [release.filename])
    code, _, err = place.say("promote", "wheaty", "--from", DEV, "--to", "dev/team")
    assert (code, "error[usage]: no reason is given" in err) == (2, True)
    wish = ("promote", release.filename, "--from", DEV, "--to", "dev/team", "--reason", "tested")
    code, done = place.ask(*wish)
    assert (code, done["made"][0]["channel"], done["there"]) == (0, "dev/team", [])
    code, out, _ = place.say(*wish)
    assert (code, "there already" in out, "promoted: 0" in out) == (0, True, True)
    code, out, _ = place.say("explain", release.filename)
    assert "promoted    from dev/me by " in out
    assert out.count(": tested") == 1


def test_the_index_is_asked_at_that_moment(tmp_path: Path, index: Index) -> None:
    settings = tmp_path / "farm.toml"
    settings.write_text(f'store = "store"\ncache = "cache"\nindex-url = "{index.url}"\n')
    with closing(Store.open(tmp_path / "store", verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path), channel=DEV, origin=LOCAL)
    wish = ["wheaty", "--from", DEV, "--reason", "tested", "--settings", str(settings)]
    runner = CliRunner(env={"WHEELFARM_INDEX_URL": index.url})
    index.add(make_wheel(tmp_path / "theirs", build=None, version="99.0"))
    refused = runner.invoke(command, wish)
    assert isinstance(refused.exception, PolicyError)
    index.drop("wheaty")
    index.down = True
    away = runner.invoke(command, wish)
    assert getattr(away.exception, "code", None) == "index-unreachable"
    index.down = False
    done = runner.invoke(command, wish)
    assert (done.exit_code, "promoted: 1" in done.output) == (0, True), done.output
    with closing(Store.open(tmp_path / "store")) as store:
        assert [index.channel for index in store.catalogue.indexes()] == [RELEASE, DEV]


def test_a_promotion_is_of_one_project(stocked: tuple[Place, Release]) -> None:
    place, _ = stocked
    said = {"source": DEV, "target": "dev/team", "reason": "all of it"}
    for selection in ({"worker": "w1"}, {"channel": DEV}, {}):
        url = f"{place.url}api/promote"
        answer = requests.post(url, json={**said, "selection": selection}, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
