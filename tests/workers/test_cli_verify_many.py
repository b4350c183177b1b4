"""`wheelfarm verify` over many wheels: folders, lists, processes, policies and SARIF."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.checks.catalogue import TITLES
from tests.builder.forge import MAC_SUFFIX, mach, wheel
from tests.workers.inside import wheelfarm

_ROOT = Path(__file__).parents[2]


def _run(
    *args: str | Path, stdin: bytes = b"", folder: Path = _ROOT
) -> subprocess.CompletedProcess[str]:
    return wheelfarm("verify", *args, stdin=stdin, folder=folder)


def _run_apart(
    *args: str | Path, stdin: bytes = b"", folder: Path = _ROOT
) -> subprocess.CompletedProcess[str]:
    """The same, as a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "workers.cli", "verify", *map(str, args)],
        cwd=folder, input=stdin, capture_output=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )  # fmt: skip
    text = (part.decode("utf-8") for part in (run.stdout, run.stderr))
    return subprocess.CompletedProcess(run.args, run.returncode, *text)


def _wheels(run: subprocess.CompletedProcess[str]) -> list[str]:
    return [json.loads(line)["wheel"] for line in run.stdout.splitlines()]


def _pure(folder: Path, name: str, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return wheel(folder, f"{name}-1.0-py3-none-any.whl", {f"{name}/__init__.py": b""}, **more)


def test_a_folder_is_not_descended_into_unless_told(tmp_path: Path) -> None:
    for place, name in (("", "b"), ("", "a"), ("deep/er", "c")):
        _pure(tmp_path / place, name)
    (tmp_path / "loop").symlink_to(tmp_path)
    flat = _wheels(_run("--json", tmp_path))
    assert flat == ["a-1.0-py3-none-any.whl", "b-1.0-py3-none-any.whl"]
    assert _wheels(_run("--json", "--recursive", tmp_path)) == [*flat, "c-1.0-py3-none-any.whl"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"], ids=["lines", "nul"])
def test_a_dash_is_a_list_of_paths(tmp_path: Path, separator: bytes) -> None:
    paths = [_pure(tmp_path / name, name) for name in ("b", "a")]
    listed = separator.join(os.fsencode(path) for path in paths) + separator
    run = _run_apart("--json", "-", stdin=listed)
    assert (run.returncode, _wheels(run)) == (0, [path.name for path in paths])


@pytest.mark.parametrize(
    ("stdin", "said"),
    [
        (b"", "empty"),
        (b"\0\0", "empty"),
        (b"PK\x03\x04rest", "file name"),
        (b"/no/such.whl\n", "there is no file"),
        (b"a\0\nb\n", "there is no file a"),
        (b"x" * 100_000, "File name too long"),
    ],
)
def test_a_list_of_nothing_is_wrong_usage(stdin: bytes, said: str) -> None:
    run = _run("-", stdin=stdin)
    assert (run.returncode, run.stdout) == (2, "")
    assert said in run.stderr
    assert len(run.stderr) < 1000


def test_a_closed_standard_input_is_wrong_usage() -> None:
    command = [sys.executable, "-m", "workers.cli", "verify", "-"]
    run = subprocess.run(
        ["sh", "-c", '"$@" <&-', "sh", *command],
        cwd=_ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (run.returncode, run.stdout) == (2, "")
    assert "standard input is closed" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
@pytest.mark.parametrize("form", ["--json", "--sarif", "--list-checks"])
def test_an_output_that_is_full_is_trouble_and_no_verdict(tmp_path: Path, form: str) -> None:
    command = [sys.executable, "-m", "workers.cli", "verify", form, str(_pure(tmp_path, "a"))]
    with Path("/dev/full").open("wb") as full:
        run = subprocess.run(
            command, cwd=_ROOT, stdout=full, stderr=subprocess.PIPE, check=False, timeout=120
        )
    assert run.returncode == 3
    assert run.stderr.startswith(b"error[system-trouble]")
    assert b"Traceback" not in run.stderr


def test_several_processes_answer_in_the_order_given(tmp_path: Path) -> None:
    big = {f"big/{n}.py": os.urandom(300_000) for n in range(8)}
    paths = [wheel(tmp_path, "big-1.0-py3-none-any.whl", big)]
    paths += [_pure(tmp_path, name) for name in "zyxabc"]
    one, three = (_run_apart("--json", "--jobs", jobs, *paths) for jobs in ("1", "3"))
    assert _wheels(three) == [path.name for path in paths]
    assert one.stdout == three.stdout


def test_many_wheels_end_with_a_sum(tmp_path: Path) -> None:
    _pure(tmp_path, "a")
    _pure(tmp_path, "b", tags=["py2-none-any"])
    _pure(tmp_path, "c", extra={"c/x.py": b""})
    run = _run(tmp_path)
    assert run.stdout.splitlines()[-1] == "3 wheels: 1 accepted, 1 to retag, 1 rejected"
    assert "wheels:" not in _run(tmp_path / "a-1.0-py3-none-any.whl").stdout


def test_progress_is_for_a_terminal_only(tmp_path: Path) -> None:
    for name in "abcdefgh":
        _pure(tmp_path, name)
    assert _run(tmp_path).stderr == ""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "workers.cli", "verify", "--json", str(tmp_path)]
    with subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.PIPE, stderr=theirs) as process:
        assert process.stdout
        lines = process.stdout.read().splitlines()
    os.close(theirs)
    seen = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert len(lines) == 8
    assert "3 of 8" in seen
    assert seen.endswith("\r\x1b[K")


def test_a_policy_waives_with_a_reason_and_names_what_is_unused(tmp_path: Path) -> None:
    path = _pure(tmp_path, "a", extra={"a/x.py": b""})
    policy = tmp_path / "policy.toml"
    rows = [("record", "a/*", "generated on the host"), ("minimum-os", "*", "old")]
    policy.write_text(
        "".join(
            f'[[waivers]]\ncheck = "{c}"\nmember = "{m}"\nwheel = "*"\nreason = "{r}"\n'
            for c, m, r in rows
        )
    )
    run = _run("--policy", policy, path)
    assert run.returncode == 0
    for part in ("ACCEPT", "waived[record]", "in a/x.py", "because: generated on the host"):
        assert part in run.stdout
    assert run.stderr.startswith("warning[unused-waiver]: waiver 2")
    (line,) = [
        json.loads(row)
        for row in _run("--json", "--policy", policy, path).stdout.split("\n")
        if row
    ]
    assert line["findings"][0]["severity"] == "note"
    assert line["findings"][0]["evidence"]["waived"] == "generated on the host"


@pytest.mark.parametrize("text", ["", "[severities]\nnope = 'error'", "waivers = [{}]", "\xff"])
def test_a_bad_policy_is_wrong_usage(tmp_path: Path, text: str) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_bytes(text.encode("latin-1"))
    run = _run("--policy", policy, _pure(tmp_path, "a"))
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("error[bad-policy]")
    assert _run("--policy", tmp_path / "none.toml", tmp_path).returncode == 2


def test_what_is_waived_under_the_old_name_is_waived_under_the_new(tmp_path: Path) -> None:
    name = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
    members = {f"p/m{MAC_SUFFIX}": mach("x86_64"), f"p/n{MAC_SUFFIX}": mach("x86_64")}
    path = wheel(tmp_path, name, members)
    policy = tmp_path / "policy.toml"
    policy.write_text(
        f'[[waivers]]\ncheck = "entry-point"\nmember = "p/n*"\nwheel = "{name}"\nreason = "r"\n'
    )
    run = _run("--json", "--policy", policy, "--retag-to", tmp_path / "out", path)
    written = json.loads(run.stdout)["retagged"]
    assert written == "p-1.0-cp311-cp311-macosx_11_0_x86_64.whl"
    assert [path.name for path in (tmp_path / "out").iterdir()] == [written]


def test_sarif_is_one_document_on_standard_output_or_in_a_file(tmp_path: Path) -> None:
    _pure(tmp_path, "a")
    _pure(tmp_path, "b", extra={"b/x.py": b""})
    run = _run_apart("--sarif", ".", folder=tmp_path)
    log = json.loads(run.stdout)
    assert run.returncode == 1
    assert [result["ruleId"] for result in log["runs"][0]["results"]] == ["record"]
    assert len(log["runs"][0]["tool"]["driver"]["rules"]) == len(TITLES)
    again = _run("--sarif-to", "new/out.sarif", ".", folder=tmp_path)
    assert "ACCEPT" in again.stdout
    assert json.loads((tmp_path / "new/out.sarif").read_text()) == log
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out.sarif"]


def test_two_forms_on_one_output_are_wrong_usage(tmp_path: Path) -> None:
    run = _run("--json", "--sarif", _pure(tmp_path, "a"))
    assert (run.returncode, run.stdout.count("\n")) == (2, 1)
    assert "error" in json.loads(run.stdout)


def test_a_log_that_cannot_be_written_is_wrong_usage(tmp_path: Path) -> None:
    path = _pure(tmp_path, "a")
    run = _run("--sarif-to", path / "x.sarif", path)
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
