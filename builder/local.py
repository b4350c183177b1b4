"""An sdist that a person has on disk."""

from __future__ import annotations

from pathlib import Path

from builder.deposit import deposit
from builder.errors import ArchiveError, SdistError
from builder.sdist import read_pkg_info, refuse_other_project, sdist_name
from builder.stages import Sdist
from store.digest import Sha256, sha256_of_file
from store.provenance import Origin, Source


def local_sdist(path: Path, folder: Path) -> Sdist:
    """Copy the sdist at `path` into `folder`, hashed while it is copied; its origin is `local`.

    The copy is what is built: the file at `path` may change meanwhile. One that lies there is taken
    as it is. Raises SdistError when
    `path` is no sdist by name or no file, ArchiveError when it cannot be read or its PKG-INFO
    names another project or version, OSError.
    """
    name, version = sdist_name(path.name)
    if not path.is_file():
        raise SdistError(f"no such file: {path}", hint="give the path of a .tar.gz or .zip sdist")
    copy, sha256 = _copied(path, folder / path.name)
    origin = Origin(kind="local", location=str(path.resolve()), pinned=False)
    found = Source(
        name=name, version=str(version), filename=path.name, sha256=sha256, origin=origin
    )
    _refuse_unusable(copy, found)
    return Sdist(source=found, path=copy)


def _copied(path: Path, place: Path) -> tuple[Path, Sha256]:
    if place.exists() and place.samefile(path):
        return place, sha256_of_file(place)
    with path.open("rb") as source:
        return deposit(source, place)


def _refuse_unusable(copy: Path, found: Source) -> None:
    try:
        if (metadata := read_pkg_info(copy)) is not None:
            refuse_other_project(metadata, found)
    except ArchiveError:
        copy.unlink()
        raise
