"""The farm's desk: every question and every order that people and programs may bring.

`Desk` says what can be asked; `FarmDesk` answers out of the farm's own database. A client of a
server has one that asks over HTTP (`workers.farm.remote`), so that each command knows only a desk.
"""

from __future__ import annotations

import re
import time
from codecs import getincrementaldecoder
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal, Protocol

from store.access import EVERY_CHANNEL, Actor, ChannelPattern
from store.audit import Deed, audited
from store.digest import JSON, Sha256
from store.errors import MalformedError, NotFoundError
from store.fingerprint import Fingerprint, parse_fingerprint
from store.invalidate import Verb
from store.promote import promote
from store.provenance import BuildKey
from store.target import Target
from workers.errors import TransitionError, UnknownJobError
from workers.farm import answers, invalidation, listing
from workers.farm.calls import (
    SaidAdoption,
    SaidCall,
    SaidPromotion,
    SaidStrike,
    SaidUndo,
    channels_of,
    kept,
    read_call,
    uploads,
)
from workers.farm.farm import Farm
from workers.farm.forecast import cache_by_queue, forecasts
from workers.farm.jobs import JobRow
from workers.farm.line import Order
from workers.farm.listing import Filter
from workers.farm.live_log import MOST_BYTES, read_pieces
from workers.farm.planning import count_unplanned, fetch_upload, has_blob, planner_of
from workers.farm.registry import ToolchainFacts, WorkerRow, takers
from workers.farm.skew import skews
from workers.farm.states import FINAL
from workers.farm.submissions import SubmissionRow
from workers.farm.why import Scene, Why, why, why_nobody, why_unplanned
from workers.farm.work import Queue, parts_of
from workers.sources import place_of

PAGE: Final = 1_000
"""Items on one page of a submission's list."""
JOBS_PAGE: Final = 100

_PIECE: Final = 64 << 10
_MOST_RETRIED: Final = 500
_LOOK_SECONDS: Final = 0.2
_SUBMISSION: Final = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """A piece of a job's log from byte `start` on, of the try `attempt`.

    `over`: no more will come after it.
    """

    attempt: int
    start: int
    data: bytes
    over: bool


class Desk(Protocol):
    """What can be asked of a farm. Every method raises WheelfarmError."""

    def submission(self, submission_id: str) -> answers.Submission:
        """Where a submission stands."""

    def items(self, submission_id: str, first: int = 0) -> answers.Items:
        """A page of its items, from place `first` on."""

    def jobs(self, chosen: Filter) -> answers.Jobs:
        """The newest jobs that fit."""

    def job(self, job_id: int) -> answers.Job:
        """One job."""

    def why(self, job_id: int) -> answers.Reason:
        """Why a job is not running."""

    def why_submission(self, submission_id: str) -> answers.Reason:
        """Why a submission has not ended."""

    def log(self, job_id: int, *, follow: bool) -> Iterator[str]:
        """The log of a job, piece by piece; `follow` it to its end."""

    def cancel(self, job_id: int) -> answers.Cancelled:
        """Cancel one job, whoever wants it."""

    def cancel_submission(self, submission_id: str) -> answers.Cancelled:
        """Cancel a submission, and the jobs that no other one wants."""

    def retry(self, job_id: int) -> answers.Retried:
        """Try a failed or cancelled job again, and forget that it failed."""

    def retry_all(self, label: str) -> answers.Retried:
        """Try every failed or cancelled job of ``NAME`` or ``NAME==VERSION`` again."""

    def workers(self) -> answers.Workers:
        """The workers that are there, or were."""

    def drain(self, worker_id: str) -> answers.Workers:
        """Let a worker take no more jobs; give it as it is then."""

    def readmit(self, worker_id: str) -> answers.Workers:
        """Let a worker that was drained or set aside take jobs again."""

    def queues(self) -> answers.Queues:
        """The depth and age of every queue."""

    def strike(self, verb: Verb, call: SaidStrike) -> answers.Strike:
        """Yank or disown releases, or say what that would reach."""

    def undo(self, verb: Verb, call: SaidUndo) -> answers.Lifted:
        """Undo yanks or disownings."""

    def orders(self) -> answers.Orders:
        """The newest yanks and disownings."""

    def promote(self, call: SaidPromotion) -> answers.Promoted:
        """Have releases of one channel in another one, or say which they would be."""

    def adopt(self, call: SaidAdoption) -> answers.Adoptions:
        """Have wheels of the farm's index upstream taken in."""


