"""The GitHub Action and the pre-commit hook: their very shell lines are run on real wheels."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.builder.forge import MAC_SUFFIX, mach, wheel

_ROOT = Path(__file__).parents[2]
_ACTION = yaml.safe_load((_ROOT / "action.yml").read_text("utf-8"))
_HOOKS = yaml.safe_load((_ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
_LIE = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"


@pytest.fixture
def runner(tmp_path: Path) -> dict[str, str]:
    """The environment of a step on a runner where wheelfarm is installed."""
    program = tmp_path / "temp" / "wheelfarm" / "bin" / "wheelfarm"
    program.parent.mkdir(parents=True)
    python, root = shlex.quote(sys.executable), shlex.quote(str(_ROOT))
    program.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {python} -m workers.cli "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "RUNNER_TEMP": str(tmp_path / "temp")}


def _step(name: str) -> dict[str, Any]:
    (step,) = [step for step in _ACTION["runs"]["steps"] if step["name"] == name]
    assert isinstance(step, dict)
    return step


def _run_step(
    name: str, runner: dict[str, str], folder: Path, **inputs: str
) -> subprocess.CompletedProcess[str]:
    """Run a step as the runner does: inputs put into its environment, bash with -eo pipefail."""
    given = {key: value["default"] for key, value in _ACTION["inputs"].items()} | inputs
    values = {f"inputs.{key}": text for key, text in given.items()}
    values["github.action_path"] = str(_ROOT)
    step = _step(name)
    environment = {
        key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: values[found[1]], text)
        for key, text in step["env"].items()
    }
    assert "${{" not in step["run"], "an input in a shell line could be a command"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        command, cwd=folder, env=runner | environment, capture_output=True, text=True,
        check=False, timeout=600,
    )  # fmt: skip


def _dist(folder: Path) -> Path:
    dist = folder / "dist"
    dist.mkdir()
    wheel(dist, "good-1.0-py3-none-any.whl", {"good/__init__.py": b""})
    return dist


def test_the_action_is_composite_and_describes_its_inputs() -> None:
    assert _ACTION["runs"]["using"] == "composite"
    assert all(step["shell"] == "bash" for step in _ACTION["runs"]["steps"])
    assert all(value["description"] for value in _ACTION["inputs"].values())


def test_the_action_accepts_true_wheels(tmp_path: Path, runner: dict[str, str]) -> None:
    _dist(tmp_path)
    run = _run_step("Verify", runner, tmp_path)
    assert (run.returncode, run.stderr) == (0, "")
    assert "ACCEPT  good-1.0-py3-none-any.whl" in run.stdout


def test_the_action_fails_and_writes_sarif(tmp_path: Path, runner: dict[str, str]) -> None:
    lie = wheel(_dist(tmp_path), _LIE, {f"p/m{MAC_SUFFIX}": mach("x86_64")})
    run = _run_step("Verify", runner, tmp_path, paths=f"dist\n{lie}", sarif="out/log.sarif")
    assert run.returncode == 1
    log = json.loads((tmp_path / "out/log.sarif").read_text("utf-8"))
    results = log["runs"][0]["results"]
    assert {result["ruleId"] for result in results} >= {"macho-architecture"}


def test_the_action_takes_a_policy_and_a_target(tmp_path: Path, runner: dict[str, str]) -> None:
    wheel(_dist(tmp_path), _LIE, {f"p/m{MAC_SUFFIX}": mach("x86_64")})
    (tmp_path / "a policy.toml").write_text(
        '[[waivers]]\ncheck = "macho-architecture"\nmember = "*"\nwheel = "*"\nreason = "r"\n'
    )
    assert _run_step("Verify", runner, tmp_path, policy="a policy.toml").returncode == 0
    target = "cp311-macosx_14_0_arm64-0123456789ab"
    run = _run_step("Verify", runner, tmp_path, target=target)
    assert (run.returncode, "serves-target" in run.stdout) == (1, True)


def test_an_input_is_never_a_command(tmp_path: Path, runner: dict[str, str]) -> None:
    _dist(tmp_path)
    run = _run_step("Verify", runner, tmp_path, paths="$(touch owned)", policy="`touch owned`")
    assert run.returncode == 2
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
@pytest.mark.network
def test_the_action_installs_itself(tmp_path: Path, runner: dict[str, str]) -> None:
    (tmp_path / "fresh").mkdir()
    fresh = runner | {"RUNNER_TEMP": str(tmp_path / "fresh"), "PYTHONPATH": ""}
    installed = _run_step("Install wheelfarm", fresh, tmp_path, python=sys.executable)
    assert installed.returncode == 0, installed.stderr
    _dist(tmp_path)
    run = _run_step("Verify", fresh, tmp_path)
    assert (run.returncode, "ACCEPT" in run.stdout) == (0, True), run.stderr


def test_the_hook_runs_on_wheels(tmp_path: Path, runner: dict[str, str]) -> None:
    (hook,) = _HOOKS
    assert (hook["language"], hook["require_serial"]) == ("python", True)
    good = _dist(tmp_path) / "good-1.0-py3-none-any.whl"
    lie = wheel(tmp_path, _LIE, {f"p/m{MAC_SUFFIX}": mach("x86_64")})
    assert all(re.search(hook["files"], path.name) for path in (good, lie))
    assert not re.search(hook["files"], "README.md")
    path = f"{runner['RUNNER_TEMP']}/wheelfarm/bin:{runner['PATH']}"
    statuses = [
        subprocess.run(
            [*shlex.split(hook["entry"]), str(file)], env=runner | {"PATH": path}, check=False,
            capture_output=True,
        ).returncode
        for file in (good, lie)
    ]  # fmt: skip
    assert statuses == [0, 1]
