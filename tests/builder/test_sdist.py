from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from builder.errors import ArchiveError, DigestError, SdistError
from builder.failure import StepFailed
from builder.local import local_sdist
from builder.sdist import (
    LEGACY_BACKEND,
    BuildSystem,
    SourceTree,
    read_build_system,
    sdist_name,
    supports_python,
    unpack,
)
from builder.stages import Sdist
from store.digest import sha256_of_file
from store.provenance import Origin


def sdist_of(tmp_path: Path, files: dict[str, bytes], *, mtime: int = 1_600_000_000) -> Sdist:
    path = tmp_path / "thing-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(f"thing-1.0/{name}")
            info.size, info.mtime = len(data), mtime
            archive.addfile(info, io.BytesIO(data))
    return local_sdist(path, tmp_path / "sdists")


def unpacked(tmp_path: Path, files: dict[str, bytes], *, mtime: int = 1_600_000_000) -> SourceTree:
    sdist = sdist_of(tmp_path, files, mtime=mtime)
    (tmp_path / "into").mkdir()
    return unpack(sdist, tmp_path / "into")


SETUP = {"setup.py": b"", "PKG-INFO": b"Name: Thing\nVersion: 1.0.0\nRequires-Python: >=3.9\n"}


def test_a_tree_tells_its_build_system_its_python_and_its_time(tmp_path: Path) -> None:
    table = b'[build-system]\nrequires = ["b", "a>=1"]\nbuild-backend = "x.y:z"\n'
    tree = unpacked(tmp_path, {**SETUP, "pyproject.toml": table})
    assert tree.build_system == BuildSystem(requires=("a>=1", "b"), backend="x.y:z")
    assert (tree.requires_python, tree.source_date_epoch) == (">=3.9", 1_600_000_000)


@pytest.mark.parametrize("pyproject", [None, b"", b"[tool.black]\n"])
def test_without_a_build_system_it_is_the_legacy_backend(
    tmp_path: Path, pyproject: bytes | None
) -> None:
    files = SETUP if pyproject is None else {**SETUP, "pyproject.toml": pyproject}
    system = unpacked(tmp_path, files).build_system
    assert system.backend == LEGACY_BACKEND
    assert [one.split()[0] for one in system.requires] == ["setuptools"]


@pytest.mark.parametrize(("mtime", "epoch"), [(0, 315_532_800), (2**33, 4_102_444_800)])
def test_the_time_fits_into_a_zip_file(tmp_path: Path, mtime: int, epoch: int) -> None:
    assert unpacked(tmp_path, SETUP, mtime=mtime).source_date_epoch == epoch


@pytest.mark.parametrize(
    ("pyproject", "words"),
    [
        (b"[build-system", "parse pyproject.toml"),
        (b"[build-system]\n", "`requires` is a required property"),
        (b"[build-system]\nrequires = 7\n", "array of strings"),
        (b"build-system = 7\n", "must be a table"),
        (b"[build-system]\nrequires = []\nbuild-backend = 7\n", "must be a string"),
        (b'[build-system]\nrequires = []\nbackend-path = [".."]\n', "inside source tree"),
        (b'[build-system]\nrequires = []\nbackend-path = ["/etc"]\n', "relative|does not exist"),
        (b"\xff\xfe", "utf-8"),
        (b"a = " + b"[" * 5000 + b"]" * 5000, "recursion|nest|parse"),
    ],
)
def test_a_broken_pyproject_is_a_failed_build(tmp_path: Path, pyproject: bytes, words: str) -> None:
    with pytest.raises(StepFailed, match=words) as caught:
        unpacked(tmp_path, {**SETUP, "pyproject.toml": pyproject})
    assert caught.value.kind == "build"
    assert str(tmp_path) not in caught.value.message


