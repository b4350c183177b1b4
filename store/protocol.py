"""HTTP/1.1 for the server: uvicorn's protocol over llhttp, with bounds, and a short way for what is
ready.

uvicorn reads headers of any length and waits for them for ever; here they are bounded by `MAX_HEAD`
bytes and `HEAD_SECONDS`. An answer that is ready (`store.front`) is written at once, without the
machinery of a request: that is most of what a page costs.
"""

from __future__ import annotations

from asyncio import TimerHandle
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from store.answers import Answer, Question
from store.front import Ready
from store.guard import EVERY_ANSWER, MAX_HEADERS, MAX_PATH

MAX_HEAD: Final = MAX_HEADERS + 2 * MAX_PATH + 4_096
"""Bytes of a request before its body; what the guard refuses more precisely is below it."""
HEAD_SECONDS: Final = 20
_EVERY: Final = b"".join(b"%s: %s\r\n" % pair for pair in EVERY_ANSWER)
_TOO_LARGE: Final = b'{"code":"headers-too-large","message":"the headers are too long","hint":null}'


class BoundedProtocol(HttpToolsProtocol):
    """One connection. `ready` has the answers that need no application; None for none."""

    def __init__(self, *arguments: Any, ready: Ready | None = None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ready = ready
        self._in_head = 0
        self._heads = 0
        self._head_open = False
        self._answered = False
        self._head_timer: TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read on, within the bounds of a head."""
        self._in_head += len(data)
        self._heads = 0
        super().data_received(data)
        if self._head_open and self._in_head > MAX_HEAD:
            self._refuse()
        elif self._head_open and self._head_timer is None:
            self._wait_for_head()

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        self._head_open = True

    def on_headers_complete(self) -> None:
        """Answer at once when the answer is ready, else as uvicorn does."""
        self._stop_waiting()
        self._in_head = 0
        self._head_open = self._answered = False
        self._heads += 1
        if self._ready is not None and self._is_plain():
            target = self.root_path.encode() + self.url
            method, first = self.parser.get_method(), self._heads == 1
            found = self._ready.answer(method, target, self.headers, first=first)
            if found:
                self._answered = True
                self._write(*found)
                return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A body, which nobody waits for where the answer is out already."""
        if not self._answered:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._in_head = 0
        if not self._answered:
            super().on_message_complete()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_plain(self) -> bool:
        """Whether it is the one request at hand, of a client that reads what it is sent."""
        limit = self.limit_concurrency
        return (
            self._is_idle()
            and not self.pipeline
            and not self.flow.write_paused
            and self.url.startswith(b"/")
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and (limit is None or len(self.connections) < limit)
        )

    def _write(self, answer: Answer, question: Question) -> None:
        first = b"".join(b"%s: %s\r\n" % pair for pair in self.server_state.default_headers)
        if answer.is_known_to(question):
            rest = b"".join(b"%s: %s\r\n" % pair for pair in answer.not_modified())
            self._put(304, first + _EVERY + rest + b"\r\n")
        elif self.parser.get_method() == b"GET":
            self._put(200, first + _EVERY + answer.written + answer.body)
            if answer.sent:
                answer.sent()
        else:
            self._put(200, first + _EVERY + answer.written)

    def _put(self, status: int, rest: bytes) -> None:
        self.transport.write(STATUS_LINE[status] + rest)
        if self.access_log:
            self._log(status)
        self.on_response_complete()

    def _log(self, status: int) -> None:
        host = ":".join(map(str, self.client or ()))
        method, target = self.parser.get_method().decode(), self.url.decode("latin-1")
        text = '%s - "%s %s HTTP/%s" %d'  # uvicorn's own
        self.access_logger.info(text, host, method, target, "1.1", status)

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        self.transport.close()

    def _refuse(self) -> None:
        self._stop_waiting()
        lines = [STATUS_LINE[431], b"content-type: application/json\r\nconnection: close\r\n"]
        lines += [b"content-length: %d\r\n\r\n" % len(_TOO_LARGE), _TOO_LARGE]
        self.transport.write(b"".join(lines))
        self.transport.close()
