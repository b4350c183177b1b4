"""A pure wheel that is bound to one minor version is bound to the one that built it.

Some projects pin ``python_tag`` in setup.cfg, and call themselves py313-none-any whichever
interpreter built them.
"""

from __future__ import annotations

from typing import Final

from packaging.tags import Tag

from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.modules import python_minor
from builder.wheel import OpenedWheel
from store.verdict import Finding

CODE: Final = "built-by"
TITLE: Final = "A wheel bound to one Python names the Python that built it"


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """The builder's own tag (``cp311-none-any``) for a pure wheel that claims one minor version.

    Not ``py311-none-any``: installers for 3.12 take that too (astral-sh/uv issue 12273).
    """
    pure = (tag.abi, tag.platform) == ("none", "any")
    bound = all(python_minor(claimed.interpreter) is not None for claimed in wheel.claimed)
    if not (context.built_by and pure and bound) or tag.interpreter == context.built_by:
        return holds(tag)
    return Ruling(
        tags=frozenset({Tag(context.built_by, "none", "any")}),
        findings=(_reason(wheel, tag, context.built_by),),
    )


def _reason(wheel: OpenedWheel, tag: Tag, built_by: str) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=f"{wheel.dist_info}/WHEEL",
        message=f"the wheel says {tag.interpreter}, and {built_by} built it",
        evidence={"claimed": str(tag), "built_by": built_by},
        hint="the project pins python_tag in its setup.cfg; offered to its builder alone",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
