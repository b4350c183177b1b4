"""The outcomes of a run as JUnit XML, which CI systems show as tests: one suite for each target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from xml.etree import ElementTree as Xml  # only written here

from workers.outcome import Outcome, Status
from workers.text import printable

_BAD: Final[dict[Status, str]] = {
    "refused": "failure",
    "failed": "failure",
    "cancelled": "failure",
    "trouble": "error",
}


def junit_xml(outcomes: Sequence[Outcome]) -> bytes:
    """The whole document, UTF-8."""
    root = Xml.Element("testsuites", {"name": "wheelfarm", **_counts(outcomes)})
    for target in dict.fromkeys(outcome.target for outcome in outcomes):
        ends = [outcome for outcome in outcomes if outcome.target == target]
        suite = Xml.SubElement(root, "testsuite", {"name": printable(target), **_counts(ends)})
        for outcome in ends:
            _add_case(suite, outcome)
    Xml.indent(root)
    text: bytes = Xml.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _add_case(suite: Xml.Element, outcome: Outcome) -> None:
    case = Xml.SubElement(
        suite,
        "testcase",
        name=printable(outcome.label),
        classname=printable(outcome.target),
        time=str(outcome.seconds),
    )
    if outcome.status == "skipped":
        Xml.SubElement(case, "skipped", message=printable(outcome.message or ""))
    elif kind := _BAD.get(outcome.status):
        message = printable(outcome.message or "")
        bad = Xml.SubElement(case, kind, type=outcome.code or outcome.status, message=message)
        bad.text = "\n".join(map(printable, _details(outcome)))
    elif outcome.filename:
        Xml.SubElement(case, "system-out").text = f"{outcome.status}: {outcome.filename}"


def _details(outcome: Outcome) -> list[str]:
    told = [outcome.message, outcome.first_error, outcome.hint, outcome.log]
    found = [f"{finding.check}: {finding.message}" for finding in outcome.findings]
    return [line for line in told if line] + found


def _counts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    kinds = [_BAD.get(outcome.status, outcome.status) for outcome in outcomes]
    return {
        "tests": str(len(kinds)),
        "failures": str(kinds.count("failure")),
        "errors": str(kinds.count("error")),
        "skipped": str(kinds.count("skipped")),
        "time": str(sum(outcome.seconds for outcome in outcomes)),
    }
