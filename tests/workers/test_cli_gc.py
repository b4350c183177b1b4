"""gc, pin and unpin as a person calls them; what lock files hold on to."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE
from store.errors import WheelfarmError
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.release import Release
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel
from workers.choose import Chosen
from workers.cli.gc import command as gc
from workers.cli.pin import command as pin
from workers.cli.unpin import command as unpin
from workers.errors import RequirementsError
from workers.locks import Place, pylock_toml, requirements_txt
from workers.requirements import read_locked

RULES = "[channels.release]\nkeep-versions = 1\n"


class House:
    """A store with three versions of wheaty, and commands over it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with closing(Store.open(folder / "store", verifier=read_wheel)) as store:
            self.made = {v: publish(store, make_wheel(folder, version=v)) for v in ("1", "2", "3")}

    def run(self, command: click.Command, *arguments: str) -> Any:
        done = CliRunner().invoke(command, [*arguments, "--store", "store", "--json"])
        if isinstance(done.exception, WheelfarmError):
            raise done.exception
        assert done.exit_code == 0, done.output
        return json.loads(done.output)

    def gone(self, *options: str) -> list[str]:
        found = self.run(gc, "--grace-hours", "0", *options)["releases"]
        return sorted(each["filename"].split("-")[1] for each in found)


@pytest.fixture
def house(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.chdir(tmp_path)
    for name in ("WHEELFARM_STORE", "WHEELFARM_DATABASE", "WHEELFARM_BLOBS"):
        monkeypatch.delenv(name, raising=False)
    shutil.copytree(migrated, tmp_path / "store")
    return House(tmp_path)


def place() -> Place:
    return Place(
        server="http://farm.example", channel=RELEASE, fingerprint=fingerprint_of(LINUX),
        target=LINUX,
    )  # fmt: skip


def chosen(release: Release) -> Chosen:
    return Chosen(release=release, needs=())


def test_without_a_rule_everything_is_kept(house: House) -> None:
    assert house.gone() == []


def test_rules_pins_and_locks_are_said_in_files_and_options(house: House) -> None:
    Path("wheelfarm.toml").write_text(RULES)
    assert house.gone("--dry-run") == ["1", "2"]
    assert house.run(gc)["releases"] == [], "they are younger than the grace"
    pinned = house.run(pin, "wheaty==1", "--reason", "ours")
    assert pinned["pins"][0]["subject"] == "wheaty==1"
    assert house.gone("--dry-run") == ["2"]
    Path("pylock.fair.toml").write_text(pylock_toml([chosen(house.made["2"])], place()))
    assert house.gone("--dry-run", "--lock", "pylock.fair.toml") == []
    Path("wheelfarm.toml").write_text(f"{RULES}[retention]\nlocks = ['pylock.*.toml']\n")
    assert house.gone("--dry-run") == []
    assert house.run(unpin, "wheaty==1") == {"pins": []}
    assert house.gone("--dry-run") == ["1"]
    told = house.run(gc, "--grace-hours", "0", "--dry-run")
    done = house.run(gc, "--grace-hours", "0")
    assert {**told, "dry_run": False} == done
    assert done["swept"]["blobs"] == 3
    with closing(Store.open(Path("store"))) as store:
        rows = audit_rows(store.database, AuditFilter(), 10)
    said = {(row.action, row.object, row.result) for row in rows}
    assert said == {(word, "wheaty==1", "done") for word in ("pin", "unpin")} | {
        ("gc", "store", "done")
    }
    assert house.gone("--dry-run") == []


def test_what_is_not_known_to_the_end_ends_the_collection(house: House) -> None:
    Path("wheelfarm.toml").write_text(f"{RULES}[retention]\nlocks = ['locks/*.txt']\n")
    with pytest.raises(WheelfarmError, match=r"retention.locks\[0\]: no file is 'locks/\*.txt'"):
        house.gone()
    Path("locks").mkdir()
    Path("locks/a.txt").write_text("wheaty>=1\n")
    with pytest.raises(WheelfarmError, match="is no exact version"):
        house.gone()
    Path("locks/a.txt").write_text("wheaty==2.0.0rc1\nwheaty==2\n")
    assert house.gone() == ["1"]


def test_words_for_people(house: House) -> None:
    Path("wheelfarm.toml").write_text(RULES)
    words = ["--store", "store", "--grace-hours", "0"]
    lines = CliRunner().invoke(gc, [*words, "--dry-run"]).output.splitlines()
    assert lines[0] == "releases would be dropped: 2"
    assert lines[-1] == "would be freed once the grace is over: 0 bytes in 0 blobs"
    assert "freed: " in CliRunner().invoke(gc, words).output
    assert "ours" in CliRunner().invoke(pin, ["x", "--reason", "ours", *words[:2]]).output
    with pytest.raises(WheelfarmError, match="no reason is given"):
        house.run(pin, "wheaty")


def test_a_lock_names_digests_and_versions(tmp_path: Path, house: House) -> None:
    release, digest = house.made["2"], "a" * 64
    pylock, text = tmp_path / "pylock.toml", tmp_path / "locked.txt"
    pylock.write_text(pylock_toml([chosen(release)], place()))
    text.write_text(requirements_txt([chosen(release)], place()))
    assert read_locked([pylock]) == read_locked([text]) == {release.sha256}
    text.write_text(
        "--index-url http://farm.example/\n-r more.txt\nWheat_Y==1.0-rc.1 # a comment\n"
        f"corny==1 \\\n  --hash=sha256:{digest}\n"
    )
    (tmp_path / "more.txt").write_text("barley==7\n")
    assert read_locked([text]) == {"barley==7", "wheat-y==1.0rc1", digest}


@pytest.mark.parametrize(
    "line", ["./local.whl", "x @ http://h/x.whl", "x", "x==1 --hash=md5:ff", "x==1.*", "-r absent"]
)
def test_a_lock_that_is_not_understood_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "locked.txt"
    path.write_text(line + "\n")
    with pytest.raises(RequirementsError):
        read_locked([path])
