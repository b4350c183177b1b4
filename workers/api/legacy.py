"""The upload API that twine and `uv publish` speak, under ``/legacy/`` and ``/CHANNEL/legacy/``.

Its form is that of the first package index (its "Upload API", version 1.0): one POST for each
file. 200 when the file is in, or was before; 409 when its name has other bytes, which is what
``twine upload --skip-existing`` passes over.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from functools import partial
from typing import Final

import anyio
from anyio import CapacityLimiter, to_thread
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive

from store.access import Caller, Rule, check, rule_of
from store.channel import Channel, parse_channel
from store.disk import locked_folder
from store.errors import NotAllowedError, UnauthorizedError, WheelfarmError
from store.gate import gate_of, log_refusal
from workers import door
from workers.api.bodies import bounded
from workers.api.forms import receive_form
from workers.door import Taken, Upload
from workers.farm.desk import FarmDesk
from workers.job import scratch_of

LARGEST_UPLOAD: Final = 1 << 30
"""Bytes of an upload, its fields included."""

_PATHS: Final = ("/legacy/", "/{channel:channel}/legacy/")
_AT_A_TIME: Final = 2
"""How many uploads are looked at at a time; the others wait."""
_MOST_DRAINED: Final = 64 << 20
_SECONDS_TO_DRAIN: Final = 20


class _Body:
    """The body of a request as it comes in; `over` when there is no more of it."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.over = False

    async def __call__(self) -> Message:
        message = await self._receive()
        self.over = message["type"] != "http.request" or not message.get("more_body", False)
        return message


def upload_routes() -> list[Route]:
    """The routes; they look for themselves whether the caller may."""
    return [_route(path, rule_of("POST", path)) for path in _PATHS]


def new_limiter() -> CapacityLimiter:
    """What keeps uploads from taking the whole server."""
    return CapacityLimiter(_AT_A_TIME)


def _route(path: str, rule: Rule) -> Route:
    async def upload(request: Request) -> Response:
        body = _Body(bounded(request.receive, LARGEST_UPLOAD))
        try:
            caller, channel = await run_in_threadpool(_admit, request, rule)
            taken = await _taken(Request(request.scope, body), caller, channel)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it
        except HTTPException as error:
            raise _own(error) from error
        except WheelfarmError:
            await _drain(body)
            raise
        return JSONResponse(taken.to_json())

    return Route(path, upload, methods=["POST"], name="upload")


def _admit(request: Request, rule: Rule) -> tuple[Caller, Channel]:
    caller = gate_of(request).admit(request, rule)
    named = request.path_params.get("channel")
    if named is not None:
        return caller, parse_channel(named)
    channel = _desk(request).farm.settings.upload.default_channel
    try:
        check(caller, rule.right, [channel])
    except (UnauthorizedError, NotAllowedError) as error:
        log_refusal(request, error)
        raise
    return caller, channel


async def _taken(request: Request, caller: Caller, channel: Channel) -> Taken:
    desk = _desk(request)
    scratch = scratch_of(desk.farm.settings.cache)
    with ExitStack() as stack:
        folder = await run_in_threadpool(stack.enter_context, locked_folder(scratch))
        kind = request.headers.get("content-type", "")
        upload = await receive_form(kind, request.stream(), folder)
        taking = partial(_take, upload, desk, caller, channel)
        return await to_thread.run_sync(taking, limiter=request.app.state.uploading)


def _take(upload: Upload, desk: FarmDesk, caller: Caller, channel: Channel) -> Taken:
    return door.take(upload, desk, caller.actor, channel)


def _own(error: HTTPException) -> Exception:
    """The error that the bound of the body stands for."""
    return error.__cause__ if isinstance(error.__cause__, WheelfarmError) else error


async def _drain(body: _Body) -> None:
    """Read on for a while what is refused: many a client sends all of it before it looks for an
    answer, and a connection that is closed meanwhile loses the answer."""
    left = _MOST_DRAINED
    with suppress(HTTPException), anyio.move_on_after(_SECONDS_TO_DRAIN):
        while left > 0 and not body.over:
            left -= len((await body()).get("body", b""))


def _desk(request: Request) -> FarmDesk:
    desk = request.app.state.desk
    assert isinstance(desk, FarmDesk)
    return desk
