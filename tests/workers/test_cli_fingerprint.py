"""``wheelfarm fingerprint`` as a shell sees it: output, errors and exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.interpreter import measure, measure_self
from store.fingerprint import fingerprint_of
from store.target import identity_of
from tests.workers.inside import wheelfarm

MAC = Path(__file__).parent.parent / "golden" / "probe-macos.json"


def fingerprint(*arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    return wheelfarm("fingerprint", *arguments, stdin=text.encode())


def test_the_fingerprint_stands_alone_on_standard_output() -> None:
    run = fingerprint()
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"{fingerprint_of(measure_self().target())}\n"


def test_another_interpreter_is_measured_by_path(interpreters: list[Path]) -> None:
    python = interpreters[0]
    assert fingerprint("--python", python).stdout.strip() == fingerprint_of(
        measure(python).target()
    )


def test_json_has_the_identity_and_the_facts() -> None:
    answer = json.loads(fingerprint("--json").stdout)
    environment = measure_self()
    assert answer["fingerprint"] == fingerprint_of(environment.target())
    assert answer["identity"] == identity_of(environment.target())
    assert answer["environment"] == environment.to_json()


def test_what_is_no_interpreter_is_one_sentence_and_status_2(tmp_path: Path) -> None:
    run = fingerprint("--python", tmp_path / "none")
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error[not-an-interpreter]: ")
    assert "hint: " in run.stderr
    assert "Traceback" not in run.stderr
    error = json.loads(fingerprint("--python", tmp_path / "none", "--json").stdout)["error"]
    assert error["code"] == "not-an-interpreter"


def test_a_difference_is_shown_field_by_field_and_status_1(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(_changed(arch="x86_64"))
    run = fingerprint("diff", MAC, other)
    assert (run.returncode, run.stderr) == (1, "")
    lines = [line.strip() for line in run.stdout.splitlines()]
    assert lines[0].startswith("A: cp313t-macosx_15_0_arm64-")
    assert lines[1].startswith("B: cp313t-macosx_15_0_x86_64-")
    assert lines[2:] == ["arch", "A: arm64", "B: x86_64"]


def test_the_same_fingerprint_is_status_0(tmp_path: Path) -> None:
    other = tmp_path / "other.json"
    other.write_text(_changed(os={"family": "macos", "version": "15.1"}))
    run = fingerprint("diff", MAC, other)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == "same: cp313t-macosx_15_0_arm64-d86479b1581e\n"


def test_a_difference_as_json_between_standard_input_and_an_interpreter() -> None:
    run = fingerprint("diff", "--json", "-", sys.executable, text=MAC.read_text())
    answer = json.loads(run.stdout)
    assert run.returncode == 1
    assert answer["same"] is False
    assert answer["a"] == "cp313t-macosx_15_0_arm64-d86479b1581e"
    assert answer["b"] == fingerprint_of(measure_self().target())
    differences = {row["field"]: (row["a"], row["b"]) for row in answer["differences"]}
    assert differences["free_threaded"] == (True, False)


@pytest.mark.parametrize(
    ("arguments", "text", "sentence"),
    [
        (["diff", "-", "-"], "", "only one of the two can be standard input"),
        (["diff", "-", sys.executable], "{", "standard input: not JSON"),
        (["diff", "-", sys.executable], '{"schema": 7}', "standard input.schema"),
        (["diff", "/nope.json", sys.executable], "", "No such file"),
        (["diff", MAC.parent, sys.executable], "", "is not a file"),
        (["diff", "no-such-python", sys.executable], "", "no command on PATH"),
        (["--json", "diff", sys.executable, sys.executable], "", "have no effect"),
    ],
)
def test_wrong_usage_is_one_sentence_and_status_2(
    arguments: list[str | Path], text: str, sentence: str
) -> None:
    run = fingerprint(*arguments, text=text)
    assert run.returncode == 2
    assert sentence in run.stderr + run.stdout
    assert "Traceback" not in run.stderr


def test_a_disagreement_is_told_beside_the_fingerprint(tmp_path: Path) -> None:
    """linux32 makes uname call the machine i686, whatever runs."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec setarch linux32 {sys.executable} "$@"\n')
    python.chmod(0o755)
    if subprocess.run([python, "-c", ""], check=False).returncode:
        pytest.skip("needs setarch")
    run = fingerprint("--python", python)
    assert run.stdout == fingerprint().stdout
    assert run.stderr.startswith("warning: the process says that the machine is i686")


def test_help_explains_both_commands() -> None:
    assert "--python" in fingerprint("--help").stdout
    assert "Exit status 0" in fingerprint("diff", "--help").stdout


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(MAC.read_text()) | changes)
