"""The list itself: it covers what it must, keeps its own rules, and its page is up to date."""

from __future__ import annotations

import tomllib
from collections import Counter
from pathlib import Path

import pytest

from builder.checks.catalogue import TITLES
from builder.errors import RefusedWheelError
from store.errors import MalformedError
from tests.corpus.document import PAGE, page
from tests.corpus.listed import LIST, Listed, ListError, read_list
from tests.corpus.shelf import cache_folder

WHEELS = read_list()
_FAMILIES = (
    "macos thin", "macos universal2", "abi3", "free-threaded", "manylinux x86_64",
    "manylinux aarch64", "manylinux i686", "manylinux ppc64le", "manylinux s390x",
    "manylinux armv7l", "musllinux", "windows", "ios", "android", "pure", "launchers", "polyglot",
    "sibling", "pypy",
)  # fmt: skip


def test_there_are_enough_of_both_kinds() -> None:
    counts = Counter(wheel.kind for wheel in WHEELS)
    assert counts["honest"] >= 30
    assert counts["liar"] >= 10


@pytest.mark.parametrize("family", _FAMILIES)
def test_every_family_has_an_honest_wheel(family: str) -> None:
    assert any(family in wheel.family for wheel in WHEELS if wheel.kind == "honest")


def test_liars_are_of_several_projects_and_families() -> None:
    liars = [wheel for wheel in WHEELS if wheel.kind == "liar"]
    assert len({wheel.project for wheel in liars}) >= 10
    assert len({wheel.family for wheel in liars}) >= 6


def test_every_expected_error_is_a_code_that_there_is() -> None:
    assert {code for wheel in WHEELS for code in wheel.errors} <= TITLES.keys()


def test_the_page_is_made_from_the_list() -> None:
    hint = "python -m tests.corpus.document"
    assert PAGE.read_text("utf-8") == page(WHEELS), hint


def test_the_cache_is_outside_the_repository(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "wheelfarm-corpus"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert not cache_folder().is_relative_to(LIST.parents[2])


_ROW = tomllib.loads(LIST.read_text("utf-8"))["wheel"][0]


def _read(folder: Path, **changed: object) -> tuple[Listed, ...]:
    row = {**_ROW, **changed}
    values = {key: f'"{value}"' if isinstance(value, str) else value for key, value in row.items()}
    path = folder / "wheels.toml"
    path.write_text("[[wheel]]\n" + "".join(f"{k} = {v}\n" for k, v in values.items()), "utf-8")
    return read_list(path)


def test_a_row_that_keeps_the_rules_is_read(tmp_path: Path) -> None:
    assert [wheel.file for wheel in _read(tmp_path)] == [_ROW["file"]]


@pytest.mark.parametrize(
    "changed",
    [
        {"version": "0.0"},
        {"project": "other"},
        {"kind": "liar"},
        {"verdict": "retag"},
        {"verdict": "perhaps"},
        {"errors": ["record"]},
        {"tags": "py3-none-any"},
        {"why": "No."},
        {"size": 60_000_001},
    ],
)
def test_a_row_that_breaks_a_rule_is_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    with pytest.raises(ListError):
        _read(tmp_path, **changed)


def test_a_row_without_a_true_name_or_hash_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedWheelError):
        _read(tmp_path, file="nonsense.whl")
    with pytest.raises(MalformedError):
        _read(tmp_path, sha256="abc")
