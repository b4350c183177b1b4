"""The gate before every route that reads a body: its size, and the time that it may take."""

from __future__ import annotations

import time
from typing import Final

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store.errors import BodyTimeoutError, BodyTooLargeError, WheelfarmError
from workers.farm.calls import LARGEST_CALL

LARGEST_SDIST: Final = 512 << 20
"""Bytes of an sdist that may be uploaded."""

_PAUSE_SECONDS: Final = 30
"""How long a client may send nothing in the middle of a body."""
_WHOLE_SECONDS: Final = 900


class BoundedBody:
    """Ends a request whose body is too long or too slow, with 413 or 408."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Other kinds of scope pass."""
        if scope["type"] == "http":
            limit = LARGEST_SDIST if scope["method"] == "PUT" else LARGEST_CALL
            receive = bounded(receive, limit)
        await self._app(scope, receive, send)


def bounded(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises for a body of more than `limit` bytes, or one that is too slow."""
    until, size, whole = time.monotonic() + _WHOLE_SECONDS, 0, False

    async def receiving() -> Message:
        nonlocal size, whole
        if whole:  # what comes now is the client's leaving, which may take long
            return await receive()
        message = await _in_time(receive, min(_PAUSE_SECONDS, until - time.monotonic()))
        size += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if size > limit:
            raise _refused(BodyTooLargeError(f"the body is longer than {limit} bytes"))
        return message

    return receiving


async def _in_time(receive: Receive, seconds: float) -> Message:
    try:
        with anyio.fail_after(seconds):
            return await receive()
    except TimeoutError:
        raise _refused(BodyTimeoutError(f"no whole body in {_WHOLE_SECONDS} s")) from None


def _refused(error: WheelfarmError) -> HTTPException:
    """The framework lets its own kind of error alone pass while it reads a body."""
    refusal = HTTPException(error.http_status, error.message)
    refusal.__cause__ = error
    return refusal
