"""Who may use the farm's API: every route asks the gate, and those whose right hangs on a job, a
submission or a body say more of it here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from store.access import Caller, Rule, check, check_everywhere, rule_of
from store.channel import UPSTREAM, Channel
from store.errors import MalformedError, NotAllowedError, UnauthorizedError
from store.gate import caller_of, gate_of, log_refusal
from workers.farm.calls import SaidCall, SaidPromotion, channels_of, said
from workers.farm.desk import FarmDesk, is_submission

ROOT: Final = "/api"
"""Under which the routes are mounted."""

_MOST_JOBS: Final = 1 << 53


class GatedRoute(APIRoute):
    """A route that asks whether the caller may, before it reads a body."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler behind the gate. Raises LookupError for a route without a rule."""
        handler = super().get_route_handler()
        rules = {method: rule_of(method, ROOT + self.path) for method in self.methods or ()}

        async def gated(request: Request) -> Response:
            await run_in_threadpool(_admit, request, rules[request.method])
            return await handler(request)

        return gated


def check_call(request: Request, call: SaidCall) -> None:
    """Raise unless the caller may have `call` built, in each channel that it would go to."""
    rule = rule_of("POST", ROOT + "/submissions")
    with _refusals_logged(request):
        check(caller_of(request), rule.right, channels_of(call))


def check_adoption(request: Request) -> None:
    """Raise unless the caller may publish in the channel upstream."""
    with _refusals_logged(request):
        check(caller_of(request), rule_of("POST", ROOT + "/adopt").right, [UPSTREAM])


def check_promotion(request: Request, call: SaidPromotion) -> None:
    """Raise unless the caller may publish in the target of `call`, and read its source."""
    rule, move = rule_of("POST", ROOT + "/promote"), call.move()
    with _refusals_logged(request):
        check(caller_of(request), rule.right, [move.target])
        check(caller_of(request), "read", [move.source])


def _admit(request: Request, rule: Rule) -> None:
    caller = gate_of(request).admit(request, rule)
    with _refusals_logged(request):
        if rule.place == "job":
            check(caller, rule.right, [_channel_of_job(request)])
        elif rule.place == "submission":
            _check_submission(request, caller, rule)
    request.state.caller = caller


def _channel_of_job(request: Request) -> Channel:
    word = request.path_params["job_id"]
    if not (word.isascii() and word.isdigit() and 0 < int(word[:20]) < _MOST_JOBS):
        raise MalformedError("not the number of a job", path="path.job_id")
    return Channel(_desk(request).farm.ledger.job(int(word)).channel)


def _check_submission(request: Request, caller: Caller, rule: Rule) -> None:
    word = request.path_params["submission_id"]
    if not is_submission(word):
        raise MalformedError("not the id of a submission", path="path.submission_id")
    row = _desk(request).farm.submissions.get(word)
    if "wanted" in row.call:
        check(caller, rule.right, channels_of(said(row.call)))
    else:  # a run on some machine of the farm's own
        check_everywhere(caller, rule.right)


@contextmanager
def _refusals_logged(request: Request) -> Iterator[None]:
    try:
        yield
    except (UnauthorizedError, NotAllowedError) as error:
        log_refusal(request, error)
        raise


def _desk(request: Request) -> FarmDesk:
    desk = request.app.state.desk
    assert isinstance(desk, FarmDesk)
    return desk
