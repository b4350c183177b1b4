"""Sdists packed from tests/projects, and requests to build them for the running interpreter."""

from __future__ import annotations

import gzip
import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.interpreter import measure
from builder.local import local_sdist
from builder.stages import BuildRequest, Sdist
from builder.toolchain.native import native_toolchain
from store.provenance import Pin, Recipe

PROJECTS = Path(__file__).parent.parent / "projects"
MTIME = 1_600_000_000

Pack = Callable[[str], Path]
Request = Callable[..., BuildRequest]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    """Pack tests/projects/NAME as NAME-1.0.tar.gz, the wheel writer put beside its backend."""

    def pack_project(name: str) -> Path:
        sdist = tmp_path / f"{name.replace('-', '_')}-1.0.tar.gz"
        files = {path: path.relative_to(PROJECTS / name) for path in (PROJECTS / name).rglob("*")}
        files[PROJECTS / "wheel_writer.py"] = Path("wheel_writer.py")
        # A time of its own in the gzip header would give the same project another digest.
        with (
            gzip.GzipFile(sdist, "wb", mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            for path, inside in sorted(files.items()):
                if path.is_file() and "__pycache__" not in path.parts:
                    info = tarfile.TarInfo(f"{name}-1.0/{inside}")
                    data = path.read_bytes()
                    info.size, info.mtime = len(data), MTIME
                    tar.addfile(info, io.BytesIO(data))
        return sdist

    return pack_project


@pytest.fixture
def request_for(pack: Pack, tmp_path: Path) -> Request:
    """A request to build a project of tests/projects, or an Sdist; each in a fresh workspace."""
    count = iter(range(100))

    def make(
        what: str | Sdist,
        *,
        recipe: Recipe | None = None,
        pins: tuple[Pin, ...] | None = None,
        python: Path = Path(sys.executable),
        index_url: str | None = None,
    ) -> BuildRequest:
        workspace = tmp_path / f"work-{next(count)}"
        workspace.mkdir()
        sdist = local_sdist(pack(what), tmp_path / "sdists") if isinstance(what, str) else what
        return BuildRequest(
            sdist=sdist,
            target=measure(python).target(),
            toolchain=native_toolchain(python),
            recipe=recipe or Recipe(),
            pins=pins,
            workspace=workspace,
            index_url=index_url,
        )

    return make
