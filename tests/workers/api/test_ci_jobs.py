"""The job files of deploy/ci: their very shell lines, run as the CI systems run them."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from tests.workers.api.place import ROOT, Place

Pack = Callable[[str], Path]
_CI = ROOT / "deploy" / "ci"
_GITHUB = yaml.safe_load((_CI / "github.yml").read_text())["jobs"]["wheels"]
_GITLAB = yaml.safe_load((_CI / "gitlab.yml").read_text())["wheels"]


def _github() -> tuple[dict[str, str], str]:
    (step,) = [step for step in _GITHUB["steps"] if step.get("name") == "Build"]
    assert "${{" not in step["run"]
    return _plain(_GITHUB["env"]), f"set -eo pipefail\n{step['run']}"


def _gitlab() -> tuple[dict[str, str], str]:
    return _plain(_GITLAB["variables"]), "set -eo pipefail\n" + "\n".join(_GITLAB["script"])


def _plain(variables: dict[str, Any]) -> dict[str, str]:
    """Those that are no folder of the runner: the test has its own."""
    return {name: text for name, text in variables.items() if "$" not in text}


def _run(
    place: Place, job: tuple[dict[str, str], str], *, farm: bool
) -> subprocess.CompletedProcess[str]:
    program = place.folder / "bin" / "wheelfarm"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m workers.cli "$@"\n')
    program.chmod(0o755)
    variables, script = job
    more = {"WHEELFARM_FARM": place.url} if farm else {}
    environment = place.environment(**variables, **more)
    path = f"{program.parent}{os.pathsep}{environment['PATH']}"
    step = str(place.folder / "step.md")
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", script],
        env={**environment, "PATH": path, "GITHUB_STEP_SUMMARY": step},
        cwd=place.folder, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("farm", [False, True], ids=["here", "farm"])
@pytest.mark.parametrize("job", [_github(), _gitlab()], ids=["github", "gitlab"])
def test_a_prebuild_job_builds_and_reports(
    place: Place, pack: Pack, job: tuple[dict[str, str], str], *, farm: bool
) -> None:
    wanted = place.folder / "requirements.txt"
    wanted.write_text(f"{pack('pure')}\n")
    with place.worker():
        done = _run(place, job, farm=farm)
        assert done.returncode == 0, done.stdout + done.stderr
        wanted.write_text(f"{pack('pure')}\n{pack('raises')}\n")
        assert _run(place, job, farm=farm).returncode == 1
    root = ElementTree.parse(place.folder / "wheelfarm.xml").getroot()
    assert (root.get("tests"), root.get("failures")) == ("2", "1")
    assert "moon is in the wrong house" in (place.folder / "step.md").read_text()
