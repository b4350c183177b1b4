"""A plan as a person sees it, for ``--dry-run``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

import click

from store.errors import DONE, REFUSED
from workers.cli.asking import show_json, show_table
from workers.farm.answers import Forecast, Plan

_WORDS: Final = {
    "build": "would be built",
    "hit": "is in the store",
    "skip": "is not wanted there",
    "fail": "cannot be had or built",
    "nobody": "nobody can build it",
}


def show_plan(items: Sequence[Forecast], *, as_json: bool) -> int:
    """Show what would be done; give 1 when some of it cannot be, else 0."""
    if as_json:
        show_json(Plan(items=list(items)))
    else:
        rows = ((_WORDS[each.fate], each.label, each.target, each.why or "") for each in items)
        show_table(("", "package", "target", "why"), rows)
        counts = Counter(_WORDS[each.fate] for each in items)
        click.echo(", ".join(f"{count} {text}" for text, count in counts.items()))
    return REFUSED if any(each.fate in {"fail", "nobody"} for each in items) else DONE
