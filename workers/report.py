"""Verdicts as a person reads them: a block for each wheel, and one line at the end for many."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from store.verdict import Finding, Verdict
from workers.text import printable
from workers.verification import Outcome

_SHOWN: Final = 3
_MARKS: Final[dict[Verdict, str]] = {"accept": "ACCEPT", "retag": "RETAG ", "reject": "REJECT"}
_COUNTED: Final[dict[Verdict, str]] = {
    "accept": "accepted",
    "retag": "to retag",
    "reject": "rejected",
}


def block(outcome: Outcome) -> str:
    """The verdict on one wheel, the tags that it may bear, and what was found with what to do."""
    lines = [f"{_MARKS[outcome.verdict]}  {printable(outcome.path.name)}"]
    if outcome.verdict == "retag":
        lines += [f"  may be called  {tag}" for tag in outcome.tags]
    if outcome.retagged:
        lines.append(f"  written as  {outcome.retagged}")
    for group in _alike(_shown(outcome.findings)):
        lines += _finding_lines(group)
    if notes := len(outcome.findings) - len(_shown(outcome.findings)):
        lines.append(f"  {notes} note{'s' if notes > 1 else ''} (see --json)")
    return "\n".join(lines)


def summary(verdicts: Counter[Verdict]) -> str:
    """How many wheels there were, and how many got which verdict."""
    counts = ", ".join(f"{verdicts[verdict]} {word}" for verdict, word in _COUNTED.items())
    return f"{verdicts.total()} wheels: {counts}"


def _shown(findings: Iterable[Finding]) -> list[Finding]:
    """All but notes; a waived finding is a note that is shown."""
    return [f for f in findings if f.severity != "note" or "waived" in f.evidence]


def _alike(findings: Iterable[Finding]) -> list[list[Finding]]:
    """Findings that say the same of several members, together."""
    groups: dict[tuple[str, ...], list[Finding]] = {}
    for finding in findings:
        said = (finding.check, finding.severity, finding.message, _reason(finding))
        groups.setdefault(said, []).append(finding)
    return list(groups.values())


def _finding_lines(group: Sequence[Finding]) -> Iterator[str]:
    first, reason = group[0], _reason(group[0])
    yield f"  {'waived' if reason else first.severity}[{first.check}]: {printable(first.message)}"
    for finding in group[:_SHOWN]:
        slice_text = f"[{finding.slice}]" if finding.slice else ""
        if place := " ".join(filter(None, [finding.member, slice_text])):
            yield f"    in {printable(place)}"
    if len(group) > _SHOWN:
        yield f"    and in {len(group) - _SHOWN} more (see --json)"
    if reason:
        yield f"    because: {printable(reason)}"
    elif first.hint:
        yield f"    hint: {printable(first.hint)}"


def _reason(finding: Finding) -> str:
    """Why the finding is waived; empty when it is not."""
    return str(finding.evidence.get("waived", ""))
