"""Texts of strangers, as they may be shown on a terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    """`text` with every control or invisible character escaped: names come from strangers."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def printable_lines(text: str) -> str:
    """The same for a log: its lines and tabs stay."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
