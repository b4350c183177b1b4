"""Which symbols the interpreter of a tag brings to the modules that it imports."""

from __future__ import annotations

from typing import Literal

from packaging.tags import Tag

from builder.checks.symbols.lists import cpython_exports, cpython_exports_of
from builder.checks.symbols.stable_abi import stable_symbols
from builder.modules import ModuleFile, imports, module_files, python_minor
from builder.wheel import OpenedWheel

State = Literal["found", "missing", "unsure"]
"""Whether a symbol is surely there, surely not, or left to what no list tells of."""


def python_state(name: str, tag: Tag) -> State | None:
    """Whether the interpreter of `tag` exports `name`; None for a name that no CPython has.

    A list is made from some patch releases, and a later one may add a private symbol that the next
    minor version has too.
    """
    if tag.abi in {"abi3", "abi3t"}:
        return "found" if name in stable_symbols() else "unsure"
    abi = tag.interpreter if tag.abi == "none" else tag.abi
    exports = cpython_exports_of(abi)
    if exports is None:
        return "unsure"
    if name in exports:
        return "found"
    others = cpython_exports().get(name)
    if others is None:
        return None
    mine = python_minor(tag.interpreter) or 0
    added_later = name.startswith("_") and all(_minor(other) > mine for other in others)
    return "unsure" if added_later else "missing"


def modules_of_others(wheel: OpenedWheel, tag: Tag) -> frozenset[str]:
    """The paths of the modules that only interpreters import that `tag` does not name."""
    return frozenset(m.member.path for m in module_files(wheel) if _is_of_another(tag, m))


def _is_of_another(tag: Tag, module: ModuleFile) -> bool:
    return module.suffix.kind == "versioned" and not imports(tag, module.suffix)


def _minor(abi: str) -> int:
    return python_minor(abi.rstrip("t")) or 0
