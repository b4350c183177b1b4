"""What a person decided about findings: which weigh more than usual, and which are waived, and why.

A policy is a TOML text with a table ``[severities]`` and an array ``[[waivers]]``; docs/policy.md
has the form. It fails closed: a severity only ever rises, what should weigh less needs a waiver, a
waiver needs a reason, and rules without which a wheel cannot be read at all are never waived.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Final, TypeVar

from builder.errors import VerifyPolicyError
from store.digest import JSON
from store.errors import MalformedError
from store.verdict import Finding, Severity

_RANK: Final[Mapping[Severity, int]] = {"note": 0, "warning": 1, "error": 2}
_RAISED: Final[Mapping[str, Severity]] = {"warning": "warning", "error": "error"}
_TABLES: Final = frozenset({"severities", "waivers"})
_KEYS: Final = frozenset({"check", "member", "wheel", "reason"})
_MOST_WAIVERS: Final = 1000
_MOST_TEXT: Final = 1000
_HINT: Final = "docs/policy.md shows the form; --list-checks names the checks"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """A finding that was looked at and is accepted. `member` and `wheel` are globs.

    `number` counts the waivers of the file from one.
    """

    number: int
    check: str
    member: str
    wheel: str
    reason: str

    def covers(self, finding: Finding) -> bool:
        """Whether the waiver names the finding's check and member."""
        return self.check == finding.check and fnmatchcase(finding.member or "", self.member)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Severities that rise, by check, and waivers. All empty is the default."""

    severities: Mapping[str, Severity] = field(default_factory=dict)
    waivers: tuple[Waiver, ...] = ()


NO_POLICY: Final = Policy()
"""Findings weigh what the checks say."""


def parse_policy(text: str, codes: Collection[str], never_waived: Collection[str]) -> Policy:
    """The policy that the TOML `text` states; `codes` are those that findings can bear.

    Raises VerifyPolicyError, with the place in the text, for what is malformed, unknown or empty.
    """
    try:
        return _parse(_table(text), codes, never_waived)
    except VerifyPolicyError:
        raise
    except MalformedError as error:
        raise VerifyPolicyError(error.bare_message, path=error.path, hint=_HINT) from error


def policy_for(policy: Policy, filename: str) -> Policy:
    """The part of `policy` that is about the wheel `filename`."""
    fitting = (waiver for waiver in policy.waivers if fnmatchcase(filename, waiver.wheel))
    return replace(policy, waivers=tuple(fitting))


def policy_renamed(policy: Policy, filename: str) -> Policy:
    """The part of `policy` that is about `filename`, for the same wheel under whatever name."""
    fitting = policy_for(policy, filename).waivers
    return replace(policy, waivers=tuple(replace(waiver, wheel="*") for waiver in fitting))


def weigh(policy: Policy, finding: Finding) -> Finding:
    """The finding at the severity that the policy gives it; a waived one is a note that says why.

    Its evidence then has ``waived`` (the reason), ``waiver`` (its number) and ``severity`` (what
    it would have been).
    """
    raised = _raised(policy, finding)
    for waiver in policy.waivers:
        if waiver.covers(raised):
            reason: dict[str, JSON] = {
                "waived": waiver.reason,
                "waiver": waiver.number,
                "severity": raised.severity,
            }
            return replace(raised, severity="note", evidence={**raised.evidence, **reason})
    return raised


def unused_waivers(policy: Policy, findings: Iterable[Finding]) -> Iterator[Waiver]:
    """The waivers that no finding of the whole run bears."""
    used = {finding.evidence.get("waiver") for finding in findings if "waived" in finding.evidence}
    return (waiver for waiver in policy.waivers if waiver.number not in used)


def _raised(policy: Policy, finding: Finding) -> Finding:
    wanted = policy.severities.get(finding.check, finding.severity)
    return replace(finding, severity=max(wanted, finding.severity, key=_RANK.__getitem__))


def _table(text: str) -> Mapping[str, object]:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MalformedError(f"not TOML: {str(error)[:200]}") from error


def _parse(
    table: Mapping[str, object], codes: Collection[str], never_waived: Collection[str]
) -> Policy:
    _only_keys(table, _TABLES)
    policy = Policy(
        severities=_severities(table.get("severities", {}), codes),
        waivers=tuple(_waivers(table.get("waivers", []), codes, never_waived)),
    )
    if policy == NO_POLICY:
        raise MalformedError(
            "the policy is empty: it neither raises a severity nor waives anything"
        )
    return policy


def _severities(table: object, codes: Collection[str]) -> dict[str, Severity]:
    if not isinstance(table, dict):
        raise MalformedError("a table of checks is expected", path="severities")
    return {
        code: _under(f"severities.{code}", _severity, code, table[code], codes) for code in table
    }


def _severity(code: str, value: object, codes: Collection[str]) -> Severity:
    _known(code, codes)
    if not isinstance(value, str) or value not in _RAISED:
        raise MalformedError('a severity is raised to "warning" or "error"; less needs a waiver')
    return _RAISED[value]


def _waivers(
    rows: object, codes: Collection[str], never_waived: Collection[str]
) -> Iterator[Waiver]:
    if not isinstance(rows, list) or len(rows) > _MOST_WAIVERS:
        raise MalformedError(f"at most {_MOST_WAIVERS} [[waivers]] are expected", path="waivers")
    for index, row in enumerate(rows):
        yield _under(f"waivers[{index}]", _waiver, index + 1, row, codes, never_waived)


def _waiver(
    number: int, row: object, codes: Collection[str], never_waived: Collection[str]
) -> Waiver:
    if not isinstance(row, dict):
        raise MalformedError("a table is expected")
    _only_keys(row, _KEYS)
    check, reason = _text(row, "check"), _text(row, "reason")
    _known(check, codes)
    if check in never_waived:
        raise MalformedError(f"{check} is never waived: without it nothing is known of the wheel")
    member, wheel = _text(row, "member"), _text(row, "wheel")
    return Waiver(number=number, check=check, member=member, wheel=wheel, reason=reason)


def _text(row: Mapping[str, object], key: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip() or len(value) > _MOST_TEXT:
        article = "a reason" if key == "reason" else f"the {key}"
        raise MalformedError(f"a waiver names {article}: a text of at most {_MOST_TEXT} characters")
    return value.strip()


def _known(code: str, codes: Collection[str]) -> None:
    if code not in codes:
        shown = code[:60] if re.fullmatch(r"[a-z-]+", code) else repr(code[:60])
        raise MalformedError(f"there is no check called {shown}")


def _only_keys(table: Mapping[str, object], known: Collection[str]) -> None:
    if unknown := sorted(table.keys() - set(known)):
        raise MalformedError(
            f"unknown key {unknown[0][:60]!r}; known are {', '.join(sorted(known))}"
        )


def _under(place: str, parse: Callable[..., _T], *args: object) -> _T:
    try:
        return parse(*args)
    except MalformedError as error:
        raise error.under(place) from error
