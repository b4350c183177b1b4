"""What the tests of the cross toolchain share: interpreters, build environments, real builds."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import lief
import pytest
from build import BuildBackendException, ProjectBuilder
from pypi_simple import PyPISimple

from builder.toolchain.cross import CrossToolchain, cross_toolchain
from builder.toolchain.macos import parse_macos_target
from store.digest import sha256_of_file

PROJECTS = Path(__file__).parents[2] / "projects"
PYTHON_TAG = "cp{}{}".format(*sys.version_info[:2])
SDISTS = {
    "markupsafe-3.0.2": "ee55d3edf80167e48ea11a923c7386f4669df67d7994554387f84e7d8b0a2bf0",
    "msgpack-1.1.0": "dd432ccc2c72b914e4cb77afce64aab761c1137cc698be3984eee260bcb2896e",
    "multiprocess-0.70.17": "4ae2f11a3416809ebc9a48abfc8b14ecce0652a0944731a1493a3c1ba44ff57a",
    "psutil-6.1.1": "cf8496728c18f2d0b45198f06895be52f36611711746b7f30c464b422b50e2f5",
    "setproctitle-1.3.4": "3b40d32a3e1f04e94231ed6dfee0da9e43b4f9c6b5450d53e6dd7754c34e0c50",
    "simplejson-3.19.3": "8e086896c36210ab6050f2f9f095a5f1e03c83fa0e7f296d6cba425411364680",
    "six-1.17.0": "ff70335d468e7eb6ec65b95b99d3a2836546063f63acc5171de367e834932a81",
    "wrapt-1.17.2": "41388e9d4d1522446fe79d3213196bd9e3b301a336965b9e27ca2788ebd122f3",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """What a test build left: its wheel (None when the backend failed), log and toolchain."""

    wheel: Path | None
    log: Path
    scratch: Path
    toolchain: CrossToolchain

    @property
    def attempted(self) -> frozenset[str]:
        return self.toolchain.attempted_modules(self.scratch, self.log)

    @property
    def modules(self) -> dict[str, bytes]:
        assert self.wheel is not None, self.log.read_text()
        with zipfile.ZipFile(self.wheel) as archive:
            return {name: archive.read(name) for name in archive.namelist() if ".so" in name}


Build = Callable[..., Built]


@pytest.fixture(scope="session")
def arm64(cross_cache: Path) -> CrossToolchain:
    target = parse_macos_target(f"macos-11.0-arm64:{PYTHON_TAG}")
    return cross_toolchain(target, Path(sys.executable), cross_cache)


@pytest.fixture(scope="session")
def environment_for(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A native build environment of a Python with packages; made once for each pair."""
    made: dict[tuple[Path, tuple[str, ...]], Path] = {}

    def make(python: Path, *packages: str) -> Path:
        key = (python, packages)
        if key not in made:
            folder = tmp_path_factory.mktemp("environment")
            _uv("venv", "--clear", "--python", str(python), str(folder))
            _uv("pip", "install", "--python", str(folder), *packages)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A pinned sdist from the index, held against its digest."""
    folder = tmp_path_factory.mktemp("sdists")

    def fetch(name: str) -> Path:
        path = folder / f"{name}.tar.gz"
        if not path.exists():
            with PyPISimple() as index:
                page = index.get_project_page(name.rpartition("-")[0])
                package = next(one for one in page.packages if one.filename == path.name)
                index.download_package(package, path)
        assert sha256_of_file(path) == SDISTS[name]
        return path

    return fetch


@pytest.fixture
def cross_build(cross_cache: Path, environment_for: Callable[..., Path], tmp_path: Path) -> Build:
    """Build a project folder or an sdist for a target, as a builder would, without a sandbox."""

    def run(
        source: Path,
        target: str = f"macos-11.0-arm64:{PYTHON_TAG}",
        *,
        python: Path | None = None,
        packages: tuple[str, ...] = ("setuptools",),
        folder: str = "build",
    ) -> Built:
        python = python or Path(sys.executable)
        toolchain = cross_toolchain(parse_macos_target(target), python, cross_cache)
        workspace = tmp_path / folder
        (workspace / "scratch").mkdir(parents=True)
        tree = _unpack(source, workspace / "tree")
        environment = environment_for(python, *packages)
        return _hooks(toolchain, tree, environment, workspace)

    return run


@pytest.fixture(scope="session")
def python_of() -> Callable[[str], Path]:
    """The machine's interpreter of a version; the test is skipped when there is none."""

    def find(version: str) -> Path:
        places = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
        if found := shutil.which(f"python{version}"):
            places.insert(0, Path(found))
        for place in places:
            if subprocess.run([place, "-c", ""], check=False).returncode == 0:
                return place
        pytest.skip(f"no Python {version} on this machine")

    return find


def described(module: bytes) -> tuple[str, tuple[int, int], bool]:
    """Architecture, minimum OS and whether it is signed, of one Mach-O file, by lief."""
    fat = lief.MachO.parse(list(module))
    assert fat is not None
    assert fat.size == 1
    binary = fat.at(0)
    assert binary is not None
    new = binary.build_version
    minimum = new.minos if new is not None else binary.version_min.version  # type: ignore[union-attr]
    arch = {"ARM64": "arm64", "X86_64": "x86_64"}[binary.header.cpu_type.name]
    return arch, (minimum[0], minimum[1]), binary.has_code_signature


def libraries(module: bytes) -> set[str]:
    """The install names that a thin Mach-O file loads, by lief; its own is not one of them."""
    fat = lief.MachO.parse(list(module))
    assert fat is not None
    binary = fat.at(0)
    assert binary is not None
    kind = lief.MachO.LoadCommand.TYPE.ID_DYLIB
    return {str(one.name) for one in binary.libraries if one.command != kind}


def _uv(*args: str) -> None:
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    subprocess.run([uv, "--quiet", *args], check=True)


def _unpack(source: Path, to: Path) -> Path:
    if source.is_dir():
        shutil.copytree(source, to)
        return to
    with tarfile.open(source) as archive:
        archive.extractall(to, filter="data")
    return next(to.iterdir())


def _hooks(toolchain: CrossToolchain, tree: Path, environment: Path, workspace: Path) -> Built:
    log, scratch = workspace / "build.log", workspace / "scratch"
    variables = {
        "PATH": f"{environment}/bin:{os.defpath}",
        "HOME": str(scratch),
        "SOURCE_DATE_EPOCH": "1700000000",
        **toolchain.environment(scratch),
    }

    def run(
        cmd: object, cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
    ) -> None:
        with log.open("ab") as file:
            subprocess.run(
                cmd,  # type: ignore[call-overload]
                cwd=cwd,
                env={**variables, **(extra_environ or {})},
                stdout=file,
                stderr=file,
                check=True,
            )

    builder = ProjectBuilder(tree, python_executable=f"{environment}/bin/python", runner=run)
    backend = re.search(r'build-backend\s*=\s*"([\w.:]+)"', _pyproject(tree))
    settings = toolchain.config_settings(backend[1] if backend else "setuptools.build_meta")
    wheel: Path | None = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # build repeats what the sdist's backend warned of
        try:
            wheel = Path(builder.build("wheel", workspace / "wheel", settings))
        except BuildBackendException:
            log.touch()
    return Built(wheel=wheel, log=log, scratch=scratch, toolchain=toolchain)


def _pyproject(tree: Path) -> str:
    path = tree / "pyproject.toml"
    return path.read_text() if path.exists() else ""
