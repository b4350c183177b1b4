"""The verdict on a wheel: what each check finds, and the tags that are left."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, ParamSpec

from packaging.tags import Tag

from builder.checks.catalogue import CHECKS, CRASHED, INEXPRESSIBLE
from builder.checks.check import Check, Narrow, Ruling
from builder.checks.context import Context
from builder.errors import RefusedWheelError
from builder.wheel import OpenedWheel, open_wheel
from store.digest import sha256_of_file
from store.errors import MalformedError
from store.tags import tag_set_text
from store.verdict import Finding, Judgement, Verdict

# Narrowing one part of a tag can give another check something to say; it settles at once or never.
_ROUNDS: Final = 4
_NOTHING: Final = Context()
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """What is left of the claimed tags, and why; `fatal` when a check crashed on the way."""

    tags: frozenset[Tag]
    findings: tuple[Finding, ...]


def judge(path: Path, context: Context = _NOTHING, checks: tuple[Check, ...] = CHECKS) -> Judgement:
    """The verdict on the wheel at `path`. Raises OSError when the file cannot be read.

    A file that is no wheel at all is rejected, with a finding.
    """
    try:
        wheel = open_wheel(path)
    except RefusedWheelError as refusal:
        return Judgement(
            filename=path.name,
            sha256=sha256_of_file(path),
            verdict="reject",
            tags=frozenset(),
            findings=refusal.findings,
        )
    return judge_opened(wheel, context, checks)


def judge_opened(
    wheel: OpenedWheel, context: Context = _NOTHING, checks: tuple[Check, ...] = CHECKS
) -> Judgement:
    """The verdict on a wheel that is open.

    Raises ValueError for an empty tuple of checks: nothing asked is nothing proved.
    """
    if not checks:
        raise ValueError("a wheel is judged by at least one check")
    found = _found(wheel, context, checks)
    weighed = _weighed(wheel, context, checks)
    found += _concluded(wheel, weighed.tags, context, checks)
    verdict = _verdict(wheel, weighed, found, {check.code for check in checks if check.mended})
    return Judgement(
        filename=wheel.filename,
        sha256=wheel.sha256,
        verdict=verdict,
        tags=frozenset() if verdict == "reject" else weighed.tags,
        findings=_distinct([*found, *weighed.findings]),
    )


def _verdict(
    wheel: OpenedWheel, weighed: _Weighed, found: list[Finding], mended: set[str]
) -> Verdict:
    """An error that writing afresh does not mend refuses; so does having no tag left."""
    errors = {finding.check for finding in found if finding.severity == "error"}
    crashed = any(finding.check == CRASHED for finding in weighed.findings)
    if errors - mended or crashed or not weighed.tags:
        return "reject"
    return "retag" if errors or weighed.tags != wheel.claimed else "accept"


def _found(wheel: OpenedWheel, context: Context, checks: tuple[Check, ...]) -> list[Finding]:
    findings: list[Finding] = []
    for check in checks:
        if check.find is not None:
            findings += _guarded(check, check.find, wheel, context)
    return findings


def _concluded(
    wheel: OpenedWheel, tags: frozenset[Tag], context: Context, checks: tuple[Check, ...]
) -> list[Finding]:
    findings: list[Finding] = []
    for check in checks:
        if tags and check.conclude is not None:
            findings += _guarded(check, check.conclude, wheel, tags, context)
    return findings


def _weighed(wheel: OpenedWheel, context: Context, checks: tuple[Check, ...]) -> _Weighed:
    """The claimed tags, narrowed by every check until no check narrows them further."""
    tags = wheel.claimed
    findings: list[Finding] = []
    for _ in range(_ROUNDS):
        before = tags
        for check in checks:
            ruling = _narrowed(wheel, tags, context, check)
            tags = ruling.tags
            findings += ruling.findings
        if tags in (before, frozenset()):
            break
    kept, note = _expressible(tags)
    return _Weighed(tags=kept, findings=(*findings, *note))


def _narrowed(wheel: OpenedWheel, tags: frozenset[Tag], context: Context, check: Check) -> Ruling:
    if check.narrow is None:
        return Ruling(tags=tags)
    rulings = [
        _guarded_narrow(check, check.narrow, wheel, tag, context) for tag in sorted(tags, key=str)
    ]
    return Ruling(
        tags=frozenset().union(*(ruling.tags for ruling in rulings)),
        findings=tuple(finding for ruling in rulings for finding in ruling.findings),
    )


def _expressible(tags: frozenset[Tag]) -> tuple[frozenset[Tag], tuple[Finding, ...]]:
    """The largest part of `tags` that one file name can say, and a warning for what is dropped.

    A compressed tag set is all combinations of its parts (PEP 425); to say more would be a lie.
    """
    if not tags:
        return tags, ()
    try:
        tag_set_text(tags)
    except MalformedError:
        kept = max(_products(tags), key=lambda part: (len(part), sorted(map(str, part))))
        return kept, (_dropped(tags - kept),)
    return tags, ()


def _products(tags: frozenset[Tag]) -> Iterable[frozenset[Tag]]:
    for tag in tags:
        yield frozenset(t for t in tags if (t.interpreter, t.abi) == (tag.interpreter, tag.abi))
        yield frozenset(t for t in tags if (t.abi, t.platform) == (tag.abi, tag.platform))


def _dropped(tags: frozenset[Tag]) -> Finding:
    return Finding(
        check=INEXPRESSIBLE,
        severity="warning",
        message="no one file name can say exactly the tags that hold; some were let go",
        evidence={"dropped": sorted(map(str, tags))[:100]},
        hint="build a wheel for each of them",
    )


def _guarded(
    check: Check, look: Callable[_P, Iterable[Finding]], *args: _P.args, **kwargs: _P.kwargs
) -> list[Finding]:
    """What `look` finds. A check that crashes is a failed check, and never a pass."""
    try:
        return list(look(*args, **kwargs))
    except Exception as error:  # noqa: BLE001 - the boundary: fail closed, whatever went wrong
        return [_crash(check, error)]


def _guarded_narrow(
    check: Check, narrow: Narrow, wheel: OpenedWheel, tag: Tag, context: Context
) -> Ruling:
    try:
        return narrow(wheel, tag, context)
    except Exception as error:  # noqa: BLE001 - the boundary: fail closed, whatever went wrong
        return Ruling(tags=frozenset(), findings=(_crash(check, error),))


def _crash(check: Check, error: Exception) -> Finding:
    return Finding(
        check=CRASHED,
        severity="error",
        message=f"the check {check.code} crashed: {type(error).__name__}",
        evidence={"check": check.code, "error": repr(error)[:500]},
        hint="report this as a bug of wheelfarm, with the wheel",
    )


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once: several tags can fall for one reason."""
    seen: dict[object, Finding] = {}
    for finding in findings:
        reason = (finding.check, finding.severity, finding.member, finding.slice, finding.message)
        seen.setdefault(reason, finding)
    return tuple(seen.values())
