"""Project status (PEP 792): shown, kept by channel, and held to where wheels come in and go out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from packaging.utils import canonicalize_name

from store.access import Actor
from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE, parse_channel
from store.errors import MalformedError, PolicyError, WheelfarmError
from store.export import export
from store.publish import Store
from store.release import Release
from store.status import ACTIVE, LONGEST_REASON, STATUSES, ProjectStatus
from tests.store.client import Client
from tests.store.wheelshop import make_wheel, publish
from workers.cli import root

WHEATY = canonicalize_name("wheaty")
REASON = 'stolen <key> "x"'


def _say(store: Store, status: str, reason: str | None = REASON) -> None:
    said = ProjectStatus(status=status, reason=reason)  # type: ignore[arg-type]
    store.catalogue.set_project_status(RELEASE, WHEATY, said, Actor(who="me@here"))


@pytest.fixture
def release(store: Store, tmp_path: Path) -> Release:
    publish(store, make_wheel(tmp_path, name="corny"))
    return publish(store, make_wheel(tmp_path))


def _index(release: Release) -> str:
    return f"/release/{release.fingerprint}"


@pytest.mark.parametrize("status", ["archived", "deprecated", "quarantined"])
def test_the_pages_say_it_in_both_forms(store: Store, release: Release, status: str) -> None:
    client, page = Client(store), f"{_index(release)}/simple/wheaty/"
    assert "project-status" not in client.get(page).text
    _say(store, status)
    seen = client.get(f"{page}?format=application/vnd.pypi.simple.v1%2Bjson").json()
    assert seen["meta"] == {"api-version": "1.4"}
    assert seen["project-status"] == {"status": status, "reason": REASON}
    html = client.get(page).text
    assert f'<meta name="pypi:project-status" content="{status}">' in html
    assert 'project-status-reason" content="stolen &lt;key&gt; &quot;x&quot;">' in html
    assert bool(seen["files"]) == (status != "quarantined") == (release.filename in html)
    _say(store, "active", None)
    assert "project-status" not in client.get(page).text


def test_nothing_of_a_quarantined_project_goes_out(
    store: Store, release: Release, tmp_path: Path
) -> None:
    client, base = Client(store), _index(release)
    file = f"{base}/files/{release.filename}"
    places = (file, f"{file}.metadata", f"{file}.cdx.json", f"{base}/provenance/{release.filename}")
    assert {client.get(place).status_code for place in places} == {200}
    _say(store, "quarantined")
    assert {client.get(place).status_code for place in places} == {404}
    assert release.filename not in client.get(f"{base}/links/").text
    assert "wheaty" in client.get(f"{base}/simple/").text
    done = export(store, RELEASE, release.fingerprint, tmp_path / "out")
    assert [each.name for each in done.releases] == ["corny"]
    _say(store, "active", None)
    assert {client.get(place).status_code for place in places} == {200}


def test_an_index_with_nothing_else_is_still_one(store: Store, tmp_path: Path) -> None:
    only = publish(store, make_wheel(tmp_path))
    _say(store, "quarantined")
    client = Client(store)
    assert client.get(f"{_index(only)}/simple/wheaty/").status_code == 200
    assert client.get(f"{_index(only)}/simple/corny/").json()["code"] == "unknown-project"


@pytest.mark.parametrize("status", STATUSES)
def test_closed_projects_take_no_new_wheel(
    store: Store, release: Release, tmp_path: Path, status: str
) -> None:
    _say(store, status, None if status == "active" else REASON)
    new = make_wheel(tmp_path, version="2.0")
    if status in {"archived", "quarantined"}:
        with pytest.raises(PolicyError, match=f"wheaty is {status} in release"):
            publish(store, new)
        assert store.catalogue.releases_of(new.name) == []
    else:
        assert publish(store, new).version == "2.0"
    assert publish(store, make_wheel(tmp_path / "again")).id == release.id  # a hit stays one
    mine = parse_channel("dev/mine")
    assert publish(store, make_wheel(tmp_path / "mine"), channel=mine).channel == mine


def test_an_exported_page_says_it(store: Store, release: Release, tmp_path: Path) -> None:
    _say(store, "deprecated", None)
    export(store, RELEASE, release.fingerprint, tmp_path / "out")
    page = (tmp_path / "out" / "simple" / "wheaty" / "index.html").read_text()
    assert '<meta name="pypi:project-status" content="deprecated">' in page
    assert "status-reason" not in page


@pytest.mark.parametrize("reason", ["", "two\nlines", "\x1b[2J", "x" * (LONGEST_REASON + 1)])
def test_a_reason_is_one_line(reason: str) -> None:
    with pytest.raises(MalformedError):
        ProjectStatus(status="archived", reason=reason)


@pytest.fixture
def folder(tmp_path: Path, migrated: Path) -> str:
    """A store of the test's own, for the command to open."""
    return str(shutil.copytree(migrated, tmp_path / "own"))


def test_the_command_sets_and_shows_it(folder: str) -> None:
    def call(*words: str) -> str:
        command = ["status", *words, "--store", folder]
        return CliRunner().invoke(root, command, standalone_mode=False).stdout

    assert call("Whe_aty") == "whe-aty  active\n"
    assert call("Whe_aty", "archived", "--reason", "done") == "whe-aty  archived  done\n"
    assert '"reason": "done"' in call("whe-aty", "--json")
    assert call("whe-aty", "--channel", "dev/mine") == "whe-aty  active\n"
    assert call("whe.aty", "active") == "whe-aty  active\n"


@pytest.mark.parametrize(
    "words", [("x y",), ("x" * 300,), ("x", "--reason", "y"), ("x", "archived", "--reason", "")]
)
def test_the_command_refuses_what_is_odd(folder: str, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(root, ["status", *words, "--store", folder], standalone_mode=False)
    assert isinstance(done.exception, WheelfarmError)
    assert done.exception.exit_status == 2


def test_every_change_is_in_the_audit_log(store: Store) -> None:
    _say(store, "archived")
    [row] = audit_rows(store.database, AuditFilter(action="status"), 10)
    assert (row.who, row.object, row.result) == ("me@here", "project wheaty", "done")
    assert row.detail == {"channel": "release", "status": "archived", "reason": REASON}


def test_an_active_project_is_the_default(store: Store) -> None:
    assert store.catalogue.project_status(RELEASE, canonicalize_name("absent")) == ACTIVE
    assert store.catalogue.project_statuses(RELEASE) == {}
