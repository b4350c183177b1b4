"""Server-sent events as a client reads them (WHATWG HTML, section 9.2), across lost connections."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from workers.errors import ServerError

PATIENCE_SECONDS: Final = 1_800
"""How long a server may be away before a follower gives up."""
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 15.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
    """One event: its kind, its data as text, and the id to come back with."""

    kind: str
    data: str
    id: str | None


Open = Callable[[str | None], Iterator[ServerEvent]]
"""Opens a stream behind an id; raises ServerError when it breaks."""


def read_events(lines: Iterable[bytes]) -> Iterator[ServerEvent]:
    """The events in the lines of a stream. Comments and what is cut short at the end are left."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        if line and name:
            fields[name] = f"{fields[name]}\n{value}" if name == "data" in fields else value
        elif not line and "data" in fields:
            kind = fields.get("event", "message")
            yield ServerEvent(kind=kind, data=fields["data"], id=fields.get("id"))
        if not line:
            fields = {}


class Patience:
    """Waits longer and longer for a server, and gives up in the end; `reward` begins anew."""

    def __init__(self, tell: Callable[[str], None] = lambda _: None) -> None:
        self._tell = tell
        self.reward()

    def reward(self) -> None:
        """The server has answered."""
        self._pause, self._until = _FIRST_PAUSE, time.monotonic() + PATIENCE_SECONDS

    def wait(self, error: ServerError) -> None:
        """Wait before the next try. Raises `error` when that is over."""
        if time.monotonic() > self._until:
            raise error
        self._tell(f"{error.message}; trying again in {self._pause:g} s")
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)


def patiently(ask: Callable[[], T], patience: Patience) -> T:
    """What `ask` gives once the server answers. Raises ServerError after a long time."""
    while True:
        try:
            answer = ask()
        except ServerError as error:
            patience.wait(error)
        else:
            patience.reward()
            return answer


def followed(open_stream: Open, patience: Patience) -> Iterator[ServerEvent]:
    """The events up to the one that is called ``end``, from as many connections as it takes."""
    last: str | None = None
    while True:
        try:
            for event in open_stream(last):
                patience.reward()
                last = event.id or last
                yield event
                if event.kind == "end":
                    return
            raise ServerError("the server ended the stream before its end")  # noqa: TRY301
        except ServerError as error:
            patience.wait(error)
