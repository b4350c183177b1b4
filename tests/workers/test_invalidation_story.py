"""The story of docs/invalidation.md, as it happens: a wheel that is linked to an interpreter build
is built, served, installed, disowned, cleaned and built afresh."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
from uv import find_uv_bin

from builder.toolchain.native import native_toolchain
from tests.workers.api.place import Place

LIBPYTHON = native_toolchain(Path(sys.executable)).libpython_folder
RECIPE = '[recipes.needs-library]\nenv = { LINK_PYTHON = "1" }\n'
SALT = '[[salts]]\npackage = "needs-library"\nsalt = "after the new interpreter"\n'


def build(place: Place, sdist: Path, more: str = "") -> dict[str, Any]:
    settings = place.folder / "wheelfarm.toml"
    settings.write_text(RECIPE + more)
    _, answer = place.ask("build", sdist, "--settings", settings)
    outcome: dict[str, Any] = answer["outcomes"][0]
    return outcome


@contextmanager
def serving(place: Place) -> Iterator[None]:
    """A server; what it noted is written when it stops."""
    place.serve(0, "--no-farm")
    yield
    assert place.server is not None
    place.server.send_signal(signal.SIGINT)
    place.server.wait(60)
    place.stop_server()
    place.url = ""  # else it would be asked as a farm


def uvx(place: Place, outcome: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Have uvx make an environment with the package, and import its module there."""
    index = f"{place.url}{outcome['channel']}/{outcome['fingerprint']}/simple/"
    command = ("python", "-c", "import needs_library._fast")
    return uv(
        place, "tool", "run", "--python", sys.executable, "--default-index", index, "--from",
        "needs-library", *command,
    )  # fmt: skip


def uv(place: Place, *arguments: str) -> subprocess.CompletedProcess[str]:
    cache = place.folder / "uv-cache"
    environment = {key: value for key, value in os.environ.items() if not key.startswith("UV_")}
    return subprocess.run(
        [find_uv_bin(), "--no-config", "--cache-dir", str(cache), *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def cached(place: Place) -> list[Path]:
    return [path for path in (place.folder / "uv-cache").rglob("*") if "needs_library" in path.name]


@pytest.mark.skipif(LIBPYTHON is None, reason="no shared libpython in a folder of its own")
@pytest.mark.slow
def test_cleaning_a_package_cleans_what_was_made_from_it(
    tmp_path: Path, pack: Callable[[str], Path]
) -> None:
    place, sdist = Place(tmp_path), pack("needs-library")
    built = build(place, sdist)
    assert built["status"] == "built", built
    assert build(place, sdist)["status"] == "hit"
    with serving(place):
        done = uvx(place, built)
        assert done.returncode == 0, done.stderr

    libpython = f"libpython{sys.version_info[0]}.{sys.version_info[1]}.so.1.0"
    chosen = ("disown", "--interpreter", libpython, "--linked")
    _, looked = place.ask(*chosen, "--dry-run")
    radius = looked["radius"]
    assert [each["filename"] for each in radius["selected"]] == [built["filename"]]
    assert [each["fingerprint"] for each in radius["served"]] == [built["fingerprint"]]
    assert [each["filename"] for each in radius["served"]] == [built["filename"]]
    code, _, err = place.say(*chosen, "--yes", "--reason", "this interpreter was replaced")
    assert code == 0, err

    with serving(place):
        url = f"{place.url}{built['channel']}/{built['fingerprint']}/files/{built['filename']}"
        gone = requests.get(url, timeout=30)
        assert (gone.status_code, gone.json()["code"]) == (410, "disowned")
        assert uvx(place, built).returncode != 0
    assert cached(place), "no news of an index reaches a cache by itself"
    commands = [each["command"].split() for each in radius["cleaning"]]
    clean, prune = (words[1:] for words in commands if words[:2] == ["uv", "cache"])
    assert uv(place, *clean).returncode == 0
    assert cached(place), "this is the issue: uvx's environment stays"
    assert uv(place, *prune).returncode == 0
    assert cached(place) == []

    again = build(place, sdist)
    assert (again["status"], again["code"]) == ("refused", "disowned"), again
    assert "this interpreter was replaced" in again["message"]
    fresh = build(place, sdist, SALT)
    assert (fresh["status"], fresh["build_key"] != built["build_key"]) == ("built", True), fresh
    with serving(place):
        assert uvx(place, fresh).returncode == 0
