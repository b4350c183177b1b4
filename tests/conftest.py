"""What every test may ask for."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def interpreters() -> list[Path]:
    """Every CPython from 3.8 on that the machine has, one path for each file that runs."""
    by_file = {path.resolve(): path for path in _candidates() if path.is_file()}
    found = [path for path in by_file.values() if _version(path) >= (3, 8)]
    assert found, "no Python was found on PATH or under pyenv"
    return sorted(found)


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/*/bin/python"))
    for folder in [*os.environ["PATH"].split(os.pathsep), "/usr/bin", "/usr/local/bin"]:
        if Path(folder).name != "shims":
            yield from (Path(folder) / f"python3{minor}" for minor in _MINORS)


_MINORS = ["", *(f".{minor}" for minor in range(8, 20))]


def _version(python: Path) -> tuple[int, int]:
    code = "import sys; print('%d %d' % sys.version_info[:2])"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    major, minor = run.stdout.split() if run.returncode == 0 else ("0", "0")
    return int(major), int(minor)
