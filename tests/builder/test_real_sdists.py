"""Real sdists from the package index, built natively."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.build import build_wheel
from builder.index import fetch_sdist, find_sdist
from builder.interpreter import measure
from builder.stages import BuildFailure, BuildRequest, FinishedBuild, Sdist

pytestmark = pytest.mark.network

Request = Callable[..., BuildRequest]


def interpreters() -> Iterator[Path]:
    """The running one, and one of another version where pyenv has one."""
    yield Path(sys.executable)
    here = f"{sys.version_info.major}.{sys.version_info.minor}."
    for found in sorted(Path.home().glob(".pyenv/versions/3.1[0-9]*/bin/python"), reverse=True):
        if not found.parents[1].name.startswith(here):
            yield found
            return


@pytest.fixture
def sdist(tmp_path: Path) -> Callable[[str, str], Sdist]:
    return lambda name, version: fetch_sdist(find_sdist(name, version), tmp_path / "sdists")


def finished(request: BuildRequest) -> FinishedBuild:
    result = build_wheel(request)
    assert isinstance(result, FinishedBuild), result
    return result


def tags_of(result: FinishedBuild) -> set[str]:
    return {str(tag) for tag in result.wheel.tags}


@pytest.mark.parametrize("python", list(interpreters()), ids=lambda path: path.parents[1].name)
def test_a_c_extension_is_built_for_its_interpreter(
    python: Path, sdist: Callable[[str, str], Sdist], request_for: Request
) -> None:
    result = finished(request_for(sdist("markupsafe", "3.0.3"), python=python))
    interpreter = measure(python).interpreter
    assert result.wheel.extension_modules == {"markupsafe._speedups"}
    assert {tag.abi for tag in result.wheel.tags} == {interpreter.abi_tag}
    assert [p.name for p in result.provenance.inputs.build_requirements] == ["setuptools"]


@pytest.mark.parametrize("python", list(interpreters()), ids=lambda path: path.parents[1].name)
def test_multiprocess_is_bound_to_the_interpreter_that_built_it(
    python: Path, sdist: Callable[[str, str], Sdist], request_for: Request
) -> None:
    result = finished(request_for(sdist("multiprocess", "0.70.17"), python=python))
    assert result.provenance.built_filename == "multiprocess-0.70.17-py313-none-any.whl"
    tag = measure(python).interpreter.python_tag
    assert {one.interpreter for one in result.wheel.tags} <= {tag, tag.replace("cp", "py")}


def test_a_universal_wheel_stays_one(
    sdist: Callable[[str, str], Sdist], request_for: Request
) -> None:
    result = finished(request_for(sdist("six", "1.17.0")))
    assert "py3-none-any" in tags_of(result)


@pytest.mark.slow
def test_two_builds_of_a_c_extension_are_byte_identical(request_for: Request) -> None:
    one, two = (finished(request_for("cext")) for _ in range(2))
    assert one.wheel.sha256 == two.wheel.sha256
    assert one.provenance.built_sha256 == two.provenance.built_sha256
    assert one.wheel.extension_modules == {"cext._fast"}
    with zipfile.ZipFile(one.wheel.path) as wheel:
        binary = next(name for name in wheel.namelist() if name.endswith(".so"))
        assert str(one.wheel.path.parents[1]).encode() not in wheel.read(binary)


def test_an_sdist_without_pyproject_is_built_by_setuptools(request_for: Request) -> None:
    result = finished(request_for("legacy"))
    assert result.provenance.environment["backend"] == "setuptools.build_meta:__legacy__"


def test_an_extension_that_got_lost_on_the_way_is_a_refusal(request_for: Request) -> None:
    failure = build_wheel(request_for("optional-lost"))
    assert isinstance(failure, BuildFailure)
    assert failure.kind == "verification"
    assert "_optional_fast" in failure.message