def is_submission(word: str) -> bool:
    """Whether a person's word is the id of a submission; a job's is a number."""
    return _SUBMISSION.fullmatch(word) is not None


class FarmDesk:
    """The desk of a farm whose database is at hand. `nudge` wakes whoever plans.

    Every order is in the audit log as `actor`'s.
    """

    def __init__(self, farm: Farm, actor: Actor, nudge: Callable[[], None] = lambda: None) -> None:
        self.farm = farm
        self._database = farm.store.database
        self._actor = actor
        self._nudge = nudge

    def acting_for(self, actor: Actor) -> FarmDesk:
        """The same desk, with orders of somebody else."""
        return FarmDesk(self.farm, actor, self._nudge)

    def submit(self, call: SaidCall) -> answers.Submitted:
        """Take a submission, to be planned soon. Raises MalformedError, UnknownJobError."""
        self.check(call)
        call = call.model_copy(update={"submitter": self._signed(call.submitter)})
        submission_id = self.farm.submissions.create(
            call.submitter, kept(call), by=self._actor, detail=_summary(call)
        )
        self._nudge()
        return answers.Submitted(id=submission_id)

    def check(self, call: SaidCall) -> None:
        """Hold a call against its grammar, and its uploads against the store."""
        cache = self.farm.settings.cache
        read_call(call, lambda digest, filename: place_of(digest, filename, cache))
        for upload in uploads(call):
            if not has_blob(self.farm, Sha256(upload.sha256)):
                raise UnknownJobError(
                    f"{upload.filename} ({upload.sha256[:12]}…) was not uploaded",
                    hint="PUT /api/sdists/SHA256/FILENAME first",
                )

    def plan(self, call: SaidCall) -> Iterator[list[answers.Forecast]]:
        """What a submission would do, some items at a time; nothing is changed."""
        self.check(call)
        why_nobody = cache_by_queue(self.why_nobody)
        wanted = read_call(call, partial(fetch_upload, self.farm))
        for items in planner_of(self.farm, keeps=False).plan(wanted):
            yield list(forecasts(items, why_nobody))

    def submission(self, submission_id: str) -> answers.Submission:
        """Where a submission stands. Raises UnknownJobError."""
        row = self.farm.submissions.get(submission_id)
        counts = self.farm.submissions.counts(submission_id)
        targets = row.call.get("targets", [])
        return answers.Submission(
            id=row.id,
            submitter=row.submitter,
            created_at=row.created_at,
            state=_state(row, counts),
            counts=counts,
            targets=[target["name"] for target in targets],
            error=answers.Trouble(**row.error) if row.error else None,
        )

    def items(self, submission_id: str, first: int = 0) -> answers.Items:
        """A page of its items, from place `first` on. Raises UnknownJobError."""
        self.farm.submissions.get(submission_id)
        rows = self.farm.submissions.items(submission_id, range(first, first + PAGE))
        return answers.Items(
            items=[answers.item_of(row) for row in rows],
            next=first + PAGE if len(rows) == PAGE else None,
        )

    def jobs(self, chosen: Filter) -> answers.Jobs:
        """The newest jobs that fit, a page of them."""
        rows = listing.list_jobs(self._database, chosen, JOBS_PAGE)
        return answers.Jobs(
            jobs=[answers.job_of(row) for row in rows],
            next=rows[-1].id if len(rows) == JOBS_PAGE else None,
        )

    def job(self, job_id: int) -> answers.Job:
        """One job. Raises UnknownJobError."""
        return answers.job_of(self.farm.ledger.job(job_id))

    def why(
        self, job_id: int, channels: tuple[ChannelPattern, ...] = (EVERY_CHANNEL,)
    ) -> answers.Reason:
        """Why a job is not running. Raises UnknownJobError.

        Jobs that are ahead of it are named where they are of one of `channels`.
        """
        return _reason(why(self._scene(self.farm.ledger.job(job_id), channels)))

    def why_submission(self, submission_id: str) -> answers.Reason:
        """Why a submission has not ended. Raises UnknownJobError."""
        row = self.farm.submissions.get(submission_id)
        counts = self.farm.submissions.counts(submission_id)
        now = listing.moment(self._database)
        before = max(0, count_unplanned(self.farm) - 1)
        if unplanned := why_unplanned(row, sum(counts.values()), before, now):
            return _reason(unplanned)
        told = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        return answers.Reason(
            code="planned", sentence=f"it is planned: {told or 'it has no items'}", details=counts
        )

    def log(self, job_id: int, *, follow: bool) -> Iterator[str]:
        """What there is of the log; `follow` it to the end of the job. Raises UnknownJobError."""
        attempt, start, decoder = None, 0, getincrementaldecoder("utf-8")("replace")
        while True:
            part = self.log_part(job_id, attempt, start)
            attempt, start = part.attempt, part.start + len(part.data)
            yield decoder.decode(part.data)
            if part.over or not (follow or part.data):
                return
            if not part.data:
                time.sleep(_LOOK_SECONDS)

    def log_part(self, job_id: int, attempt: int | None, start: int) -> LogPart:
        """Up to some 64 KiB of a log; from its beginning when `attempt` is another by now."""
        row = self.farm.ledger.job(job_id)
        if attempt not in {None, row.token}:
            start = 0
        if row.state not in FINAL:
            data = (
                read_pieces(self._database, job_id, row.token, start) if start < MOST_BYTES else b""
            )
            return LogPart(attempt=row.token, start=start, data=data[:_PIECE], over=False)
        digest = self._log_digest(row)
        data = b"" if digest is None else self._read_blob(digest, start)
        over = len(data) < _PIECE
        return LogPart(attempt=row.token, start=start, data=data, over=over)

    def cancel(self, job_id: int) -> answers.Cancelled:
        """Cancel one job. Raises TransitionError, UnknownJobError."""
        with self._audited("cancel", f"job {job_id}"):
            self.farm.ledger.cancel(job_id, f"{self._actor.who} cancelled it")
        return answers.Cancelled(jobs=1)

    def cancel_submission(self, submission_id: str) -> answers.Cancelled:
        """Cancel a submission, and the jobs that no other one wants. Raises UnknownJobError."""
        with self._audited("cancel", f"submission {submission_id}"):
            count = self.farm.submissions.cancel(submission_id, "its submission was cancelled")
        return answers.Cancelled(jobs=count)

    def retry(self, job_id: int) -> answers.Retried:
        """Try a job again, and forget that it failed. Raises TransitionError, UnknownJobError."""
        row = self.farm.ledger.job(job_id)
        with self._audited("retry", f"job {job_id}"):
            forgotten = self._forget(row)
            self.farm.ledger.again(job_id)
        return answers.Retried(jobs=[job_id], forgotten=forgotten)

    def retry_all(
        self, label: str, channels: tuple[ChannelPattern, ...] = (EVERY_CHANNEL,)
    ) -> answers.Retried:
        """Retry what failed of ``NAME`` or ``NAME==VERSION``. Raises UnknownJobError for nothing.

        Of several jobs that did the same work, the newest. Only in `channels`, where given.
        """
        chosen = Filter(states=("failed", "cancelled"), label=label, channels=channels)
        found = listing.list_jobs(self._database, chosen, _MOST_RETRIED)
        if not found:
            raise UnknownJobError(f"no job of {label[:80]!r} has failed or was cancelled")
        newest = {row.work_key: row for row in reversed(found)}.values()
        with self._audited("retry", f"package {label}", jobs=[row.id for row in newest]):
            forgotten = sum(map(self._forget, found))
            again = [row.id for row in newest if self._again(row)]
        return answers.Retried(jobs=sorted(again), forgotten=forgotten)

    def workers(self) -> answers.Workers:
        """Every worker that is here, or was in the last day, the newest last."""
        rows = self.farm.registry.all()
        toolchains = {row.id: self.farm.registry.toolchains_of(row.id) for row in rows}
        found = skews(rows, toolchains)
        running = listing.running_by_owner(self._database)
        return answers.Workers(
            workers=[
                _worker(row, running.get(row.id, 0), toolchains[row.id], found.get(row.id, []))
                for row in rows
            ]
        )

    def drain(self, worker_id: str) -> answers.Workers:
        """Let a worker take no more jobs. Raises UnknownJobError."""
        return self._set_state(worker_id, "drain")

    def readmit(self, worker_id: str) -> answers.Workers:
        """Let a worker take jobs again. Raises UnknownJobError."""
        return self._set_state(worker_id, "readmit")

    def queues(self) -> answers.Queues:
        """Every queue that has jobs or workers."""
        now = listing.moment(self._database)
        depths = {depth.queue: depth for depth in listing.depths(self._database)}
        workers = self.farm.registry.ready()
        names = depths.keys() | {queue for worker in workers for queue in worker.queues}
        return answers.Queues(
            queues=[
                _queue(Queue(name), depths.get(name, listing.Depth(queue=name)), workers, now)
                for name in sorted(names)
            ],
            unplanned=count_unplanned(self.farm),
        )

    def _signed(self, by: str) -> str:
        """Who it was: by the token's name where there is one, whatever the call says."""
        return self._actor.who if self._actor.token else by

    def _audited(self, action: str, on: str, **detail: JSON) -> AbstractContextManager[None]:
        deed = Deed(actor=self._actor, action=action, object=on, detail=detail)
        return audited(self._database, deed)

    def strike(self, verb: Verb, call: SaidStrike) -> answers.Strike:
        """Yank or disown releases, or say what that would reach. Raises MalformedError."""
        ours = call.model_copy(update={"by": self._signed(call.by)})
        if call.dry_run:
            return invalidation.strike(self.farm.store, verb, ours)
        selected = call.selection.selection()
        detail = {"selection": selected.to_json(), "reason": call.reason}
        with self._audited(verb, str(selected), **detail):
            return invalidation.strike(self.farm.store, verb, ours)

    def undo(self, verb: Verb, call: SaidUndo) -> answers.Lifted:
        """Undo yanks or disownings. Raises MalformedError, NotFoundError."""
        ours = call.model_copy(update={"by": self._signed(call.by)})
        with self._audited(f"{verb}-undo", f"order {call.order}" if call.order else "releases"):
            return invalidation.undo(self.farm.store, verb, ours)

    def orders(self) -> answers.Orders:
        """The newest yanks and disownings."""
        return invalidation.orders(self.farm.store)

    def promote(self, call: SaidPromotion) -> answers.Promoted:
        """Have releases of one channel in another one. Raises what `store.promote.promote` does,
        and IndexUnreachableError."""
        # Imported here: most questions ask no index.
        from builder.index import has_project  # noqa: PLC0415

        index_url = self.farm.settings.index_url
        done = promote(
            self.farm.store,
            call.move(),
            actor=self._actor,
            index_has=lambda name: has_project(name, index_url),
            dry_run=call.dry_run,
        )
        return answers.promoted(done)

    def adopt(self, call: SaidAdoption) -> answers.Adoptions:
        """Take wheels of the index upstream in. Raises MalformedError, NotFoundError; StoreError.

        What is wrong with one is its outcome. Each that comes in is a row of the audit log.
        """
        # Imported here: most questions judge no wheel.
        from workers.adopt import adopt  # noqa: PLC0415
        from workers.upstream import Upstream  # noqa: PLC0415

        known = self.farm.store.catalogue.targets() if call.fingerprints else {}
        targets = call.described()
        for name in map(parse_fingerprint, call.fingerprints):
            if name not in known:
                raise NotFoundError(f"the store knows no target {name}", hint="describe it")
            targets[name] = known[name]
        if not targets:
            raise MalformedError("for which target?", path="targets", hint="describe or name one")
        pins = call.pins(next(iter(targets.values())))
        upstream = Upstream.of(self.farm.store, self.farm.settings, self._actor)
        found = [each.to_json() for each in adopt(upstream, pins, targets)]
        return answers.Adoptions.model_validate({"adoptions": found})

    def _set_state(self, worker_id: str, order: Literal["drain", "readmit"]) -> answers.Workers:
        known = [row for row in self.farm.registry.all() if row.id == worker_id]
        if not known:
            raise UnknownJobError(
                f"the farm has no worker {worker_id[:100]!r}", hint="`wheelfarm workers` lists them"
            )
        if known[0].state == "gone":
            raise TransitionError(f"the worker {worker_id} is gone", hint="start it again")
        with self._audited(order, f"worker {worker_id}"):
            if order == "drain":
                reason = f"{self._actor.who} drained it"
                self.farm.registry.set_state(worker_id, "draining", reason)
            else:
                self.farm.registry.set_state(worker_id, "ready")
        chosen = [worker for worker in self.workers().workers if worker.id == worker_id]
        return answers.Workers(workers=chosen)

    def _again(self, row: JobRow) -> bool:
        """Try it again, unless another job does its work already."""
        try:
            self.farm.ledger.again(row.id)
        except TransitionError:
            return False
        return True

    def _forget(self, row: JobRow) -> int:
        return int(row.build_key is not None and self.farm.failures.forget(row.build_key))

    def _scene(self, row: JobRow, channels: tuple[ChannelPattern, ...]) -> Scene:
        known = self.farm.failures.known([row.build_key] if row.build_key else [])
        cancelled = listing.last_event(self._database, row.id, "cancel")
        return Scene(
            job=row,
            target=self.farm.ledger.work(row.id).target,
            now=listing.moment(self._database),
            workers=self.farm.registry.all(),
            running=listing.running_by_owner(self._database),
            standing=listing.standing(self._database, row, channels),
            remembered=known.get(row.build_key or ""),
            targets=self._targets(),
            reason=cancelled.detail.get("reason") if cancelled else None,
        )

    def why_nobody(self, queue: Queue, order: Order) -> str | None:
        """Why no worker takes jobs of a queue; None when one does."""
        workers = self.farm.registry.all()
        found = why_nobody(queue, workers, order.work.target, self._targets())
        return found.sentence if found else None

    def _targets(self) -> dict[Fingerprint, Target]:
        return self.farm.store.catalogue.targets()

    def _log_digest(self, row: JobRow) -> Sha256 | None:
        """The blob of a finished job's log; that of a build that succeeded is its release's."""
        if row.log_sha256 is not None:
            return Sha256(row.log_sha256)
        if row.build_key is None:
            return None
        catalogue = self.farm.store.catalogue
        for release in catalogue.releases_of_builds([BuildKey(row.build_key)]):
            log = catalogue.provenance(release).get("log")
            return Sha256(log["sha256"]) if isinstance(log, dict) else None
        return None

    def _read_blob(self, digest: Sha256, start: int) -> bytes:
        blobs = self.farm.store.blobs
        last = min(start + _PIECE, blobs.size(digest)) - 1
        return b"".join(blobs.part(digest, start, last)) if last >= start else b""


