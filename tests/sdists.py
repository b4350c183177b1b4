"""Sdists of the tests' own: tests/projects/NAME packed, byte for byte the same each time."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Final

PROJECTS: Final = Path(__file__).parent / "projects"
_MTIME: Final = 1_600_000_000
_VERSION: Final = "1.0"


def pack_project(name: str, folder: Path, *, version: str = _VERSION) -> Path:
    """tests/projects/NAME as FOLDER/NAME-1.0.tar.gz, the wheel writer put beside its backend.

    Another `version` is written into PKG-INFO and the wheel writer.
    """
    sdist = folder / f"{name.replace('-', '_')}-{version}.tar.gz"
    files = {path: path.relative_to(PROJECTS / name) for path in (PROJECTS / name).rglob("*")}
    files[PROJECTS / "wheel_writer.py"] = Path("wheel_writer.py")
    # A time of its own in the gzip header would give the same project another digest.
    with (
        gzip.GzipFile(sdist, "wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path, inside in sorted(files.items()):
            if path.is_file() and "__pycache__" not in path.parts:
                info = tarfile.TarInfo(f"{name}-{version}/{inside}")
                data = _with_version(path, version)
                info.size, info.mtime = len(data), _MTIME
                tar.addfile(info, io.BytesIO(data))
    return sdist


def _with_version(path: Path, version: str) -> bytes:
    data = path.read_bytes()
    if version == _VERSION or path.name not in {"PKG-INFO", "wheel_writer.py"}:
        return data
    for before in ("-", "\nVersion: ", '"Version: '):
        data = data.replace(f"{before}{_VERSION}".encode(), f"{before}{version}".encode())
    return data
