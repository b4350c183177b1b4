"""Yank and disown as a person calls them, and as anybody may call the server."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from store.errors import WheelfarmError
from store.provenance import Pin
from store.publish import Store
from store.release import Release
from tests.store.wheelshop import make_wheel, publish, read_wheel
from tests.workers.api.place import Place
from workers.cli.disown import command as disown
from workers.cli.yank import command as yank

MISTAKEN = {"reason": "a mistake", "by": "ada@farm"}


@pytest.fixture(scope="module")
def stocked(served: Place) -> Iterator[tuple[Place, Release, Release]]:
    """A server with the wheel of `root`, and of `leaf`, which was built with it."""
    with closing(Store.open(served.settings.store, verifier=read_wheel)) as store:
        root = publish(store, make_wheel(served.folder, name="root"))
        pin = Pin(name="root", version="1.0", filename=root.filename, sha256=root.sha256)
        leaf = publish(
            store, make_wheel(served.folder, name="leaf"), inputs={"build_requirements": (pin,)}
        )
        yield served, root, leaf


def status(place: Place, release: Release) -> int:
    url = f"{place.url}{release.channel}/{release.fingerprint}/files/{release.filename}"
    return requests.get(url, timeout=30).status_code


def test_first_the_blast_radius_then_the_deed_then_its_undoing(
    stocked: tuple[Place, Release, Release],
) -> None:
    place, root, leaf = stocked
    code, looked = place.ask("disown", "root==1.0", "--dry-run")
    radius = looked["radius"]
    assert (code, looked["order"], radius["totals"]["made_with"]) == (0, None, 1)
    assert radius["made_with"][0]["because"] == root.filename
    assert radius["fingerprints"] == [root.fingerprint]
    commands = [each["command"] for each in radius["cleaning"]]
    assert {"uv cache clean leaf root", "pip cache remove leaf", "uv cache prune"} < set(commands)
    code, out, err = place.say("disown", "root==1.0", "--reason", "bad")
    assert (code, status(place, root)) == (2, 200)
    assert "error[usage]: nobody can be asked here" in err
    assert "uv cache clean leaf root" in out
    code, done = place.ask("disown", root.filename, "--reason", "bad\u2028", "--yes")
    assert (code, done["order"]["selection"]) == (0, {"file": root.filename})
    assert (status(place, root), status(place, leaf)) == (410, 410)
    number = str(done["order"]["id"])
    code, out, _ = place.say("disown", "--list")
    assert (code, "bad" in out, "\u2028" in out) == (0, True, False)
    code, out, _ = place.say("disown", "--undo", number)
    assert (code, out.splitlines()[0]) == (0, "brought back: 2")
    assert (status(place, root), status(place, leaf)) == (200, 200)
    code, _, err = place.say("disown", "--undo", number)
    assert (code, f"nothing of order {number} is disowned" in err) == (2, True)


def test_a_yank_is_shown_with_its_reason(stocked: tuple[Place, Release, Release]) -> None:
    place, root, _ = stocked
    code, done = place.ask("yank", root.sha256, "--reason", "slow", "--yes")
    assert (code, done["radius"]["totals"]["made_with"]) == (0, 0)
    page = f"{place.url}{root.channel}/{root.fingerprint}/simple/root/"
    assert 'data-yanked="slow"' in requests.get(page, timeout=30).text
    assert place.ask("yank", "--undo", "root")[1]["restored"][0]["filename"] == root.filename
    assert "data-yanked" not in requests.get(page, timeout=30).text


@pytest.mark.parametrize(("answer", "code"), [(b"n\n", 130), (b"y\n", 0)])
def test_a_person_at_a_terminal_is_asked(
    stocked: tuple[Place, Release, Release], answer: bytes, code: int
) -> None:
    place, _, leaf = stocked
    mine, theirs = pty.openpty()
    os.write(mine, answer)
    command = [
        sys.executable, "-m", "workers.cli", "disown", "leaf", "--reason", "bad", "--farm",
        place.url,
    ]  # fmt: skip
    done = subprocess.run(
        command, stdin=theirs, capture_output=True, text=True, cwd=place.folder, check=False,
        env=place.environment(), timeout=120,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "disown 1 releases? [y/N]" in done.stderr
    assert status(place, leaf) == (200 if code else 410)
    if not code:
        assert place.say("disown", "--undo", "--package", "leaf")[0] == 0
    for descriptor in (mine, theirs):
        os.close(descriptor)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("disown",), "usage: nothing is selected"),
        (("disown", "--channel", "release", "--dry-run"), "nothing is selected"),
        (("disown", "absent", "--reason", "x", "--yes"), "not-found: no release"),
        (("disown", "root", "--yes"), "usage: no reason is given"),
        (("disown", "--undo", "77"), "nothing of order 77"),
        (("disown", "--undo"), "give the number of an order, or a selection"),
        (("disown", "--undo", "7", "--dry-run"), "usage: --undo has no dry run"),
        (("disown", "root", "--field", "epoch"), "usage: not PATH=VALUE"),
        (("yank", "--sdist", "ff", "--dry-run"), "sdist: not a SHA-256"),
        (("yank", "--worker", "a\tb", "--dry-run"), "malformed: worker"),
    ],
)
def test_wrong_usage_is_a_sentence(
    stocked: tuple[Place, Release, Release], arguments: tuple[str, ...], words: str
) -> None:
    place, (name, *rest) = stocked[0], arguments
    command = {"yank": yank, "disown": disown}[name]
    done = CliRunner().invoke(command, [*rest, "--store", str(place.settings.store)])
    assert isinstance(done.exception, WheelfarmError), done.output
    assert done.exception.exit_status == 2
    assert words in f"{done.exception.code}: {done.exception.message}"


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("disown", {}, "selection"),
        ("disown", {"selection": {}, **MISTAKEN}, "nothing is selected"),
        ("disown", {"selection": {"package": "root"}, "by": "ada"}, "reason: is missing"),
        ("disown", {"selection": {"package": "root"}, "reason": "x"}, "by"),
        ("yank", {"selection": {"package": "root"}, **MISTAKEN, "dry_run": 1}, "dry_run"),
        ("yank", {"selection": {"package": "a\nb"}, **MISTAKEN}, "package"),
        ("yank", {"selection": {"fields": {"a": 1}}, **MISTAKEN}, "fields"),
        ("yank", {"selection": {"everything": True}, **MISTAKEN}, "everything"),
        ("yank/undo", {"by": "ada"}, "give the number of an order"),
        ("yank/undo", {"by": "ada", "order": 1, "selection": {"package": "x"}}, "give the number"),
        ("disown/undo", {"by": "ada", "order": 1 << 40}, "order"),
        ("disown/undo", {"by": "ada", "order": 999}, "nothing of order 999"),
    ],
)
def test_the_server_refuses_what_says_nothing(
    stocked: tuple[Place, Release, Release], path: str, body: dict[str, Any], words: str
) -> None:
    answer = requests.post(f"{stocked[0].url}api/{path}", json=body, timeout=30)
    assert answer.status_code in {400, 404}, answer.text
    assert answer.json()["code"] in {"malformed", "not-found"}
    assert words in answer.json()["message"]


def test_the_local_store_is_asked_without_a_server(tmp_path: Path) -> None:
    place = Place(tmp_path)
    with closing(Store.open(place.settings.store, verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path))
    code, out, _ = place.say("disown", "wheaty", "--yes", "--reason", "bad")
    assert code == 0
    assert "disowned: 1 (order 1); `wheelfarm disown --undo 1` brings them back" in out
    code, out, _ = place.say("disown", "--list", "--json")
    assert json.loads(out)["orders"][0]["reason"] == "bad"
