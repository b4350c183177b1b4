"""Which shared libraries the Python code of a wheel loads by itself, by ctypes or cffi."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from builder.wheel import OpenedWheel

_SOURCES: Final = 64 << 20
_LOADERS: Final = (b"ctypes", b"cffi", b"dlopen", b"LoadLibrary", b"load_extension")


def named_by_code(wheel: OpenedWheel, words: Iterable[str]) -> frozenset[str] | None:
    """Those of `words` that stand in the wheel's Python code; None when it loads no library."""
    unnamed = {word: word.encode("utf-8", "surrogateescape") for word in words}
    every = frozenset(unnamed)
    loads = False
    for _, text in wheel.texts(".py", _SOURCES):
        loads = loads or any(word in text for word in _LOADERS)
        unnamed = {word: coded for word, coded in unnamed.items() if coded not in text}
    return every - unnamed.keys() if loads else None
