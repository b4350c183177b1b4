"""What a check may know besides the wheel's own bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.tags import Tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who asks, and what is known of the build.

    All empty is what ``wheelfarm verify WHEEL`` knows. `target_tags` are the tags that the target's
    installer accepts: a wheel that serves none of them is refused. `built_by` is the Interpreter's
    python tag (``cp311``) when the farm itself built the wheel; a pure wheel that claims one minor
    version is then bound to it. `libpython_name` is the target's own libpython (SONAME or install
    name): the one interpreter build that a member may be linked to; `libpython_folder` is where it
    lies, None where every loader finds it. `expected_modules` maps a
    reason (``compiler log``, ``recipe``, a sibling's fingerprint) to dotted module names.
    `external_libraries` maps a library's file name to the Recipe's reason for leaving it outside.
    `isa` is the level that the target asks for (``x86-64-v3``), None for the baseline.
    `portable` says that the target names no interpreter build, so nothing may be linked to one.
    """

    target: str | None = None
    target_tags: frozenset[Tag] | None = None
    built_by: str | None = None
    libpython_name: str | None = None
    libpython_folder: str | None = None
    isa: str | None = None
    portable: bool = False
    expected_modules: Mapping[str, frozenset[str]] = field(default_factory=dict)
    external_libraries: Mapping[str, str] = field(default_factory=dict)
