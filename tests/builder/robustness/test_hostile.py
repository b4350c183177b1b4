"""Bad input: a verdict with a finding and exit status 1, in bounded time and memory.

The files are judged by the command itself, in a process that the kernel kills when it takes more
address space or processor time than it may.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.checks.check import Check
from builder.checks.context import Context
from builder.errors import RefusedWheelError
from builder.judge import judge
from builder.wheel import OpenedWheel, open_wheel
from builder.wheel_file import open_plain, reopened, state_of
from store.verdict import Finding
from tests.builder.forge import wheel
from tests.builder.robustness.hostile import MINIMAL, NAME, archive, bytes_of, every
from workers.verification import Order, verify_one

_ROOT = Path(__file__).parents[3]
_MEMORY = 512 << 20
_SECONDS = 20


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))


def _verify(*paths: Path | str) -> subprocess.CompletedProcess[str]:
    """`wheelfarm verify --json` in bounded memory and time."""
    command = [sys.executable, "-m", "workers.cli", "verify", "--jobs", "1", "--json"]
    return subprocess.run(
        [*command, *map(str, paths)], cwd=_ROOT, capture_output=True, text=True, check=False,
        timeout=120, preexec_fn=_limit,
    )  # fmt: skip


def _lines(run: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert "Traceback" not in run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What one process says of all that are to be rejected, and one of those to be accepted, each
    in the memory and time of one file."""
    found: dict[str, dict[str, Any]] = {}
    for verdict in ("reject", "accept"):
        names = [name for name, due in every() if due == verdict]
        paths = [tmp_path_factory.mktemp("hostile") / NAME for _ in names]
        for name, path in zip(names, paths, strict=True):
            path.write_bytes(bytes_of(name))
        run = _verify(*paths)
        assert run.returncode == int(verdict != "accept")
        found |= zip(names, _lines(run), strict=True)
    return found


@pytest.mark.xdist_group("hostile")
@pytest.mark.parametrize(("name", "verdict"), every())
def test_a_hostile_file_gets_its_verdict(
    judged: dict[str, dict[str, Any]], name: str, verdict: str
) -> None:
    line = judged[name]
    assert line["verdict"] == verdict
    codes = {finding["check"] for finding in line["findings"]}
    assert codes <= {"archive-safety", "dist-info", "record"}
    assert bool(codes) == (verdict == "reject")


def test_too_little_memory_is_a_verdict(tmp_path: Path) -> None:
    library = b"\x7fELF" + os.urandom(5 << 20) + bytes(600 << 20)
    path = tmp_path / NAME
    path.write_bytes(archive({"p/big.so": library, **MINIMAL}))
    (line,) = _lines(_verify(path))
    (finding,) = line["findings"]
    assert (line["verdict"], finding["check"]) == ("reject", "check-crashed")
    assert "MemoryError" in finding["message"]


def test_what_is_no_plain_file_is_rejected_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a-1.0-py3-none-any.whl")
    (tmp_path / "b-1.0-py3-none-any.whl").mkdir()
    (tmp_path / "c-1.0-py3-none-any.whl").symlink_to("/dev/zero")
    (tmp_path / "d-1.0-py3-none-any.whl").symlink_to("not-there")
    os.mkfifo(tmp_path / "no wheel's name.whl")
    run = _verify(tmp_path)
    lines = _lines(run)
    assert run.returncode == 1
    assert [(line["verdict"], line["sha256"]) for line in lines] == [("reject", None)] * 5
    assert {line["findings"][0]["check"] for line in lines} == {"readable-file"}


def test_a_pipe_that_is_named_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / NAME)
    run = _verify(tmp_path / NAME)
    assert (run.returncode, _lines(run)[0]["verdict"]) == (1, "reject")


def test_a_file_name_in_a_broken_encoding_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"p-1.0-py3-none-\xff.whl")
    path.write_bytes(b"")
    for run in (_verify(path), _verify(tmp_path)):
        (line,) = _lines(run)
        assert line["findings"][0]["check"] == "wheel-filename"


@pytest.mark.parametrize("given", ["not-there.whl", "empty", "folder.whl"])
def test_what_is_not_there_is_wrong_usage(tmp_path: Path, given: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.whl").mkdir()
    run = _verify(tmp_path / given)
    assert (run.returncode, run.stderr) == (2, "")
    assert _lines(run)[0]["error"]["code"] == "usage"


@contextmanager
def _as_somebody() -> Iterator[None]:
    """Without the rights of root, which reads everything."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def test_a_file_that_may_not_be_read_is_rejected(tmp_path: Path) -> None:
    path = wheel(tmp_path, NAME, {})
    path.chmod(0)
    with _as_somebody():
        outcome = verify_one(Order(), path)
    (finding,) = outcome.findings
    assert (outcome.verdict, outcome.sha256) == ("reject", None)
    assert (finding.check, "Permission denied" in finding.message) == ("readable-file", True)


def test_a_wheel_that_changes_while_it_is_judged_is_rejected(tmp_path: Path) -> None:
    path = wheel(tmp_path, NAME, {"p/x.py": b"x"})

    def find(opened: OpenedWheel, _context: Context) -> list[Finding]:
        wheel(tmp_path, NAME, {"p/x.py": b"another"})
        assert opened.read("p/x.py", 10)
        return []

    judgement = judge(path, checks=(Check(code="record", title="t", find=find),))
    (finding,) = judgement.findings
    assert judgement.verdict == "reject"
    assert (finding.check, "changed" in finding.message) == ("archive-safety", True)


def test_a_change_during_one_reading_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, NAME, {"p/x.py": b"x"})
    state = open_wheel(path).state
    with pytest.raises(RefusedWheelError, match="changed"), reopened(path, state):
        path.write_bytes(path.read_bytes() + b"more")


def test_the_state_of_a_file_is_that_of_the_open_one(tmp_path: Path) -> None:
    path = wheel(tmp_path, NAME, {})
    with open_plain(path) as file:
        before = state_of(file)
        path.rename(tmp_path / "elsewhere")
        wheel(tmp_path, NAME, {"p/x.py": b"x"})
        assert state_of(file) == before
    with pytest.raises(RefusedWheelError, match="changed"), reopened(path, before):
        pass
