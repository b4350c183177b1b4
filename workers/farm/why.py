"""Why a job is not running: one sentence, a code, and the facts behind it. Pure.

The most telling reason counts: that nobody can do it comes before that it must wait, and that
before its place in line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from store.digest import JSON
from store.fingerprint import Fingerprint
from store.match import diff
from store.target import Target
from workers.farm.failures import Remembered
from workers.farm.jobs import JobRow
from workers.farm.listing import Standing
from workers.farm.registry import WorkerRow, takers
from workers.farm.rules import RULES
from workers.farm.submissions import SubmissionRow
from workers.farm.work import Capability, Queue, parts_of

Code = Literal[
    "no-worker", "held", "elsewhere", "in-line", "running", "succeeded", "failed", "cancelled",
    "planning", "planned", "refused",
]  # fmt: skip

_NEAREST: Final = 3
_FIELDS_SHOWN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """The reason: `details` are the facts of the sentence for programs."""

    code: Code
    sentence: str
    details: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the farm looks like around one job. `running` counts the jobs of each worker.

    `targets` are the targets that the store knows by fingerprint; `reason` is what was said when
    it was cancelled.
    """

    job: JobRow
    target: Target
    now: datetime
    workers: Sequence[WorkerRow]
    running: Mapping[str, int]
    standing: Standing
    remembered: Remembered | None = None
    targets: Mapping[Fingerprint, Target] = field(default_factory=dict)
    reason: str | None = None


def why(scene: Scene) -> Why:
    """Why the job is where it is."""
    job = scene.job
    if job.state == "waiting":
        return _waiting(scene)
    if job.state == "running":
        return _running(job)
    if job.state == "failed":
        return _failed(scene)
    if job.state == "cancelled":
        said = f": {scene.reason}" if scene.reason else ""
        return Why(code="cancelled", sentence=f"it was cancelled{said}")
    return _succeeded(job)


def why_nobody(
    queue: Queue,
    workers: Sequence[WorkerRow],
    target: Target,
    targets: Mapping[Fingerprint, Target],
) -> Why | None:
    """Why no worker takes jobs of `queue`; None when one does."""
    if takers(workers, queue):
        return None
    capability, memory = parts_of(queue)
    lacks = _nearest(queue, workers, target, targets)
    missing = f"no worker offers {capability}" + (f" with memory class {memory}" * (memory > 1))
    if not lacks:
        sentence = f"{missing}: the farm has no worker at all"
    else:
        told = "; ".join(f"{worker} {lack}" for worker, lack in lacks.items())
        sentence = f"{missing}; the nearest: {told}"
    return Why(
        code="no-worker",
        sentence=sentence,
        details={"capability": capability, "memory_class": memory, "nearest": lacks},
    )


def why_unplanned(row: SubmissionRow, items: int, before: int, now: datetime) -> Why | None:
    """Why a submission has no, or not all of its jobs yet; None once it is planned."""
    if row.error is not None:
        return Why(code="refused", sentence=f"it was refused: {row.error.get('message')}")
    if row.cancelled_at is not None:
        return Why(code="cancelled", sentence="it was cancelled")
    if row.planned_at is not None:
        return None
    if row.planner is not None and row.lease_until is not None and row.lease_until > now:
        sentence = f"{row.planner} is planning it: {items} items so far"
    else:
        sentence = f"it waits to be planned, after {_count(before, 'other submission')}"
    return Why(code="planning", sentence=sentence, details={"items": items, "before": before})


def _waiting(scene: Scene) -> Why:
    job = scene.job
    if nobody := why_nobody(job.queue, scene.workers, scene.target, scene.targets):
        return nobody
    if job.not_before is not None and job.not_before > scene.now:
        return _held(job)
    able = takers(scene.workers, job.queue)
    if all(worker.id == job.avoid for worker in able):
        return Why(
            code="elsewhere",
            sentence=f"it waits for another worker than {job.avoid}, which failed it "
            f"({job.failure}); if none comes soon, {job.avoid} tries again",
            details={"avoid": job.avoid, "failure": job.failure},
        )
    return _in_line(scene, able)


def _held(job: JobRow) -> Why:
    assert job.not_before is not None
    until, kind = job.not_before, job.failure or "infrastructure"
    tries = job.tries.get(kind, 1)
    most = next((rule.tries for name, rule in RULES.items() if name == kind), tries)
    message = (job.outcome or {}).get("message")
    sentence = (
        f"it is held back until {until:%H:%M:%S} UTC after a failure of kind {kind}"
        f" ({tries} of {most} tries){f': {message}' if message else ''}"
    )
    return Why(
        code="held",
        sentence=sentence,
        details={"until": until.isoformat(), "failure": kind, "tries": tries, "most": most},
    )


