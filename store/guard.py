"""The gate before every route: sizes, the path as it was sent, and headers of every answer.

Pure ASGI, so that it sees what the client wrote and not what was made of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from store.errors import HeadersTooLargeError, MalformedError, WheelfarmError
from store.pages import STYLE

MAX_HEADERS: Final = 16 * 1024
"""Bytes of all headers of one request together."""
MAX_PATH: Final = 2_048
"""Bytes of a path, and of a query."""

_LOG: Final = logging.getLogger("wheelfarm.serve")
_ENCODED_SEPARATOR: Final = re.compile(rb"%(2f|5c|00)", re.IGNORECASE)
_STYLE_DIGEST: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
_CSP: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_DIGEST}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

EVERY_ANSWER: Final = (
    (b"content-security-policy", _CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)
"""Headers that every answer has."""


class Guard:
    """Answers a malformed or oversized request itself; hands every other one on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Other kinds of scope (lifespan) pass."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guarded = _Sending(send)
        try:
            check_request(scope)
        except WheelfarmError as error:
            refusal = JSONResponse(error.to_json(), status_code=error.http_status)
            await refusal(scope, receive, guarded)
            return
        try:
            await self._app(scope, receive, guarded)
        except asyncio.CancelledError:
            # The server stops, and has waited for what it had begun as long as it does.
            _LOG.warning("%s is given up: the server stops", scope["method"])
            if not guarded.has_begun:
                await _stopping()(scope, receive, guarded)


def check_request(scope: Scope) -> None:
    """Raise HeadersTooLargeError or MalformedError for a request that no client of ours sends."""
    if sum(len(name) + len(value) for name, value in scope["headers"]) > MAX_HEADERS:
        raise HeadersTooLargeError(f"the headers are longer than {MAX_HEADERS} bytes")
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogateescape")
    if len(raw) > MAX_PATH or len(scope["query_string"]) > MAX_PATH:
        raise HeadersTooLargeError(f"the path or the query is longer than {MAX_PATH} bytes")
    if not _is_plain(raw.partition(b"?")[0]):
        raise MalformedError(
            "the path has an encoded separator, an empty or dotted segment, or is not UTF-8",
            hint="take links as they stand on the index's pages",
        )


def _is_plain(raw: bytes) -> bool:
    if _ENCODED_SEPARATOR.search(raw):
        return False
    try:
        path = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        return False
    segments = path.split("/")[1:]
    return path.isprintable() and "\\" not in path and not _has_trick(segments)


def _has_trick(segments: list[str]) -> bool:
    """An empty segment is a trick everywhere but at the end."""
    return "" in segments[:-1] or "." in segments or ".." in segments


def _stopping() -> Response:
    body = {"code": "stopping", "message": "the server stops: ask again", "hint": None}
    return JSONResponse(body, status_code=503, headers={"retry-after": "5"})


class _Sending:
    """Sends on, with the headers of every answer; knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            message["headers"] = [*message.get("headers", ()), *EVERY_ANSWER]
        await self._send(message)
