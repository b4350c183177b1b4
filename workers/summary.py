"""The outcomes of a run in Markdown, for the summary of a CI job."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from workers.outcome import STATUS_MEANING, Outcome
from workers.text import printable

_MOST_TOLD: Final = 50
_MARKUP: Final = re.compile(r"[&<>\"'\\`*_\[\]~#|!@:]")


def summary_markdown(outcomes: Sequence[Outcome]) -> str:
    """Counts for each target, then what went wrong and why."""
    lines = ["## wheelfarm", "", *_counts(outcomes), "", *_bad(outcomes)]
    return "\n".join(lines) + "\n"


def _counts(outcomes: Sequence[Outcome]) -> Iterator[str]:
    shown = [each for each in STATUS_MEANING if any(o.status == each for o in outcomes)]
    yield "| target | " + " | ".join(shown) + " |"
    yield "| --- |" + " ---: |" * len(shown)
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        ends = [outcome.status for outcome in outcomes if outcome.target == target]
        yield f"| {_code(target)} | " + " | ".join(str(ends.count(each)) for each in shown) + " |"


def _bad(outcomes: Sequence[Outcome]) -> Iterator[str]:
    wanted = {"refused", "failed", "trouble", "cancelled"}
    bad = [outcome for outcome in outcomes if outcome.status in wanted]
    if not bad:
        yield "Everything that was asked for is in the store."
        return
    yield from ("| package | target | | why |", "| --- | --- | --- | --- |")
    for each in bad[:_MOST_TOLD]:
        why = each.first_error or each.message or ""
        cells = (_code(each.label), _code(each.target), f"{each.status} ({each.code})", _code(why))
        yield "| " + " | ".join(cells) + " |"
    if len(bad) > _MOST_TOLD:
        yield from ("", f"… and {len(bad) - _MOST_TOLD} more.")


def _code(text: str) -> str:
    """`text` as code that no table, link, mention or HTML of its own can break out of."""
    safe = _MARKUP.sub(lambda found: f"&#{ord(found[0])};", printable(text)[:300])
    return f"<code>{safe}</code>"
