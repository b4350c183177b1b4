"""What stands before the routes: an answer that is ready goes out, everything else is handed on.

Who sends a token is handed on: an answer that is ready is for the routes to give, behind the gate.

Pure ASGI. A server that can may ask `ready` itself, before it makes a request of what it read
(`store.protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from store.answers import Answer, Answers, Asking, Headers, Question
from store.database import Database
from store.errors import StoreError

ASKING: Final = "wheelfarm.asking"
"""Where in a request's scope its `Asking` is, when its answer may be kept."""


class Watch:
    """Looks at the generation of a catalogue, for each request after it came."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next: asyncio.Future[Hashable] | None = None
        self._looking: asyncio.Task[None] | None = None

    @property
    def is_quick(self) -> bool:
        """Whether `now` asks nobody else."""
        return not self._database.in_postgresql

    def now(self) -> Hashable:
        """The generation; None when it cannot be had. Only where it `is_quick`."""
        try:
            return self._database.generation()
        except StoreError:
            return None

    async def later(self) -> Hashable:
        """The generation, asked for after the call; one look serves all who wait for it."""
        if self.is_quick:
            return self.now()
        if self._next is None:
            self._next = asyncio.get_running_loop().create_future()
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._next)

    async def _look(self) -> None:
        while self._next is not None:
            asked, self._next = self._next, None
            found = None
            try:
                found = await run_in_threadpool(self.now)
            finally:
                if not asked.done():
                    asked.set_result(found)


class Front:
    """Answers from what is ready; else lets the application answer, and says what may be kept."""

    def __init__(self, app: ASGIApp, answers: Answers, watch: Watch) -> None:
        self._app = app
        self._answers = answers
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request. Other kinds of scope (lifespan) pass."""
        question = self._question(scope) if scope["type"] == "http" else None
        generation = await self._watch.later() if question else None
        if question is None or generation is None:
            await self._app(scope, receive, send)
            return
        answer = None if question.personal else self._answers.find(question, generation)
        if answer:
            await _send(answer, question, scope["method"], send)
            return
        scope[ASKING] = Asking(question=question, generation=generation)
        await self._app(scope, receive, send)

    def _question(self, scope: Scope) -> Question | None:
        raw, query = scope.get("raw_path"), scope["query_string"]
        if raw is None:
            return None
        target = raw.partition(b"?")[0] + (b"?" + query if query else b"")
        return self._answers.question(scope["method"], target, scope["headers"])


class Ready:
    """The answers that are ready this moment, where that can be known at once.

    One look at the catalogue serves all requests of one turn of the event loop: they had begun to
    arrive when the loop asked which connections have something, before the look.
    """

    def __init__(self, answers: Answers, watch: Watch) -> None:
        self._answers = answers
        self._watch = watch
        self._seen: Hashable = None

    def answer(
        self, method: bytes, target: bytes, headers: Headers, *, first: bool = True
    ) -> tuple[Answer, Question] | None:
        """The answer to a request, and its question; None when the application has to be asked.

        `first`: it is the first one of what its connection had to read in this turn.
        """
        question = self._answers.question(method, target, headers)
        if question is None or question.personal:
            return None
        if self._seen is None or not first:
            self._look()
        found = self._answers.find(question, self._seen) if self._seen is not None else None
        return (found, question) if found else None

    def _look(self) -> None:
        self._seen = self._watch.now()
        asyncio.get_running_loop().call_soon(self._forget)  # before the loop reads again

    def _forget(self) -> None:
        self._seen = None


async def _send(answer: Answer, question: Question, method: str, send: Send) -> None:
    known = answer.is_known_to(question)
    headers = answer.not_modified() if known else answer.headers
    status = 304 if known else 200
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    with_body = not known and method != "HEAD"
    if with_body and answer.sent:
        answer.sent()
    await send({"type": "http.response.body", "body": answer.body if with_body else b""})
