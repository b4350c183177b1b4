"""The routes of the farm's API: each takes what was asked to the desk, and gives its answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Annotated, Any, Final

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security import HTTPBasic, HTTPBearer
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse

from store.digest import Sha256
from store.errors import NotFoundError
from store.gate import caller_of
from workers.api.access import GatedRoute, check_adoption, check_call, check_promotion
from workers.api.shared import Shared
from workers.api.streams import (
    SubmissionStream,
    log_events,
    parse_event_number,
    parse_log_place,
    until_trouble,
)
from workers.api.uploads import receive_sdist
from workers.errors import UntrustedError
from workers.farm import answers
from workers.farm.calls import SaidAdoption, SaidCall, SaidPromotion, SaidStrike, SaidUndo
from workers.farm.desk import FarmDesk
from workers.farm.listing import Filter
from workers.farm.planning import has_blob
from workers.farm.states import State

_ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": answers.Trouble, "description": "What was asked is wrong."},
    "5XX": {"model": answers.Trouble, "description": "Trouble with the farm."},
}

_TROUBLE: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Trouble"}}}
# The framework describes errors in the media type of the success, where that is not JSON.
_ERRORS_IN_JSON: Final[dict[int | str, dict[str, Any]]] = {
    status: {"description": error["description"], "content": _TROUBLE}
    for status, error in _ERRORS.items()
}

# For the document alone, which says how a token is sent; the gate reads it itself.
_SENT: Final = (HTTPBasic(auto_error=False), HTTPBearer(auto_error=False))

router: Final = APIRouter(
    route_class=GatedRoute, dependencies=[Depends(each) for each in _SENT], responses=_ERRORS
)

SubmissionId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
JobId = Annotated[int, Path(ge=1, lt=1 << 53)]
WorkerId = Annotated[str, Path(min_length=1, max_length=100)]
Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]
Filename = Annotated[str, Path(min_length=1, max_length=200)]
LastEvent = Annotated[str | None, Header(alias="Last-Event-ID", max_length=40)]


def _desk(request: Request) -> FarmDesk:
    desk = request.app.state.desk
    assert isinstance(desk, FarmDesk)
    return desk.acting_for(caller_of(request).actor)


def _shared(request: Request) -> Shared:
    shared = request.app.state.shared
    assert isinstance(shared, Shared)
    return shared


AtDesk = Annotated[FarmDesk, Depends(_desk)]
Looks = Annotated[Shared, Depends(_shared)]


def _known_submission(submission_id: SubmissionId, desk: AtDesk) -> str:
    """Said before a stream begins, while the status can still be 404."""
    return desk.farm.submissions.get(submission_id).id


def _known_job(job_id: JobId, desk: AtDesk) -> int:
    return desk.farm.ledger.job(job_id).id


@router.put(
    "/sdists/{sha256}/{filename}",
    status_code=204,
    response_class=Response,
    responses=_ERRORS_IN_JSON,
)
async def upload_sdist(sha256: Digest, filename: Filename, request: Request, desk: AtDesk) -> None:
    """Upload an sdist whose SHA-256 is in the path; the body is the file.

    The same bytes again change nothing. 422 when the digest is another.
    """
    await receive_sdist(desk.farm, Sha256(sha256), filename, request.stream())


@router.head(
    "/sdists/{sha256}/{filename}",
    status_code=204,
    response_class=Response,
    responses=_ERRORS_IN_JSON,
)
def has_sdist(sha256: Digest, filename: Filename, desk: AtDesk) -> None:
    """Whether the farm has that sdist: 204 or 404."""
    if not has_blob(desk.farm, Sha256(sha256)):
        raise NotFoundError(f"{filename[:80]} was not uploaded")


@router.post("/submissions", status_code=201)
def submit(call: SaidCall, request: Request, desk: AtDesk) -> answers.Submitted:
    """Submit builds. They are planned at once, and built as workers have time."""
    check_call(request, call)
    return desk.submit(call)


@router.post("/plan")
async def plan(call: SaidCall, request: Request, desk: AtDesk) -> answers.Plan:
    """What a submission would do: what is there, what would be built, what nobody can build.

    Nothing is changed, but the farm fetches the sdists that it does not know yet.
    """
    check_call(request, call)
    found: list[answers.Forecast] = []
    parts = desk.plan(call)
    while (some := await run_in_threadpool(next, parts, None)) is not None:
        found += some
        if await request.is_disconnected():
            break
    return answers.Plan(items=found)


@router.get("/submissions/{submission_id}")
def submission(submission_id: SubmissionId, desk: AtDesk) -> answers.Submission:
    """Where a submission stands."""
    return desk.submission(submission_id)


@router.get("/submissions/{submission_id}/items")
def items(
    submission_id: SubmissionId, desk: AtDesk, first: Annotated[int, Query(ge=0, lt=1 << 31)] = 0
) -> answers.Items:
    """A page of a submission's items, from place `first` on."""
    return desk.items(submission_id, first)


