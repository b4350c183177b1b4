"""Verdicts as SARIF 2.1.0 (OASIS, 27 March 2020), which code hosts and editors show as alerts.

Each code is a rule with its page as help; each finding is a result at the wheel's file, its member
and slice as a logical location. A waived finding is a suppressed result with the reason. Sections
of the standard are named where they decide something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final
from urllib.parse import quote

from builder.checks.catalogue import TITLES
from builder.policy import Waiver
from store.digest import JSON
from store.verdict import Finding
from workers.check_pages import page_of, section_of
from workers.verification import Outcome

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"
_RULES: Final = {code: index for index, code in enumerate(TITLES)}


def sarif_log(outcomes: Sequence[Outcome], unused: Sequence[Waiver] = ()) -> dict[str, JSON]:
    """One log with one run over all wheels; `unused` waivers become notifications of the tool."""
    return {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": _driver()},
                "columnKind": "unicodeCodePoints",
                "artifacts": [_artifact(outcome) for outcome in outcomes],
                "invocations": [_invocation(unused)],
                "results": [
                    _result(index, outcome, finding)
                    for index, outcome in enumerate(outcomes)
                    for finding in outcome.findings
                ],
            }
        ],
    }


def _driver() -> dict[str, JSON]:
    rules = [_rule(code) for code in TITLES]
    try:
        return {"name": "wheelfarm", "version": version("wheelfarm"), "rules": rules}
    except PackageNotFoundError:  # run from a checkout that is not installed
        return {"name": "wheelfarm", "rules": rules}


def _rule(code: str) -> dict[str, JSON]:
    """A reportingDescriptor (3.49): the check's page, whole and in parts."""
    page = page_of(code)
    return {
        "id": code,
        "shortDescription": {"text": f"{TITLES[code]}."},
        "fullDescription": {"text": section_of(page, "Why it hurts") or f"{TITLES[code]}."},
        "help": {"text": section_of(page, "What to do") or page, "markdown": page},
    }


def _artifact(outcome: Outcome) -> dict[str, JSON]:
    """An artifact (3.24): the wheel, with its verdict."""
    artifact: dict[str, JSON] = {
        "location": {"uri": _uri(outcome.path)},
        "properties": {
            "verdict": outcome.verdict,
            "tags": outcome.tags,
            "retagged": outcome.retagged,
        },
    }
    return artifact | ({"hashes": {"sha-256": outcome.sha256}} if outcome.sha256 else {})


def _invocation(unused: Sequence[Waiver]) -> dict[str, JSON]:
    """An invocation (3.20): the tool came to its end, whatever it found."""
    return {
        "executionSuccessful": True,
        "toolConfigurationNotifications": [
            {"level": "warning", "message": {"text": unused_text(waiver)}} for waiver in unused
        ],
    }


def unused_text(waiver: Waiver) -> str:
    """One sentence on a waiver that nothing needed."""
    where = f"{waiver.check} in {waiver.member} of {waiver.wheel}"
    return f"waiver {waiver.number} of the policy ({where}) covers no finding"


def _result(index: int, outcome: Outcome, finding: Finding) -> dict[str, JSON]:
    hint = f" ({finding.hint})" if finding.hint else ""
    place = f"{finding.member}: " if finding.member else ""
    result: dict[str, JSON] = {
        "ruleId": finding.check,
        "ruleIndex": _RULES[finding.check],
        "level": finding.severity,
        "message": {"text": f"{place}{finding.message}{hint}"},
        "locations": [_location(index, outcome, finding)],
        "partialFingerprints": {"wheelfarmFinding/v1": _fingerprint(outcome, finding)},
        "properties": {"evidence": finding.evidence, "slice": finding.slice},
    }
    return result | _suppression(finding)


def _location(index: int, outcome: Outcome, finding: Finding) -> dict[str, JSON]:
    """A location (3.28); code hosts ask for a line, and a wheel has only its first."""
    location: dict[str, JSON] = {
        "physicalLocation": {
            "artifactLocation": {"uri": _uri(outcome.path), "index": index},
            "region": {"startLine": 1},
        }
    }
    if finding.member is None:
        return location
    name = finding.member + (f"[{finding.slice}]" if finding.slice else "")
    logical = {"name": name, "fullyQualifiedName": f"{outcome.path.name}!{name}", "kind": "member"}
    return location | {"logicalLocations": [logical]}


def _suppression(finding: Finding) -> dict[str, JSON]:
    """A suppression (3.35) for a finding that the policy waives."""
    reason = finding.evidence.get("waived")
    if not isinstance(reason, str):
        return {}
    suppression = {"kind": "external", "status": "accepted", "justification": reason}
    return {"suppressions": [suppression]}


def _fingerprint(outcome: Outcome, finding: Finding) -> str:
    """The same for the same finding in a later build: wheel, check, place and words."""
    parts = (outcome.path.name, finding.check, finding.member, finding.slice, finding.message)
    return hashlib.sha256(repr(parts).encode("utf-8")).hexdigest()[:32]


def _uri(path: Path) -> str:
    """A URI reference (RFC 3986): relative for a relative path, else with the scheme ``file``."""
    text = quote(path.as_posix().encode("utf-8", "surrogateescape"))
    return f"file://{text}" if path.is_absolute() else text
