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
from builder.expressible import expressible
from builder.policy import NO_POLICY, Policy, policy_for, weigh
from builder.wheel import OpenedWheel, open_wheel
from builder.wheel_file import digest_of_plain
from store.verdict import Finding, Judgement, Verdict

# Narrowing one part of a tag can give another check something to say; it settles at once or never.
_ROUNDS: Final = 4
_NOTHING: Final = Context()
_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """What is judged, by which checks, and what a person decided about their findings."""

    wheel: OpenedWheel
    context: Context
    checks: tuple[Check, ...]
    policy: Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class _Weighed:
    """What is left of the claimed tags, and why; `fatal` when a check crashed on the way."""

    tags: frozenset[Tag]
    findings: tuple[Finding, ...]


def judge(
    path: Path,
    context: Context = _NOTHING,
    checks: tuple[Check, ...] = CHECKS,
    *,
    policy: Policy = NO_POLICY,
) -> Judgement:
    """The verdict on the wheel at `path`. Raises OSError when the file cannot be read.

    A file that is no wheel at all is rejected, with a finding.
    """
    try:
        wheel = open_wheel(path)
    except RefusedWheelError as refusal:
        return _unopened(path, refusal.findings)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001 - the boundary: fail closed, whatever went wrong
        return _unopened(path, (_crash("opening", error),))
    return judge_opened(wheel, context, checks, policy=policy)


def _unopened(path: Path, findings: tuple[Finding, ...]) -> Judgement:
    return Judgement(
        filename=path.name,
        sha256=digest_of_plain(path),
        verdict="reject",
        tags=frozenset(),
        findings=findings,
    )


def judge_opened(
    wheel: OpenedWheel,
    context: Context = _NOTHING,
    checks: tuple[Check, ...] = CHECKS,
    *,
    policy: Policy = NO_POLICY,
) -> Judgement:
    """The verdict on a wheel that is open.

    `policy` weighs every finding before it counts. Raises ValueError for an empty tuple of checks:
    nothing asked is nothing proved.
    """
    if not checks:
        raise ValueError("a wheel is judged by at least one check")
    fitting = policy_for(policy, wheel.filename)
    case = _Case(wheel=wheel, context=context, checks=checks, policy=fitting)
    found = _found(case)
    weighed = _weighed(case)
    found += _concluded(case, weighed.tags)
    verdict = _verdict(case, weighed, found)
    return Judgement(
        filename=wheel.filename,
        sha256=wheel.sha256,
        verdict=verdict,
        tags=frozenset() if verdict == "reject" else weighed.tags,
        findings=_distinct([*found, *weighed.findings]),
    )


def _verdict(case: _Case, weighed: _Weighed, found: list[Finding]) -> Verdict:
    """An error that writing afresh does not mend refuses; so does having no tag left."""
    mended = {check.code for check in case.checks if check.mended}
    errors = {finding.check for finding in found if finding.severity == "error"}
    crashed = any(finding.check == CRASHED for finding in weighed.findings)
    if errors - mended or crashed or not weighed.tags:
        return "reject"
    return "retag" if errors or weighed.tags != case.wheel.claimed else "accept"


def _found(case: _Case) -> list[Finding]:
    findings: list[Finding] = []
    for check in case.checks:
        if check.find is not None:
            findings += _guarded(check, case.policy, check.find, case.wheel, case.context)
    return findings


def _concluded(case: _Case, tags: frozenset[Tag]) -> list[Finding]:
    findings: list[Finding] = []
    for check in case.checks:
        if tags and check.conclude is not None:
            look = check.conclude
            findings += _guarded(check, case.policy, look, case.wheel, tags, case.context)
    return findings


def _weighed(case: _Case) -> _Weighed:
    """The claimed tags, narrowed by every check until no check narrows them further."""
    tags = case.wheel.claimed
    findings: list[Finding] = []
    for _ in range(_ROUNDS):
        before = tags
        for check in case.checks:
            ruling = _narrowed(case, tags, check)
            tags = ruling.tags
            findings += ruling.findings
        if tags in (before, frozenset()):
            break
    kept, left_out = expressible(tags)
    note = (_dropped(left_out),) if left_out else ()
    dropping = _under_policy(case.policy, Ruling(tags=kept, findings=note), kept)
    return _Weighed(tags=dropping.tags, findings=(*findings, *dropping.findings))


def _narrowed(case: _Case, tags: frozenset[Tag], check: Check) -> Ruling:
    if check.narrow is None:
        return Ruling(tags=tags)
    rulings = [_guarded_narrow(case, check, check.narrow, tag) for tag in sorted(tags, key=str)]
    return Ruling(
        tags=frozenset().union(*(ruling.tags for ruling in rulings)),
        findings=tuple(finding for ruling in rulings for finding in ruling.findings),
    )


def _under_policy(policy: Policy, ruling: Ruling, asked: frozenset[Tag]) -> Ruling:
    """`ruling` on the tags `asked`, its findings weighed by the policy, its tags following them.

    When every error is waived the tags stand as they were; while one is not, the narrower tags do.
    What the policy raised to an error leaves no tag.
    """
    findings = tuple(weigh(policy, finding) for finding in ruling.findings)
    pairs = list(zip(ruling.findings, findings, strict=True))
    if any(new.severity == "error" and old.severity != "error" for old, new in pairs):
        return Ruling(tags=frozenset(), findings=findings)
    were = [new for old, new in pairs if old.severity == "error"]
    if were and all(new.severity != "error" for new in were):
        return Ruling(tags=asked, findings=findings)
    return Ruling(tags=ruling.tags, findings=findings)


def _dropped(tags: frozenset[Tag]) -> Finding:
    return Finding(
        check=INEXPRESSIBLE,
        severity="warning",
        message="no one file name can say exactly the tags that hold; some were let go",
        evidence={"dropped": sorted(map(str, tags))[:100]},
        hint="build a wheel for each of them",
    )


def _guarded(
    check: Check,
    policy: Policy,
    look: Callable[_P, Iterable[Finding]],
    *args: _P.args,
    **kwargs: _P.kwargs,
) -> list[Finding]:
    """What `look` finds. A check that crashes is a failed check, and never a pass."""
    try:
        return [weigh(policy, finding) for finding in look(*args, **kwargs)]
    except RefusedWheelError as refusal:  # a second look at the file found it changed
        return list(refusal.findings)
    except Exception as error:  # noqa: BLE001 - the boundary: fail closed, whatever went wrong
        return [_crash(check.code, error)]


def _guarded_narrow(case: _Case, check: Check, narrow: Narrow, tag: Tag) -> Ruling:
    try:
        ruling = narrow(case.wheel, tag, case.context)
        return _under_policy(case.policy, ruling, frozenset({tag}))
    except RefusedWheelError as refusal:
        return Ruling(tags=frozenset(), findings=refusal.findings)
    except Exception as error:  # noqa: BLE001 - the boundary: fail closed, whatever went wrong
        return Ruling(tags=frozenset(), findings=(_crash(check.code, error),))


def _crash(code: str, error: Exception) -> Finding:
    return Finding(
        check=CRASHED,
        severity="error",
        message=f"the check {code} crashed: {type(error).__name__}",
        evidence={"check": code, "error": repr(error)[:500]},
        hint="report this as a bug of wheelfarm, with the wheel",
    )


def _distinct(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Each finding once: several tags can fall for one reason."""
    seen: dict[object, Finding] = {}
    for finding in findings:
        reason = (finding.check, finding.severity, finding.member, finding.slice, finding.message)
        seen.setdefault(reason, finding)
    return tuple(seen.values())
