"""How a job ends, or goes on after a failure: the rules applied to what a worker says."""

from __future__ import annotations

import logging
from typing import Final, cast

from workers.farm.farm import Farm
from workers.farm.jobs import Claim
from workers.farm.registry import WorkerRow, takers
from workers.farm.rules import LARGEST_MEMORY_CLASS, RULES, JobFailure, Situation, decide
from workers.farm.work import Queue, parts_of, queue_of
from workers.job import Ended
from workers.outcome import Outcome

_LOG: Final = logging.getLogger("wheelfarm.worker")
_GOOD: Final = frozenset({"built", "hit"})


def settle(farm: Farm, claim: Claim, ended: Ended) -> None:
    """Tell the farm how a claimed job ended. Raises LeaseLostError when it is another's by now."""
    outcome = ended.outcome
    if outcome.status in _GOOD:
        farm.ledger.succeed(claim, outcome.to_json(), outcome.build_key)
        for worker in farm.registry.count_success(claim):
            _LOG.warning("the worker %s is set aside: others build what it fails", worker)
        return
    kind = kind_of(outcome)
    decision = decide(kind, _situation(farm, claim, kind))
    told = {
        "outcome": outcome.to_json(),
        "build_key": outcome.build_key,
        "log_sha256": ended.log_sha256,
    }
    farm.ledger.fail(claim, kind, decision, told)
    if decision.remembered and outcome.build_key:
        farm.failures.remember(outcome.build_key, kind, outcome.to_json(), claim.worker)
    if kind == "build":  # after it is told, which may be tried several times
        farm.registry.count_loss(claim.worker)


def kind_of(outcome: Outcome) -> JobFailure:
    """The kind of failure that an outcome is: its own, the farm's trouble, or the sdist's fault."""
    if outcome.code in RULES:
        return cast("JobFailure", outcome.code)
    if outcome.code == "worker-died":
        return "died"
    if outcome.code in {"disowned", "quota"}:
        return "policy"
    return "infrastructure" if outcome.status == "trouble" else "build"


def larger_queue(queue: Queue) -> Queue | None:
    """The queue of the next class of memory, None above the largest."""
    capability, memory = parts_of(queue)
    return queue_of(capability, memory + 1) if memory < LARGEST_MEMORY_CLASS else None


def others_for(workers: list[WorkerRow], queue: Queue, but: str | None) -> int:
    """How many ready workers take jobs of `queue`, `but` that one."""
    return sum(worker.id != but for worker in takers(workers, queue))


def _situation(farm: Farm, claim: Claim, kind: JobFailure) -> Situation:
    losing_run = farm.registry.losing_run(claim.worker) + 1 if kind == "build" else 0
    tries = farm.ledger.job(claim.job_id).tries
    workers = farm.registry.ready()
    larger = larger_queue(claim.queue)
    return Situation(
        tries={**tries, kind: tries.get(kind, 0) + 1},
        losing_run=losing_run,
        others=others_for(workers, claim.queue, claim.worker),
        larger=larger is not None and bool(takers(workers, larger)),
    )
