"""The tags that hold are taken by the target that the wheel is meant for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "serves-target"
TITLE: Final = "The wheel serves the target that it is meant for"


def conclude(_wheel: OpenedWheel, tags: frozenset[Tag], context: Context) -> Iterator[Finding]:
    """An error when the target's installer takes none of the tags that hold."""
    if context.target_tags is not None and not tags & context.target_tags:
        yield Finding(
            check=CODE,
            severity="error",
            message=f"no tag that holds is taken by {context.target or 'the target'}",
            evidence={"holds": sorted(map(str, tags))[:50], "target": context.target},
            hint="build the wheel for this target",
        )


CHECK: Final = Check(code=CODE, title=TITLE, conclude=conclude)
