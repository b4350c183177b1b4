"""WHEEL's Tag and Build lines say what the file name says, expanded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "wheel-tags"
TITLE: Final = "WHEEL's Tag lines are the expanded tags of the file name"
_SHOWN: Final = 50


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error when the Tag or Build lines differ from the file name (PEP 427, PEP 425)."""
    stated, claimed = sorted(wheel.header("Tag")), sorted(map(str, wheel.claimed))
    if stated != claimed:
        yield Finding(
            check=CODE,
            severity="error",
            member=f"{wheel.dist_info}/WHEEL",
            message="WHEEL's Tag lines are not the expanded tags of the file name",
            evidence={"stated": _few(stated), "claimed": claimed[:_SHOWN]},
            hint="--retag-to writes them afresh",
        )
    builds = wheel.header("Build")
    if builds != build_lines(wheel):
        yield Finding(
            check=CODE,
            severity="error",
            member=f"{wheel.dist_info}/WHEEL",
            message="WHEEL's Build line is not the build tag of the file name",
            evidence={"stated": _few(list(builds)), "claimed": list(build_lines(wheel))},
            hint="--retag-to writes it afresh",
        )


def build_lines(wheel: OpenedWheel) -> tuple[str, ...]:
    """The Build lines that go with the file name: one, or none."""
    return ("".join(map(str, wheel.build)),) if wheel.build else ()


def _few(values: list[str]) -> list[str]:
    return [value[:200] for value in values[:_SHOWN]]


CHECK: Final = Check(code=CODE, title=TITLE, find=find, mended=True)
