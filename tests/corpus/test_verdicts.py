"""Real wheels from the package index: honest ones are accepted, liars are seen through."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from builder.verify import retag_to
from tests.builder.forge import errors
from tests.corpus.evidence import holds
from tests.corpus.listed import Listed, read_list

WHEELS = read_list()
LIARS = [wheel for wheel in WHEELS if wheel.kind == "liar"]
RETAGGED = [wheel for wheel in WHEELS if wheel.verdict == "retag"]

pytestmark = [pytest.mark.corpus, pytest.mark.network]


def _each(wheels: list[Listed] | tuple[Listed, ...]) -> pytest.MarkDecorator:
    rows = [pytest.param(w, id=str(w), marks=pytest.mark.xdist_group(w.sha256)) for w in wheels]
    return pytest.mark.parametrize("listed", rows)


def _context(listed: Listed) -> Context:
    return Context(external_libraries=listed.external)


@_each(WHEELS)
def test_the_verdict_is_the_expected_one(listed: Listed, path: Path) -> None:
    judgement = judge(path, _context(listed))
    assert (judgement.verdict, judgement.tags) == (listed.verdict, listed.tags)
    assert errors(judgement) == set(listed.errors)


@_each(LIARS)
def test_another_reader_says_so_too(listed: Listed, path: Path) -> None:
    assert [fact for fact in listed.facts if not holds(path, fact)] == []


@_each(LIARS)
def test_a_finding_points_at_the_member_that_lies(listed: Listed, path: Path) -> None:
    judgement = judge(path, _context(listed))
    pointed = {finding.member for finding in judgement.findings if finding.severity == "error"}
    assert {fact.member for fact in listed.facts} & pointed


@_each([wheel for wheel in WHEELS if wheel.external])
def test_a_sibling_s_library_is_never_guessed(listed: Listed, path: Path) -> None:
    judgement = judge(path)
    assert (judgement.verdict, "elf-linkage" in errors(judgement)) == ("reject", True)


@_each(RETAGGED)
def test_what_is_written_afresh_is_accepted_and_reproducible(
    listed: Listed, path: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for source, folder in ((path, first), (first, second)):
        folder.mkdir()
        (wheel,) = source.glob("*.whl") if source.is_dir() else [source]
        again = retag_to(wheel, judge(path, _context(listed)), folder, _context(listed))
        assert (again.verdict, again.tags) == ("accept", listed.tags)
    one, two = next(first.iterdir()), next(second.iterdir())
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())