def test_a_pyproject_that_is_no_file_or_huge_is_a_failed_build(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(StepFailed, match="a folder"):
        read_build_system(tmp_path)
    (tmp_path / "pyproject.toml").rmdir()
    (tmp_path / "pyproject.toml").write_bytes(b"#" * (2 << 20))
    with pytest.raises(StepFailed, match="larger than"):
        read_build_system(tmp_path)


def test_a_tree_that_is_no_project_is_a_failed_build(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"no pyproject.toml or setup.py"):
        unpacked(tmp_path, {"README": b""})


@pytest.mark.parametrize(
    ("pkg_info", "words"),
    [(b"Name: other\nVersion: 1.0\n", "'other'"), (b"Name: thing\nVersion: 2.0\n", "'2.0'")],
)
def test_another_projects_pkg_info_is_refused(tmp_path: Path, pkg_info: bytes, words: str) -> None:
    with pytest.raises(ArchiveError, match=words):
        sdist_of(tmp_path, {"PKG-INFO": pkg_info})


def test_an_sdist_that_changed_since_it_was_fetched_is_refused(tmp_path: Path) -> None:
    sdist = sdist_of(tmp_path, SETUP)
    with sdist.path.open("ab") as file:
        file.write(b"\0")
    with pytest.raises(DigestError, match="changed on disk"):
        unpack(sdist, tmp_path)


@pytest.mark.parametrize(
    ("requires", "version", "answer"),
    [
        (None, "3.8.1", True),
        (">=3.9", "3.8.18", False),
        (">=3.11.4", "3.11.7", True),
        (">=3.13", "3.13.0rc1", False),
        (">=3.13.0a1", "3.13.0rc1", True),
        ("three or so", "3.8.1", True),
    ],
)
def test_requires_python(requires: str | None, version: str, answer: bool) -> None:
    assert supports_python(requires, version) is answer


def test_names_of_sdists() -> None:
    assert tuple(map(str, sdist_name("Foo.Bar-1.0.tar.gz"))) == ("foo-bar", "1.0")
    assert tuple(map(str, sdist_name("foo_bar-1.0rc1.zip"))) == ("foo-bar", "1.0rc1")
    for name in ("foo.tar.gz", "foo-1.0.whl", "foo-1.0.tar.bz2", "foo-x.tar.gz", ""):
        with pytest.raises(SdistError, match="not the file name"):
            sdist_name(name)


# --- local sdists ------------------------------------------------------------------------------


def test_a_local_sdist_is_copied_and_hashed(tmp_path: Path) -> None:
    sdist = sdist_of(tmp_path, SETUP)
    given = tmp_path / "thing-1.0.tar.gz"
    assert sdist.path == tmp_path / "sdists" / given.name
    assert sdist.source.sha256 == sha256_of_file(given)
    assert (sdist.source.name, sdist.source.version) == ("thing", "1.0")
    assert sdist.source.origin == Origin(kind="local", location=str(given), pinned=False)


def test_a_local_sdist_that_lies_there_already_is_not_copied(tmp_path: Path) -> None:
    first = sdist_of(tmp_path, SETUP)
    file = first.path.stat()
    again = local_sdist(first.path, tmp_path / "sdists")
    assert (again.path, again.source.sha256) == (first.path, first.source.sha256)
    assert (file.st_ino, file.st_mtime_ns) == (
        again.path.stat().st_ino,
        again.path.stat().st_mtime_ns,
    )


def test_what_is_no_local_sdist_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(SdistError, match="no such file"):
        local_sdist(tmp_path / "thing-1.0.tar.gz", tmp_path)
    (tmp_path / "thing-2.0.tar.gz").mkdir()
    with pytest.raises(SdistError, match="no such file"):
        local_sdist(tmp_path / "thing-2.0.tar.gz", tmp_path)
    (tmp_path / "thing-3.0.tar.gz").write_text("<html>not found</html>")
    with pytest.raises(ArchiveError, match="corrupt"):
        local_sdist(tmp_path / "thing-3.0.tar.gz", tmp_path / "sdists")
