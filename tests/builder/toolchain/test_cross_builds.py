"""Real sdists and small projects, built for macOS by their own backends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from builder.checks.link_symbols import all_found
from builder.judge import judge_opened
from builder.wheel import open_wheel
from store.digest import sha256_of_file
from tests.builder.toolchain.conftest import (
    PROJECTS,
    PYTHON_TAG,
    Build,
    Built,
    described,
    libraries,
)

pytestmark = pytest.mark.network

ARM64 = f"macos-11.0-arm64:{PYTHON_TAG}"
X86_64 = f"macos-10.13-x86_64:{PYTHON_TAG}"
EXPECTED = {ARM64: ("arm64", (11, 0), True), X86_64: ("x86_64", (10, 13), False)}
Fetch = Callable[[str], Path]


def is_link_checked(built: Built) -> bool:
    """Whether every symbol that the wheel asks for is found under its own tags."""
    assert built.wheel is not None
    wheel = open_wheel(built.wheel)
    judgement = judge_opened(wheel)
    assert judgement.verdict == "accept", judgement.findings
    return all_found(wheel, judgement.tags)


@pytest.mark.parametrize("target", [ARM64, X86_64])
def test_markupsafe(target: str, sdist: Fetch, cross_build: Build) -> None:
    built = cross_build(sdist("markupsafe-3.0.2"), target)
    assert [described(module) for module in built.modules.values()] == [EXPECTED[target]]
    assert built.attempted == {"markupsafe._speedups"}
    assert is_link_checked(built)


@pytest.mark.slow
@pytest.mark.parametrize("target", [ARM64, X86_64])
@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("simplejson-3.19.3", {"simplejson._speedups"}),
        ("msgpack-1.1.0", {"msgpack._cmsgpack"}),
        ("wrapt-1.17.2", {"wrapt._wrappers"}),
        ("six-1.17.0", set()),
        ("multiprocess-0.70.17", set()),
    ],
)
def test_sdists(
    name: str, modules: set[str], target: str, sdist: Fetch, cross_build: Build
) -> None:
    built = cross_build(sdist(name), target)
    suffix = f".cpython-{PYTHON_TAG[2:]}-darwin.so"
    assert {path.removesuffix(suffix).replace("/", ".") for path in built.modules} == modules
    assert {described(module) for module in built.modules.values()} <= {EXPECTED[target]}
    assert built.attempted == modules
    assert is_link_checked(built) == bool(modules)


@pytest.mark.slow
@pytest.mark.parametrize("tag", ["cp38", "cp310", "cp312", "cp313", "cp313t"])
def test_other_pythons(
    tag: str, sdist: Fetch, cross_build: Build, python_of: Callable[[str], Path]
) -> None:
    python = python_of(f"3.{tag[3:].rstrip('t')}")
    built = cross_build(sdist("wrapt-1.17.2"), f"macos-11.0-arm64:{tag}", python=python)
    assert [*built.modules] == [f"wrapt/_wrappers.cpython-{tag[2:]}-darwin.so"]
    python_tag = tag.rstrip("t")
    assert built.wheel is not None
    assert built.wheel.name == f"wrapt-1.17.2-{python_tag}-{tag}-macosx_11_0_arm64.whl"
    assert [described(module) for module in built.modules.values()] == [EXPECTED[ARM64]]
    assert is_link_checked(built)


@pytest.mark.slow
def test_two_builds_are_the_same_bytes(cross_build: Build, sdist: Fetch) -> None:
    first, second = (
        cross_build(sdist("markupsafe-3.0.2"), folder=name).wheel for name in ("one", "the other")
    )
    assert first is not None
    assert second is not None
    assert sha256_of_file(first) == sha256_of_file(second)


@pytest.mark.slow
@pytest.mark.parametrize("target", [ARM64, X86_64])
@pytest.mark.parametrize(
    ("project", "packages"),
    [
        ("meson_lift", ("meson-python", "ninja")),
        ("cmake_lift", ("scikit-build-core", "cmake", "ninja")),
        # Before policy CMP0190, FindPython asked no interpreter in a cross build.
        ("cmake_lift", ("scikit-build-core", "cmake==3.31.10", "ninja")),
    ],
)
def test_other_compiling_backends(
    project: str, packages: tuple[str, ...], target: str, cross_build: Build
) -> None:
    built = cross_build(PROJECTS / project, target, packages=packages)
    assert [*built.modules] == [f"{project}/_lift.cpython-{PYTHON_TAG[2:]}-darwin.so"]
    assert [described(module) for module in built.modules.values()] == [EXPECTED[target]]


@pytest.mark.slow
@pytest.mark.parametrize(
    "backend", ["hatchling.build", "flit_core.buildapi", "poetry.core.masonry.api"]
)
def test_pure_backends(backend: str, cross_build: Build, tmp_path: Path) -> None:
    package = {"h": "hatchling", "f": "flit-core", "p": "poetry-core"}[backend[0]]
    project = tmp_path / "project"
    (project / "pure_lift").mkdir(parents=True)
    (project / "pure_lift" / "__init__.py").write_text('"""Lifts."""\n')
    (project / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{package}"]\nbuild-backend = "{backend}"\n'
        '[project]\nname = "pure-lift"\nversion = "1.0"\ndescription = "Lifts"\n'
        'requires-python = ">=3.8"\n'
    )
    built = cross_build(project, packages=(package,))
    assert built.wheel is not None, built.log.read_text()
    assert built.wheel.name == "pure_lift-1.0-py3-none-any.whl"


@pytest.mark.slow
def test_cplusplus_brings_its_library_along(cross_build: Build) -> None:
    built = cross_build(PROJECTS / "cxx_lift")
    (module,) = built.modules.values()
    assert described(module) == EXPECTED[ARM64]
    assert libraries(module) == {"/usr/lib/libSystem.B.dylib"}
    assert built.attempted == {"cxx_lift"}
    assert is_link_checked(built)


@pytest.mark.slow
def test_libcxx_is_made_once_for_all_later_builds(cross_build: Build) -> None:
    first = cross_build(PROJECTS / "cxx_lift", folder="first")
    assert first.attempted == {"cxx_lift"}
    second = cross_build(PROJECTS / "cxx_lift", folder="second")
    assert second.wheel is not None
    base = sorted(path.name for path in second.toolchain.warm.base.glob("o/*/*.a"))
    private = sorted(path.name for path in (second.scratch / "zig-cache").glob("o/*/*.a"))
    assert "libc++.a" in base
    assert private == base  # the build had to make none itself


def test_apples_headers_are_missed_clearly(sdist: Fetch, cross_build: Build) -> None:
    built = cross_build(sdist("psutil-6.1.1"))
    assert built.wheel is None
    assert "fatal error: 'netinet/tcp_fsm.h' file not found" in built.log.read_text()


def test_an_extension_that_was_lost_is_known(sdist: Fetch, cross_build: Build) -> None:
    built = cross_build(PROJECTS / "optional_lift")
    assert built.wheel is not None
    assert built.modules == {}
    assert built.attempted == {"optional_lift._speedups"}


@pytest.mark.slow
def test_a_pure_fallback_is_known(sdist: Fetch, cross_build: Build) -> None:
    built = cross_build(sdist("setproctitle-1.3.4"))
    assert built.wheel is not None
    assert built.wheel.name.endswith("-py3-none-any.whl")
    assert built.attempted == {"setproctitle._setproctitle"}