@router.get("/submissions/{submission_id}/why")
def why_submission(submission_id: SubmissionId, desk: AtDesk) -> answers.Reason:
    """Why a submission has not ended."""
    return desk.why_submission(submission_id)


@router.get(
    "/submissions/{submission_id}/events",
    response_class=EventSourceResponse,
    responses=_ERRORS_IN_JSON,
    dependencies=[Depends(_known_submission)],
)
async def submission_events(
    submission_id: SubmissionId, desk: AtDesk, looks: Looks, last: LastEvent = None
) -> AsyncIterator[ServerSentEvent]:
    """Follow a submission: `planned`, then `item` and `job` events, and `end`.

    After a cut, send Last-Event-ID: `job` events go on behind it, `item` events are sent again.
    """
    stream = SubmissionStream(desk, looks, submission_id, parse_event_number(last))
    async for event in until_trouble(stream.events()):
        yield event


@router.post("/submissions/{submission_id}/cancel")
def cancel_submission(submission_id: SubmissionId, desk: AtDesk) -> answers.Cancelled:
    """Cancel a submission, and the jobs that no other one wants. Running builds are stopped."""
    return desk.cancel_submission(submission_id)


@router.get("/jobs")
def jobs(  # noqa: PLR0917  # the framework hands every parameter over by name
    request: Request,
    desk: AtDesk,
    state: Annotated[list[State] | None, Query(max_length=5)] = None,
    label: Annotated[str | None, Query(max_length=300)] = None,
    submitter: Annotated[str | None, Query(max_length=200)] = None,
    queue: Annotated[str | None, Query(max_length=250)] = None,
    before: Annotated[int | None, Query(ge=1, lt=1 << 53)] = None,
) -> answers.Jobs:
    """The newest jobs that fit, of the caller's channels.

    `label` is ``NAME`` or ``NAME==VERSION``.
    """
    chosen = Filter(
        channels=caller_of(request).grant.channels,
        states=tuple(state or ()),
        label=label,
        submitter=submitter,
        queue=queue,
        before=before,
    )
    return desk.jobs(chosen)


@router.post("/jobs/retry")
def retry_all(
    label: Annotated[str, Query(min_length=1, max_length=300)], request: Request, desk: AtDesk
) -> answers.Retried:
    """Try again whatever of ``NAME`` or ``NAME==VERSION`` failed, and forget that it did.

    Only in the caller's channels.
    """
    return desk.retry_all(label, caller_of(request).grant.channels)


@router.get("/jobs/{job_id}")
def job(job_id: JobId, desk: AtDesk) -> answers.Job:
    """One job."""
    return desk.job(job_id)


@router.get("/jobs/{job_id}/why")
def why(request: Request, job_id: JobId, desk: AtDesk) -> answers.Reason:
    """Why a job is not running; where it runs; how it ended."""
    return desk.why(job_id, caller_of(request).grant.channels)


@router.get("/jobs/{job_id}/log", response_class=PlainTextResponse, responses=_ERRORS_IN_JSON)
def log(
    job_id: JobId, desk: AtDesk, start: Annotated[int, Query(ge=0, lt=1 << 53)] = 0
) -> StreamingResponse:
    """What there is of a job's log, from the byte `start` on; of its newest try.

    X-Wheelfarm-Attempt is the number of the try.
    """
    first = desk.log_part(job_id, None, start)

    def rest() -> Iterator[bytes]:
        part = first
        while part.data:
            yield part.data
            part = desk.log_part(job_id, part.attempt, part.start + len(part.data))

    headers = {"x-wheelfarm-attempt": str(first.attempt), "cache-control": "no-store"}
    return StreamingResponse(rest(), media_type="text/plain; charset=utf-8", headers=headers)