def _summary(call: SaidCall) -> dict[str, JSON]:
    """What of a call is worth a row of the audit log; the whole of it is in its submission."""
    return {
        "submitter": call.submitter,
        "channels": sorted(channels_of(call)),
        "things": len(call.wanted),
        "targets": len(call.targets),
    }


def _state(row: SubmissionRow, counts: dict[str, int]) -> answers.SubmissionState:
    if row.error is not None:
        return "refused"
    if row.cancelled_at is not None:
        return "cancelled"
    if row.planned_at is None:
        return "planning"
    return "open" if counts.keys() & {"waiting", "running"} else "done"


def _reason(found: Why) -> answers.Reason:
    return answers.Reason(code=found.code, sentence=found.sentence, details=dict(found.details))


def _worker(
    row: WorkerRow, running: int, toolchains: Sequence[ToolchainFacts], found: list[str]
) -> answers.Worker:
    return answers.Worker(
        id=row.id,
        state=row.state,
        reason=row.reason,
        host=row.host,
        version=row.version,
        slots=row.slots,
        running=running,
        queues=list(row.queues),
        facts=dict(row.facts),
        strikes=row.strikes,
        started_at=row.started_at,
        heartbeat_at=row.heartbeat_at,
        toolchains=[
            answers.Toolchain(fingerprint=each.fingerprint, name=each.name, sha256=each.sha256)
            for each in toolchains
        ],
        skews=found,
    )


def _queue(
    name: Queue, depth: listing.Depth, workers: Sequence[WorkerRow], now: datetime
) -> answers.Queue:
    capability, memory = parts_of(name)
    able = takers(workers, name)
    age = (now - depth.oldest).total_seconds() if depth.oldest else 0
    return answers.Queue(
        queue=name,
        capability=capability,
        memory_class=memory,
        waiting=depth.waiting,
        held=depth.held,
        oldest_seconds=max(0, int(age)),
        running=depth.running,
        workers=len(able),
        slots=sum(worker.slots for worker in able),
    )
