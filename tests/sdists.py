"""Sdists of the tests' own: tests/projects/NAME packed, byte for byte the same each time."""

from __future__ import annotations

import gzip
import io
import tarfile
from pathlib import Path
from typing import Final

PROJECTS: Final = Path(__file__).parent / "projects"
_MTIME: Final = 1_600_000_000


def pack_project(name: str, folder: Path) -> Path:
    """tests/projects/NAME as FOLDER/NAME-1.0.tar.gz, the wheel writer put beside its backend."""
    sdist = folder / f"{name.replace('-', '_')}-1.0.tar.gz"
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
                info.size, info.mtime = len(data), _MTIME
                tar.addfile(info, io.BytesIO(data))
    return sdist
