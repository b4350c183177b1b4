"""Measuring an interpreter of the machine, and what is told of paths that are none."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from builder.errors import InterpreterError
from builder.interpreter import find_interpreter, measure, measure_self
from store.environment import MAX_PROBE_JSON
from store.fingerprint import fingerprint_of


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A path for an executable shell script."""
    path = tmp_path / "python"
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_this_interpreter_measures_itself() -> None:
    environment = measure_self()
    assert environment == measure(Path(sys.executable))
    assert environment.facts.executable == sys.executable
    assert environment.interpreter.version_info == sys.version_info[:2]
    assert environment.facts.warnings == ()


def test_every_interpreter_has_another_fingerprint(interpreters: list[Path]) -> None:
    found = {fingerprint_of(measure(python).target()) for python in interpreters}
    assert len(found) == len(interpreters)


def test_the_users_variables_do_not_reach_the_interpreter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = measure_self()
    (tmp_path / "sitecustomize.py").write_text("raise SystemExit(9)")
    (tmp_path / "json.py").write_text("raise SystemExit(9)")
    for name in ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("_PYTHON_SYSCONFIGDATA_NAME", "json")
    monkeypatch.chdir(tmp_path)
    assert measure_self() == before


def test_a_relative_path_is_taken_from_the_current_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "a python").symlink_to(sys.executable)
    monkeypatch.chdir(tmp_path)
    assert measure(Path("a python")).facts.binary == os.path.realpath(sys.executable)


def test_a_name_is_looked_up_on_path(monkeypatch: pytest.MonkeyPatch, script: Path) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert find_interpreter("python") == script
    assert find_interpreter("/some/where") == Path("/some/where")
    for name in ("python9.9", ""):
        with pytest.raises(InterpreterError, match="no command on PATH"):
            find_interpreter(name)


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError, match="No such file"):
        measure(tmp_path / "none")
    with pytest.raises(InterpreterError, match="File name too long"):
        measure(tmp_path / ("a" * 5000))
    with pytest.raises(InterpreterError, match="null"):
        measure(Path("a\0b"))
    with pytest.raises(InterpreterError, match="is not a file"):
        measure(tmp_path)


def test_a_file_that_cannot_be_run(script: Path) -> None:
    script.chmod(0o644)
    with pytest.raises(InterpreterError, match="is not executable"):
        measure(script)


def test_a_file_that_the_kernel_does_not_run(script: Path) -> None:
    script.write_bytes(b"\x7fELF but no more")
    with pytest.raises(InterpreterError, match="does not run: Exec format error"):
        measure(script)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("exit 0", "does not answer like a Python: not JSON"),
        ("echo hello", "does not answer like a Python: not JSON"),
        ("echo '{\"schema\": 1}'", "does not answer like a Python: os: is missing"),
        ("echo broken >&2; exit 3", "ended with status 3: broken"),
        ("printf 'a\\033[31m' >&2; exit 3", r"ended with status 3: a\?\[31m"),
        ("kill -9 $$", "ended with status -9: it says nothing"),
        ("echo python 3.7; test $2 = - && exit 1 || exit 0", "it is Python 3.7, the oldest"),
        (
            'echo \'{"schema": 1, "error": {"code": "too-old", "message": "too old"}}\'; exit 2',
            "cannot be measured: too old",
        ),
        (f"head -c {MAX_PROBE_JSON * 2} /dev/zero", "prints more than"),
        (f"head -c {MAX_PROBE_JSON * 2} /dev/zero >&2", "prints more than"),
        ("exec cat /dev/zero", "prints more than"),
    ],
)
def test_a_program_that_is_no_python(script: Path, body: str, sentence: str) -> None:
    script.write_text(f"#!/bin/sh\n{body}\n")
    with pytest.raises(InterpreterError, match=sentence) as caught:
        measure(script)
    assert caught.value.exit_status == 2
    assert caught.value.hint


@pytest.mark.parametrize("body", ["exec sleep 100", "exec >&- 2>&-; exec sleep 100"])
def test_a_program_that_does_not_end_is_killed(script: Path, body: str) -> None:
    note = script.parent / "pid"
    script.write_text(f"#!/bin/sh\necho $$ > {note}\n{body}\n")
    with pytest.raises(InterpreterError, match="does not end"):
        measure(script, timeout=0.3)
    _assert_gone(int(note.read_text()))


def test_what_a_program_leaves_behind_is_killed_with_it(script: Path) -> None:
    note = script.parent / "pid"
    script.write_text(f"#!/bin/sh\nsleep 100 >&- 2>&- &\necho $! > {note}\n")
    with pytest.raises(InterpreterError):
        measure(script)
    _assert_gone(int(note.read_text()))


def test_a_process_that_leaves_the_session_cannot_hold_the_call(script: Path) -> None:
    setsid = shutil.which("setsid")
    if setsid is None:
        pytest.skip("needs setsid")
    script.write_text(f"#!/bin/sh\nexec {setsid} --fork sleep 2\n")
    with pytest.raises(InterpreterError, match="does not end"):
        measure(script, timeout=0.3)


@pytest.mark.parametrize("minor", [6, 7])
def test_a_real_python_that_is_too_old(minor: int) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    ours = os.access(pyenv, os.R_OK | os.X_OK)
    found = sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python")) if ours else []
    if not found:
        pytest.skip(f"the machine has no Python 3.{minor}")
    with pytest.raises(InterpreterError, match=r"3\.8"):
        measure(found[0])


def _assert_gone(pid: int) -> None:
    """The process has ended: it is no more, or nothing but its exit status is left."""
    state = subprocess.run(
        ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
    ).stdout
    assert state.strip() in {"", "Z"}