def _in_line(scene: Scene, able: Sequence[WorkerRow]) -> Why:
    job, ahead = scene.job, scene.standing.ahead
    slots = sum(worker.slots for worker in able)
    busy = sum(scene.running.get(worker.id, 0) for worker in able)
    are = "is" if ahead == 1 else "are"
    before = f"{_count(ahead, 'job')} {are} ahead{_named(scene.standing)}"
    sentence = (
        f"it is number {ahead + 1} in the queue {job.queue}"
        f"{f': {before}' if ahead else ''}; {_count(len(able), 'worker')} with "
        f"{_count(slots, 'slot')} take it, {busy} of them busy"
    )
    return Why(
        code="in-line",
        sentence=sentence,
        details={
            "queue": job.queue, "position": ahead + 1, "ahead": list(scene.standing.first),
            "workers": [worker.id for worker in able], "slots": slots, "busy": busy,
        },
    )  # fmt: skip


def _named(standing: Standing) -> str:
    """The first of those ahead, as far as who asks may know their names."""
    if not standing.first:
        return ""
    return f" ({', '.join(standing.first)}{', …' * (standing.ahead > len(standing.first))})"


def _running(job: JobRow) -> Why:
    since = f"{job.started_at:%Y-%m-%d %H:%M:%S} UTC" if job.started_at else "a moment ago"
    return Why(
        code="running",
        sentence=f"{job.owner} has been building it since {since} (try {job.token})",
        details={"worker": job.owner, "try": job.token},
    )


def _succeeded(job: JobRow) -> Why:
    filename = (job.outcome or {}).get("filename")
    return Why(code="succeeded", sentence=f"it is done: {filename} is in the store")


def _failed(scene: Scene) -> Why:
    job, remembered = scene.job, scene.remembered
    outcome = job.outcome or {}
    told = outcome.get("first_error") or outcome.get("message") or "no more is known"
    sentence = f"it failed ({job.failure}): {told}"
    details: dict[str, JSON] = {"failure": job.failure, "remembered_until": None}
    if remembered is not None:
        sentence += (
            f"; this is remembered until {remembered.expires_at:%Y-%m-%d %H:%M UTC}, "
            f"and `wheelfarm retry {job.id}` tries it all the same"
        )
        details["remembered_until"] = remembered.expires_at.isoformat()
    return Why(code="failed", sentence=sentence, details=details)


def _nearest(
    queue: Queue,
    workers: Sequence[WorkerRow],
    target: Target,
    targets: Mapping[Fingerprint, Target],
) -> dict[str, str]:
    """The workers that come nearest to the queue, and what each lacks."""
    rated = [(*_lack(worker, queue, target, targets), worker.id) for worker in workers]
    return {worker: lack for _, lack, worker in sorted(rated)[:_NEAREST]}


def _lack(
    worker: WorkerRow, queue: Queue, target: Target, targets: Mapping[Fingerprint, Target]
) -> tuple[int, str]:
    """How far a worker is from taking the queue, and the words for it."""
    capability, memory = parts_of(queue)
    offered = [parts_of(each) for each in worker.queues]
    state = f"is {worker.state}" + (f" ({worker.reason})" if worker.reason else "")
    gone = 10 if worker.state == "gone" else 0
    if queue in worker.queues:
        return 1 + gone, state
    if larger := [known for name, known in offered if name == capability]:
        return 2 + gone, f"takes memory class {max(larger)} at most, not {memory}"
    same = [name for name, _ in offered if _label(name) == _label(capability)]
    if same:
        return 3 + gone, f"has another build of the interpreter{_differs(same[0], target, targets)}"
    shown = sorted({_label(name) for name, _ in offered})
    others = ", ".join(shown[:_FIELDS_SHOWN]) + (", …" if len(shown) > _FIELDS_SHOWN else "")
    distance = 4 if any(_kin(name, capability) for name, _ in offered) else 5
    return distance + gone, f"offers only {others or 'nothing'}"


def _differs(capability: Capability, target: Target, targets: Mapping[Fingerprint, Target]) -> str:
    """The fields in which a worker's target differs from the wanted one, where both are known."""
    known = targets.get(Fingerprint(capability))
    if known is None:
        return ""
    fields = [difference.field for difference in diff(target, known)]
    return f" (it differs in {', '.join(fields[:_FIELDS_SHOWN])})"


def _label(capability: str) -> str:
    """``cp311-manylinux_2_36_x86_64`` of a fingerprint; a cross capability as it is."""
    if capability.startswith("cross-"):
        return capability
    return capability.rpartition("-")[0]


def _kin(one: str, other: str) -> bool:
    """Whether two capabilities are for the same interpreter version, or the same system."""
    a, b = _label(one).split("-"), _label(other).split("-")
    return a[0] == b[0] and (a[1:2] == b[1:2] or a[-1] == b[-1])


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
