"""The pages of docs/checks: what each code means. They are installed beside the checks."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import builder.checks
from builder.checks.catalogue import TITLES
from store.errors import UsageError
from workers.text import printable

_CHECKS: Final = Path(builder.checks.__path__[0])
_PAGES: Final = (_CHECKS / "pages", _CHECKS.parents[1] / "docs" / "checks")


def page_of(code: str) -> str:
    """The page of a check as Markdown. Raises UsageError for a code that does not exist."""
    if code not in TITLES:
        raise UsageError(
            f"there is no check called {printable(code)!r}", hint="--list-checks names them all"
        )
    page = next(folder / f"{code}.md" for folder in _PAGES if (folder / f"{code}.md").is_file())
    return page.read_text("utf-8").rstrip()


def section_of(page: str, heading: str) -> str:
    """The text below ``## heading`` of a page; empty when there is none."""
    _, found, rest = page.partition(f"\n## {heading}\n")
    return rest.partition("\n## ")[0].strip() if found else ""
