"""CPython's stable ABI: which symbols are in it, and since which 3.x (abi3info's table)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

FIRST_ABI3: Final = 2
"""The minor version that brought abi3 (PEP 384)."""
FIRST_ABI3T: Final = 15
"""The minor version that brought abi3t (PEP 803): no older interpreter loads such a module."""

MODULE_DEF: Final = frozenset(
    {
        "PyModuleDef_Init",
        "PyModule_Create2",
        "PyModule_FromDefAndSpec2",
    }
)
"""Functions that take a PyModuleDef, whose layout abi3t does not fix (PEP 803)."""

_CPYTHON: Final = re.compile(r"_?Py[A-Z_]\w*")
_WINDOWS: Final = "MS_WINDOWS"
_DEBUG: Final = frozenset({"Py_REF_DEBUG", "Py_TRACE_REFS"})
"""Conditions of interpreters that were built for debugging."""


def is_cpython_name(symbol: str) -> bool:
    """Whether `symbol` is named as CPython names its own; a project may do so too."""
    return _CPYTHON.fullmatch(symbol) is not None


@cache
def stable_symbols(*, windows: bool = False) -> Mapping[str, int]:
    """Symbol -> the minor version since which the stable ABI has it, on Unix or on Windows."""
    # Takes 80 ms, which a wheel without an abi3 tag need not pay.
    from abi3info import DATAS, FUNCTIONS  # type: ignore[import-untyped]  # noqa: PLC0415

    absent = _DEBUG if windows else _DEBUG | {_WINDOWS}
    return {
        symbol.name: entry.added.minor
        for table in (FUNCTIONS, DATAS)
        for symbol, entry in table.items()
        if entry.ifdef is None or entry.ifdef.name not in absent
    }
