"""Server-sent events as a client reads them (WHATWG HTML, section 9.2), across lost connections."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from workers.errors import ServerError
from workers.farm.patience import Patience


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
