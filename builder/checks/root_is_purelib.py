"""Root-Is-Purelib says where the wheel's root goes, and binaries go to platlib."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "root-is-purelib"
TITLE: Final = "Root-Is-Purelib is false where there are binaries"


def conclude(wheel: OpenedWheel, tags: frozenset[Tag], _context: Context) -> Iterator[Finding]:
    """An error when the header is missing, no boolean, or sends binaries to purelib (PEP 427)."""
    stated = wheel.header("Root-Is-Purelib")
    right = root_is_purelib(wheel, tags)
    if [text.lower() for text in stated] != [right]:
        yield Finding(
            check=CODE,
            severity="error",
            member=f"{wheel.dist_info}/WHEEL",
            message=f"Root-Is-Purelib must be {right} here",
            evidence={"stated": [text[:40] for text in stated[:5]], "right": right},
            hint="--retag-to writes it afresh",
        )


def root_is_purelib(wheel: OpenedWheel, tags: frozenset[Tag]) -> str:
    """``true`` or ``false``: what the wheel says where it may choose, else what must be."""
    pure = all(tag.platform == "any" for tag in tags)
    if not pure and _root_binaries(wheel):
        return "false"
    stated = [text.lower() for text in wheel.header("Root-Is-Purelib")]
    if stated in (["true"], ["false"]):
        return stated[0]
    return "true" if pure else "false"


def _root_binaries(wheel: OpenedWheel) -> bool:
    loaded = [member for member, _ in (*wheel.mach, *wheel.elf)]
    return any(member.site_path == member.path for member in loaded)


CHECK: Final = Check(code=CODE, title=TITLE, conclude=conclude, mended=True)
