"""Texts of strangers, as they may be shown on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with every control or invisible character escaped: names come from strangers."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
