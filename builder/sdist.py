"""An sdist: its name, its safe unpacking, and what it says of itself.

PEP 625 names the file, PEP 517 and 518 say how it is built, PKG-INFO (PEP 643) who it is.
"""

from __future__ import annotations

import tomllib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from build import BuildException, ProjectBuilder, TypoWarning
from packaging.metadata import RawMetadata, parse_email
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidSdistFilename, canonicalize_name, parse_sdist_filename
from packaging.version import InvalidVersion, Version

from builder.archive import Unpacked, read_member, unpack_archive
from builder.errors import ArchiveError, DigestError, SdistError
from builder.failure import StepFailed
from builder.stages import Sdist
from store.digest import sha256_of_file
from store.provenance import Source

LEGACY_BACKEND: Final = "setuptools.build_meta:__legacy__"
"""What builds an sdist that names no backend (PEP 517, "Source trees")."""

_LARGEST_PKG_INFO: Final = 4 << 20
_LARGEST_PYPROJECT: Final = 1 << 20
_OLDEST_ZIP_TIME: Final = 315_532_800  # 1980-01-01, where the time of a zip file begins
_NEWEST_ZIP_TIME: Final = 4_102_444_800  # 2100-01-01, before it ends


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSystem:
    """The ``[build-system]`` table (PEP 518): requirements as written, sorted, and the backend."""

    requires: tuple[str, ...]
    backend: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTree:
    """An unpacked sdist. `source_date_epoch` is the time of its newest member, in seconds."""

    path: Path
    build_system: BuildSystem
    requires_python: str | None
    source_date_epoch: int


def sdist_name(filename: str) -> tuple[str, Version]:
    """Normalised project name and version that `filename` claims (PEP 625, and older spellings).

    Raises SdistError for a name that is not of an sdist.
    """
    try:
        return parse_sdist_filename(filename)
    except (InvalidSdistFilename, InvalidVersion) as error:
        raise SdistError(
            f"not the file name of an sdist: {filename[:200]!a}",
            hint="it reads NAME-VERSION.tar.gz (PEP 625); NAME-VERSION.zip is taken too",
        ) from error


def unpack(sdist: Sdist, into: Path) -> SourceTree:
    """Unpack `sdist` below `into` and read what it says of itself.

    Raises DigestError when the file on disk is not the one its Source names, ArchiveError when it
    cannot be unpacked safely or is another project's, StepFailed (kind `build`) when its
    pyproject.toml is broken, OSError when `into` cannot be written.
    """
    if sha256_of_file(sdist.path) != sdist.source.sha256:
        raise DigestError(f"{sdist.source.filename} changed on disk since it was fetched")
    unpacked = unpack_archive(sdist.path, into)
    metadata = _metadata_in(unpacked.tree)
    if metadata is not None:
        refuse_other_project(metadata, sdist.source)
    return SourceTree(
        path=unpacked.tree,
        build_system=read_build_system(unpacked.tree),
        requires_python=metadata.get("requires_python") if metadata else None,
        source_date_epoch=_epoch_of(unpacked),
    )


def read_pkg_info(archive: Path) -> RawMetadata | None:
    """The PKG-INFO of an sdist that is still packed; None when it has none.

    Raises ArchiveError for a corrupt archive.
    """
    data = read_member(archive, "PKG-INFO", _LARGEST_PKG_INFO)
    return None if data is None else parse_email(data)[0]


def refuse_other_project(metadata: RawMetadata, source: Source) -> None:
    """Raise ArchiveError when PKG-INFO names another project or version than `source` does."""
    name, version = metadata.get("name"), metadata.get("version")
    if name is not None and canonicalize_name(name) != source.name:
        raise ArchiveError(f"{source.filename} says in its PKG-INFO that it is {name[:80]!r}")
    if version is not None and not _same_version(version, source.version):
        raise ArchiveError(
            f"{source.filename} says in its PKG-INFO that its version is {version[:80]!r}"
        )


def supports_python(requires_python: str | None, version: str) -> bool:
    """Whether the Python of that full version is one that the sdist asks for.

    A specifier that cannot be read excludes nothing, as with pip.
    """
    try:
        return SpecifierSet(requires_python or "").contains(version, prereleases=True)
    except InvalidSpecifier:
        return True


def read_build_system(tree: Path) -> BuildSystem:
    """What ``pyproject.toml`` says of the build. Raises StepFailed when it is not usable."""
    pyproject = tree / "pyproject.toml"
    _refuse_odd_file(pyproject)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TypoWarning)
            builder = ProjectBuilder(tree)
        backend = _backend_in(pyproject)
    except (BuildException, ValueError, RecursionError) as error:
        raise StepFailed("build", _plain(str(error), tree)) from error
    return BuildSystem(requires=tuple(sorted(builder.build_system_requires)), backend=backend)


def _refuse_odd_file(pyproject: Path) -> None:
    if pyproject.exists() and pyproject.stat().st_size > _LARGEST_PYPROJECT:
        raise StepFailed("build", f"its pyproject.toml is larger than {_LARGEST_PYPROJECT} bytes")
    if pyproject.is_dir():
        raise StepFailed("build", "its pyproject.toml is a folder")


def _backend_in(pyproject: Path) -> str:
    # ProjectBuilder has validated the table; it only does not tell the backend's name.
    if not pyproject.exists():
        return LEGACY_BACKEND
    table = tomllib.loads(pyproject.read_text("utf-8")).get("build-system", {})
    return str(table.get("build-backend", LEGACY_BACKEND))


def _plain(message: str, tree: Path) -> str:
    """The message without the folder, which is gone when anyone reads it."""
    return message.replace(f"{tree}/", "").replace(str(tree), tree.name)[:500]


def _metadata_in(tree: Path) -> RawMetadata | None:
    path = tree / "PKG-INFO"
    if not path.is_file():
        return None
    if path.stat().st_size > _LARGEST_PKG_INFO:
        raise ArchiveError(f"its PKG-INFO is larger than {_LARGEST_PKG_INFO} bytes")
    return parse_email(path.read_bytes())[0]


def _same_version(left: str, right: str) -> bool:
    try:
        return Version(left) == Version(right)
    except InvalidVersion:
        return False


def _epoch_of(unpacked: Unpacked) -> int:
    # Archives made by hand carry 0 or a time to come; a zip file can hold neither.
    return min(max(unpacked.newest_mtime, _OLDEST_ZIP_TIME), _NEWEST_ZIP_TIME)
