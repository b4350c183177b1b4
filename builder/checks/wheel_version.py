"""The WHEEL file is of a version that this reader, and every installer, understands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "wheel-version"
TITLE: Final = "Wheel-Version is 1.x"


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error unless WHEEL says ``Wheel-Version: 1.x`` once (PEP 427)."""
    versions = wheel.header("Wheel-Version")
    if len(versions) != 1 or not re.fullmatch(r"1\.[0-9]{1,3}", versions[0]):
        yield Finding(
            check=CODE,
            severity="error",
            member=f"{wheel.dist_info}/WHEEL",
            message="WHEEL does not say that it is a wheel of version 1.x",
            evidence={"wheel_version": [text[:100] for text in versions[:10]]},
            hint="build the wheel again with a current backend",
        )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
