"""`wheelfarm verify`: what it prints, what it writes, and its exit status."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.checks.catalogue import TITLES
from store.digest import sha256_of_file
from tests.builder.forge import MAC_SUFFIX, mach, universal, wheel
from tests.workers.inside import wheelfarm

_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
_PURE = "p-1.0-py3-none-any.whl"
_M = f"p/m{MAC_SUFFIX}"
_ARM_TARGET = "cp311-macosx_14_0_arm64-0123456789ab"


def _run(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return wheelfarm("verify", *args)


def _run_apart(*args: str | Path) -> subprocess.CompletedProcess[str]:
    """The same, as a process of its own."""
    command = [sys.executable, "-m", "workers.cli", "verify", *map(str, args)]
    root = Path(__file__).parents[2]
    return subprocess.run(
        command, cwd=root, capture_output=True, text=True, check=False, timeout=120
    )


def _lines(run: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_one_json_object_for_each_wheel(tmp_path: Path) -> None:
    lie = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64")})
    pure = wheel(tmp_path, _PURE, {"p/__init__.py": b""})
    run = _run_apart("--json", pure, lie)
    assert (run.returncode, run.stderr) == (1, "")
    first, second = _lines(run)
    assert first == {
        "wheel": _PURE,
        "sha256": sha256_of_file(pure),
        "verdict": "accept",
        "tags": ["py3-none-any"],
        "retagged": None,
        "findings": [],
    }
    assert (second["verdict"], second["tags"]) == ("retag", ["cp311-cp311-macosx_11_0_x86_64"])
    (finding,) = second["findings"]
    assert set(finding) == {"check", "severity", "member", "slice", "message", "evidence"}
    assert (finding["check"], finding["member"], finding["slice"]) == (
        "macho-architecture",
        _M,
        "arm64",
    )


def test_all_accepted_is_status_0(tmp_path: Path) -> None:
    wheel(tmp_path, _PURE, {"p/__init__.py": b""})
    wheel(tmp_path, _UNIVERSAL, {_M: universal("11.0")})
    run = _run(tmp_path)
    assert (run.returncode, run.stdout.count("ACCEPT")) == (0, 2)


def test_the_target_refuses_what_does_not_serve_it(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64")})
    run = _run("--json", "--target", _ARM_TARGET, path)
    (line,) = _lines(run)
    assert (run.returncode, line["verdict"], line["tags"]) == (1, "reject", [])
    assert "serves-target" in {finding["check"] for finding in line["findings"]}
    intel = _run("--json", "--target", "cp311-macosx_14_0_x86_64-0123456789ab", path)
    assert _lines(intel)[0]["verdict"] == "retag"


def test_the_retagged_wheel_is_written_and_accepted(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64")})
    before = path.read_bytes()
    out = tmp_path / "deep" / "out"
    (line,) = _lines(_run("--json", "--retag-to", out, path))
    assert line["retagged"] == "p-1.0-cp311-cp311-macosx_11_0_x86_64.whl"
    assert [file.name for file in out.iterdir()] == [line["retagged"]]
    assert _run(out).returncode == 0
    assert path.read_bytes() == before


def test_a_wheel_is_not_overwritten_by_its_own_new_form(tmp_path: Path) -> None:
    path = wheel(tmp_path, _PURE, {}, tags=["py2-none-any"])
    before = path.read_bytes()
    run = _run("--retag-to", tmp_path, path)
    assert (run.returncode, path.read_bytes()) == (2, before)
    assert "overwritten" in run.stderr
    assert "hint:" in run.stderr


def test_a_person_can_act_on_the_text(tmp_path: Path) -> None:
    run = _run_apart(wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64")}))
    assert run.stdout.startswith(f"RETAG   {_UNIVERSAL}\n")
    for part in ("macosx_11_0_x86_64", f"in {_M} [arm64]", "error[macho-architecture]", "hint:"):
        assert part in run.stdout


def test_many_members_with_one_fault_make_one_paragraph(tmp_path: Path) -> None:
    members = {f"p/{c}{MAC_SUFFIX}": mach("x86_64", exports=(f"PyInit_{c}",)) for c in "abcde"}
    text = _run(wheel(tmp_path, _UNIVERSAL, members)).stdout
    assert text.count("error[macho-architecture]") == 1
    assert "and in 2 more" in text


def test_hostile_names_are_escaped(tmp_path: Path) -> None:
    path = wheel(tmp_path, _PURE, {}, extra={"p/\u202efdp.py": b"", "p/\u200b.py": b""})
    run = _run_apart(path)
    assert run.returncode == 1
    assert "\u202e" not in run.stdout
    assert "\u200b" not in run.stdout
    assert "\\u202e" in run.stdout


def test_a_file_that_is_no_zip_is_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / _PURE
    path.write_bytes(b"not a zip")
    run = _run("--json", path)
    (line,) = _lines(run)
    assert (run.returncode, line["verdict"], line["tags"]) == (1, "reject", [])
    assert line["findings"][0]["check"] == "archive-safety"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("/no/such/file.whl",),
        ("EMPTY",),
        ("--target", "nonsense", "WHEEL"),
        ("--target", "cp311-android_21_x86_64-0123456789ab", "WHEEL"),
        ("--target", "cpx-macosx_11_0_arm64-0123456789ab", "WHEEL"),
        ("--retag-to", "WHEEL", "WHEEL"),
        ("--retag-to", "WHEEL/x", "WHEEL"),
        ("--explain", "no-such-check"),
        ("--bogus",),
    ],
)
def test_wrong_usage_is_status_2_and_no_traceback(tmp_path: Path, args: tuple[str, ...]) -> None:
    path = wheel(tmp_path, _PURE, {})
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [a.replace("EMPTY", str(empty)).replace("WHEEL", str(path)) for a in args]
    run = _run(*given)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr
    assert "Traceback" not in run.stderr


def test_every_check_is_listed_and_explained() -> None:
    listed = _run("--list-checks")
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(TITLES)
    explained = _run("--explain", "macho-architecture")
    assert explained.returncode == 0
    assert explained.stdout.startswith("# macho-architecture\n")
