from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from builder.build import build_wheel
from builder.failure import StepFailed
from builder.isolation import Uv, isolated_environment
from builder.requirements import readable, resolve, unmet
from builder.stages import BuildFailure, BuildRequest, FinishedBuild
from builder.toolchain.python_facts import python_facts
from store.digest import Sha256
from store.provenance import Pin, Recipe

PYTHON = Path(sys.executable)
FACTS = python_facts(PYTHON)
NOWHERE = "http://127.0.0.1:9/simple/"

Request = Callable[..., BuildRequest]


@pytest.fixture
def uv(tmp_path: Path) -> Uv:
    (tmp_path / "uv").mkdir()
    return Uv(scratch=tmp_path / "uv", log=tmp_path / "log", index_url=None)


def pin(name: str, version: str, sha256: str = "0" * 64) -> Pin:
    return Pin(name=name, version=version, filename=f"{name}.whl", sha256=Sha256(sha256))


def test_requirements_are_sorted_once_each_and_by_marker() -> None:
    wanted = readable(
        ["wheel", "setuptools >=61", "setuptools>=61", "pywin32; sys_platform == 'win32'"], FACTS
    )
    assert list(map(str, wanted)) == ["setuptools>=61", "wheel"]


@pytest.mark.parametrize(
    ("requirement", "kind", "words"),
    [
        ("not a requirement", "build", "not a build requirement"),
        ("-r /etc/passwd", "build", "not a build requirement"),
        ("x\n--index-url=http://evil", "build", "not a build requirement"),
        ("x" * 5000, "build", "too long"),
        ("foo @ https://example.org/foo.whl", "policy", "names a URL"),
        ("foo @ file:///etc", "policy", "names a URL"),
    ],
)
def test_what_may_not_be_required_is_refused(requirement: str, kind: str, words: str) -> None:
    with pytest.raises(StepFailed, match=words) as caught:
        readable([requirement], FACTS)
    assert caught.value.kind == kind


def test_there_are_no_more_than_so_many() -> None:
    with pytest.raises(StepFailed, match="more than 500"):
        readable([f"p{n}" for n in range(501)], FACTS)


def test_pins_that_do_not_meet_a_requirement_are_found() -> None:
    wanted = [Requirement("Foo.Bar>=2"), Requirement("baz"), Requirement("pre>=1")]
    pins = [pin("foo-bar", "1.0"), pin("pre", "1.0rc1")]
    assert list(map(str, unmet(wanted, pins))) == ["Foo.Bar>=2", "baz", "pre>=1"]
    assert unmet(wanted[:2], [pin("foo-bar", "2.0"), pin("baz", "0")]) == []


def test_nothing_required_asks_no_index(uv: Uv) -> None:
    assert resolve([], [], FACTS, uv, PYTHON) == ()


def test_an_environment_is_that_interpreters_and_empty(uv: Uv, tmp_path: Path) -> None:
    made = isolated_environment(PYTHON, tmp_path / "env", uv)
    assert Path(made.python_executable).exists()
    assert python_facts(Path(made.python_executable)).full_version == FACTS.full_version
    assert not list((tmp_path / "env").rglob("setuptools"))


def test_an_interpreter_that_is_none_gives_no_environment(uv: Uv, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="no virtual environment") as caught:
        isolated_environment(Path("/bin/true"), tmp_path / "env", uv)
    assert caught.value.kind == "infrastructure"


@pytest.mark.slow
def test_an_index_that_does_not_answer_is_trouble_with_the_farm(tmp_path: Path) -> None:
    (tmp_path / "uv").mkdir()
    uv = Uv(scratch=tmp_path / "uv", log=tmp_path / "log", index_url=NOWHERE)
    with pytest.raises(StepFailed) as caught:
        resolve(["setuptools"], [], FACTS, uv, PYTHON)
    assert caught.value.kind == "infrastructure"
    assert "127.0.0.1:9" in str(caught.value.first_error)


def test_pins_that_are_stale_are_told(request_for: Request) -> None:
    failure = build_wheel(request_for("pure", pins=(), recipe=_wants("wheel")))
    assert isinstance(failure, BuildFailure)
    assert "do not meet wheel" in failure.message


def _wants(requirement: str) -> Recipe:
    return Recipe(extra_build_requires=(requirement,))


# --- with the package index --------------------------------------------------------------------


@pytest.mark.network
def test_each_pin_is_the_one_file_for_this_interpreter(uv: Uv) -> None:
    pins = resolve(["six==1.16.0", "cffi==1.17.1"], ["pycparser==2.22"], FACTS, uv, PYTHON)
    assert [(p.name, p.version) for p in pins] == [
        ("cffi", "1.17.1"), ("pycparser", "2.22"), ("six", "1.16.0"),
    ]  # fmt: skip
    assert f"-cp{FACTS.markers['python_version'].replace('.', '')}-" in pins[0].filename
    assert pins[2].filename == "six-1.16.0-py2.py3-none-any.whl"
    assert pins[2].sha256 == "8abb2f1d86890a2dfb989f9a77cfcfd3e47c2a354b01111771326f8aa26e0254"


@pytest.mark.network
@pytest.mark.parametrize(
    ("requirement", "kind", "words"),
    [
        ("six>=999", "build", "only six<="),
        ("surely-no-such-project-7f3c9a12be04", "build", "not found"),
        ("docopt==0.6.2", "policy", "no usable wheels"),
    ],
)
def test_what_cannot_be_met_is_told_in_uvs_words(
    uv: Uv, requirement: str, kind: str, words: str
) -> None:
    with pytest.raises(StepFailed) as caught:
        resolve([requirement], [], FACTS, uv, PYTHON)
    assert caught.value.kind == kind
    assert words in str(caught.value.first_error)


@pytest.mark.network
def test_what_a_backend_asks_for_is_pinned_too(request_for: Request) -> None:
    first = build_wheel(request_for("asks-more"))
    assert isinstance(first, FinishedBuild)
    pins = first.provenance.inputs.build_requirements
    assert [(p.name, p.version) for p in pins] == [("six", "1.16.0")]
    again = build_wheel(request_for("asks-more", pins=pins))
    assert isinstance(again, FinishedBuild)
    assert again.provenance.inputs.key == first.provenance.inputs.key
    assert again.wheel.sha256 == first.wheel.sha256


@pytest.mark.network
def test_a_pin_of_other_bytes_is_not_installed(request_for: Request) -> None:
    failure = build_wheel(request_for("asks-more", pins=(pin("six", "1.16.0"),)))
    assert isinstance(failure, BuildFailure)
    assert "cannot be installed" in failure.message
