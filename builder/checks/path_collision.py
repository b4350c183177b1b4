"""No two paths become one on a file system that folds case or Unicode forms."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "path-collision"
TITLE: Final = "No two paths are one on macOS or Windows"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A warning for each path that differs from an earlier one by case or Unicode form only."""
    seen: dict[str, str] = {}
    for path in wheel.members:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            yield Finding(
                check=CODE,
                severity="warning",
                member=path,
                message="on macOS and Windows this file overwrites another of the wheel",
                evidence={"other": other},
                hint="rename one of the two in the project",
            )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