@router.get(
    "/jobs/{job_id}/log/events",
    response_class=EventSourceResponse,
    responses=_ERRORS_IN_JSON,
    dependencies=[Depends(_known_job)],
)
async def follow_log(
    job_id: JobId, desk: AtDesk, looks: Looks, last: LastEvent = None
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job's log: `log` events with pieces of it, and `end` with the job.

    After a cut, send Last-Event-ID to go on behind it. A new try begins at byte 0.
    """
    async for event in until_trouble(log_events(desk, looks, job_id, parse_log_place(last))):
        yield event


@router.post("/jobs/{job_id}/cancel")
def cancel(job_id: JobId, desk: AtDesk) -> answers.Cancelled:
    """Cancel a job, whoever wants it; a running build is stopped."""
    return desk.cancel(job_id)


@router.post("/jobs/{job_id}/retry")
def retry(job_id: JobId, desk: AtDesk) -> answers.Retried:
    """Try a failed or cancelled job again, and forget that it failed."""
    return desk.retry(job_id)


@router.get("/workers")
def workers(desk: AtDesk) -> answers.Workers:
    """Every worker that is or was there, and in what it differs from the others."""
    return desk.workers()


@router.post("/workers/{worker_id}/drain")
def drain(worker_id: WorkerId, desk: AtDesk) -> answers.Workers:
    """Let a worker take no more jobs; what runs there goes on."""
    return desk.drain(worker_id)


@router.post("/workers/{worker_id}/readmit")
def readmit(worker_id: WorkerId, desk: AtDesk) -> answers.Workers:
    """Let a worker that was drained or set aside take jobs again."""
    return desk.readmit(worker_id)


@router.post("/oidc/mint")
async def mint(identity: answers.Identity, request: Request) -> answers.Minted:
    """A short-lived token for the job of a CI system that the server's settings trust.

    `token` is the identity token (OpenID Connect) that the CI system gave the job.
    """
    minter = request.app.state.minter
    if minter is None:
        raise UntrustedError(
            "this farm trusts no CI system", hint="[[trust]] in the server's wheelfarm.toml"
        )
    address = caller_of(request).actor.address
    mint_one = partial(minter.mint, identity.token, address)
    # A few at a time: an issuer that is slow to answer must not take every thread.
    account, token = await to_thread.run_sync(mint_one, limiter=request.app.state.minting)
    return answers.Minted(
        token=token.text,
        expires_at=account.expires_at,
        scopes=sorted(account.grant.scopes),
        channels=list(account.grant.channels),
    )


@router.get("/queues")
def queues(desk: AtDesk) -> answers.Queues:
    """Depth, age and takers of every queue: what an autoscaler wants to know."""
    return desk.queues()


@router.post("/yank")
def yank(call: SaidStrike, desk: AtDesk) -> answers.Strike:
    """Yank releases (PEP 592): only who pins them gets them still. `dry_run` only looks."""
    return desk.strike("yank", call)


@router.post("/disown")
def disown(call: SaidStrike, desk: AtDesk) -> answers.Strike:
    """Take releases back with all that was built with them: every index, page, file and plan is
    without them from then on. `dry_run` says what that would reach, and changes nothing.
    """
    return desk.strike("disown", call)


@router.post("/yank/undo")
def undo_yank(call: SaidUndo, desk: AtDesk) -> answers.Lifted:
    """Undo a yank by the number of its order, or as far as a selection goes."""
    return desk.undo("yank", call)


@router.post("/disown/undo")
def undo_disown(call: SaidUndo, desk: AtDesk) -> answers.Lifted:
    """Undo a disowning by the number of its order, or as far as a selection goes."""
    return desk.undo("disown", call)


@router.get("/invalidations")
def invalidations(desk: AtDesk) -> answers.Orders:
    """The newest hundred yanks and disownings, undone ones also."""
    return desk.orders()


@router.post("/promote")
def promote(call: SaidPromotion, request: Request, desk: AtDesk) -> answers.Promoted:
    """Have releases of one channel in another one: the same bytes, under the same name.

    It takes the right to publish in the target, and to read the source. `dry_run` only looks.
    """
    check_promotion(request, call)
    return desk.promote(call)


@router.post("/adopt")
async def adopt(call: SaidAdoption, request: Request, desk: AtDesk) -> answers.Adoptions:
    """Take wheels that the farm's index has, verified, into the channel upstream.

    It takes the right to publish there. It is answered when all of them are fetched and judged.
    """
    check_adoption(request)
    # A few at a time: an index that is slow to answer must not take every thread.
    return await to_thread.run_sync(desk.adopt, call, limiter=request.app.state.adopting)
