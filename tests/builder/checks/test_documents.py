"""Every code that a finding can bear has a page, and every page a code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import builder.checks
from builder.checks.catalogue import CHECKS, JUDGING, OPENING, TITLES

_PAGES = Path(__file__).parents[3] / "docs" / "checks"


@pytest.mark.parametrize("code", sorted(TITLES))
def test_each_code_has_a_page_with_every_part(code: str) -> None:
    text = (_PAGES / f"{code}.md").read_text("utf-8")
    assert text.startswith(f"# {code}\n\n{TITLES[code]}.\n")
    for heading in ("## Why it hurts", "## Example", "## What to do"):
        assert heading in text


def test_no_page_is_left_over() -> None:
    pages = {path.stem for path in _PAGES.glob("*.md")} - {"README"}
    assert pages == set(TITLES)


def test_the_index_lists_the_codes_in_order() -> None:
    text = (_PAGES / "README.md").read_text("utf-8")
    rows = re.findall(r"^\| \[`([a-z0-9-]+)`\]\(\1\.md\) \| (.+?) \|", text, re.MULTILINE)
    assert rows == list(TITLES.items())


def test_each_check_is_one_file_of_its_code_s_name() -> None:
    folder = Path(builder.checks.__path__[0])
    for check in CHECKS:
        assert (folder / f"{check.code.replace('-', '_')}.py").is_file()
    assert len({check.code for check in CHECKS}) == len(CHECKS)
    assert not {check.code for check in CHECKS} & (set(OPENING) | set(JUDGING))


def test_codes_are_kebab_case() -> None:
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", code) for code in TITLES)
