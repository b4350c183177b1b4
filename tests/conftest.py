"""What every test may ask for."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.sdists import pack_project
from tests.services import new_database, postgresql, redis_server, redis_url
from tests.store.buckets import bucket, s3_endpoint
from tests.store.engines import database_url, migrated, migrated_apart

__all__ = [
    "bucket", "database_url", "migrated", "migrated_apart", "new_database", "postgresql",
    "redis_server", "redis_url", "s3_endpoint",
]  # fmt: skip

# As the Makefile has it: else each of the commands and servers that tests start compiles the farm.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The same examples every time: what a change breaks is then the change's doing. Other ones are for
# `HYPOTHESIS_PROFILE=explore`.
settings.register_profile("frozen", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "frozen"))

_LEFT_OUT = ("corpus", "chaos", "slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the corpus, some 200 MB of real wheels, the chaos, minutes of it, and what else is
    slow, unless ``-m`` asks for them by name."""
    for name in _LEFT_OUT:
        if name not in str(config.option.markexpr):
            left_out = [item for item in items if item.get_closest_marker(name)]
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker(name)]


@pytest.fixture
def pack(tmp_path: Path) -> Callable[[str], Path]:
    """Pack tests/projects/NAME as NAME-1.0.tar.gz, the wheel writer put beside its backend."""

    return functools.partial(pack_project, folder=tmp_path)


@pytest.fixture(scope="session")
def cross_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole run, since its first use takes seconds for each target."""
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cross-cache"


@pytest.fixture(scope="session")
def interpreters() -> list[Path]:
    """Every CPython from 3.8 on that the machine has, one path for each file that runs."""
    by_file = {path.resolve(): path for path in _candidates() if path.is_file()}
    found = [path for path in by_file.values() if _version(path) >= (3, 8)]
    assert found, "no Python was found on PATH or under pyenv"
    return sorted(found)


def _candidates() -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    if os.access(pyenv, os.R_OK | os.X_OK):  # it may be another user's
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
