"""Answers that are ready: pages, packed, and small files, as they were sent the last time.

A page is the same as long as nobody changed what it is made of, and whether somebody did is asked
for each request anew (`Database.generation`): every process and every machine that writes is seen
by the next request. So an answer is never old, and never has to be thrown away by who changes
something. What an answer depends on beside the catalogue is in its question (path, query,
`Accept`, `Accept-Encoding`, whether a token came along), or keeps it from being kept: a range, a
client of another fingerprint. What was answered to a token goes to tokens only, and to each after
the gate has let it in. The settings of a server do not change while it runs, but a rule of theirs
may look at the clock: nothing is kept for longer than a minute.
"""

from __future__ import annotations

import gzip
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import zstandard

from store.errors import MalformedError
from store.fingerprint import parse_fingerprint
from store.user_agent import mismatches

MOST_BYTES: Final = 64 << 20
"""Of all answers that are kept."""
LARGEST: Final = 4 << 20
"""Bytes of an answer that is worth keeping."""
_SECONDS: Final = 60
_OVERHEAD: Final = 1_000
_SMALLEST_PACKED: Final = 400
_LONGEST_PATH: Final = 600
_LONGEST_HEADER: Final = 1_000
_MOST_AGENTS: Final = 4_096
_FILES: Final = b"files"
_FOLDERS: Final = (b"simple", b"links", _FILES)
_LEVELS: Final = {"gzip": 6, "zstd": 9}

Headers = Iterable[tuple[bytes, bytes]]


def pack(body: bytes, coding: str) -> bytes:
    """`body` in that content coding; the same bytes each time."""
    if coding == "gzip":
        return gzip.compress(body, _LEVELS[coding], mtime=0)
    return zstandard.ZstdCompressor(level=_LEVELS[coding]).compress(body)


def is_worth_packing(body: bytes) -> bool:
    """Whether it is long enough to become shorter by more than a header."""
    return len(body) >= _SMALLEST_PACKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: the `key` of all that an answer depends on, and what the client has (its
    ``If-None-Match``)."""

    key: tuple[bytes, bytes, bytes, bool]
    known: bytes

    @property
    def personal(self) -> bool:
        """Whether by a token, so that the gate comes before any answer."""
        return self.key[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """A question, and the generation of the catalogue before it was answered."""

    question: Question
    generation: Hashable


@dataclass(frozen=True, kw_only=True)  # no slots: what is made of it once is kept in it
class Answer:
    """An answer of status 200, with all of its headers but those that every answer has.

    `etag` is a strong one. `sent` is called each time that somebody asks for the body.
    """

    etag: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    sent: Callable[[], None] | None = None

    @property
    def memory(self) -> int:
        """About how many bytes it takes."""
        return len(self.body) + _OVERHEAD

    def is_known_to(self, question: Question) -> bool:
        """Whether the client has it already."""
        return bool(question.known) and names_etag(question.known.decode("latin-1"), self.etag)

    def not_modified(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers of the 304 in its place (RFC 9110, section 15.4.5).

        Not where nginx finds the file: it would send that instead.
        """
        dropped = (b"content-", b"x-accel-")
        return tuple(pair for pair in self.headers if not pair[0].startswith(dropped))

    @cached_property
    def written(self) -> bytes:
        """Its headers as they are written, to their end."""
        return b"".join(b"%s: %s\r\n" % pair for pair in self.headers) + b"\r\n"


def names_etag(named: str, etag: str) -> bool:
    """Whether If-None-Match names `etag`, weakly compared (RFC 9110, section 13.1.2)."""
    return named.strip() == "*" or etag in re.findall(r'(?:W/)?("[^"]*")', named)


class Answers:
    """The answers of one server, the ones asked for last. One thread at a time finds; any keeps."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._kept: OrderedDict[tuple[bytes, bytes, bytes, bool], tuple[Hashable, float, Answer]]
        self._kept = OrderedDict()
        self._bytes = 0
        self._guard = threading.Lock()
        self._agents: dict[tuple[bytes, bytes], bool] = {}

    def question(self, method: bytes | str, target: bytes, headers: Headers) -> Question | None:
        """The question in a request for `target` (path and query); None for one whose answer is
        not worth keeping."""
        if method not in _METHODS or len(target) > _LONGEST_PATH:
            return None
        said: dict[bytes, bytes] = {}
        for name, value in headers:
            if name in _HEARD:
                if name in said or name in _REFUSED or len(value) > _LONGEST_HEADER:
                    return None
                said[name] = value
        fingerprint, folder = _index_in(target)
        if not self._suits(said.get(b"user-agent", b""), fingerprint):
            return None
        form = (b"", b"")  # a file has one only
        if folder != _FILES:
            form = (said.get(b"accept", b""), said.get(b"accept-encoding", b""))
        known, personal = said.get(b"if-none-match", b""), b"authorization" in said
        return Question(key=(target, *form, personal), known=known)

    def find(self, question: Question, generation: Hashable) -> Answer | None:
        """The answer that was kept of that generation."""
        held = self._kept.get(question.key)
        if held is None or held[0] != generation or held[1] < time.monotonic():
            return None
        return held[2]

    def keep(self, asking: Asking, answer: Answer) -> None:
        """Keep an answer for those who ask the same, unless it is large."""
        if len(answer.body) > LARGEST:
            return
        until = time.monotonic() + _SECONDS
        place = asking.question.key
        with self._guard:
            old = self._kept.pop(place, None)
            self._kept[place] = (asking.generation, until, answer)
            self._bytes += answer.memory - (old[2].memory if old else 0)
            while self._bytes > self._most and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1][2].memory

    def _suits(self, agent: bytes, fingerprint: bytes) -> bool:
        """Whether the client says nothing of itself that speaks against the index."""
        fits = self._agents.get((agent, fingerprint))
        if fits is None:
            fits = _fits(agent.decode("latin-1"), fingerprint.decode("latin-1"))
            if len(self._agents) >= _MOST_AGENTS:
                self._agents = {}
            self._agents[agent, fingerprint] = fits
        return fits


_METHODS: Final = (b"GET", b"HEAD", "GET", "HEAD")
_REFUSED: Final = frozenset({b"range", b"cookie"})
_HEARD: Final = _REFUSED | {
    b"accept",
    b"accept-encoding",
    b"authorization",
    b"if-none-match",
    b"user-agent",
}


def _fits(agent: str, fingerprint: str) -> bool:
    if not fingerprint:
        return True
    try:
        return not mismatches(agent, parse_fingerprint(fingerprint))
    except MalformedError:
        return False


def _index_in(target: bytes) -> tuple[bytes, bytes]:
    """The folder of an index that the path leads into, and the segment before it, which is the
    fingerprint; empty where there is none."""
    parts = target.partition(b"?")[0].split(b"/")
    for folder in _FOLDERS:
        if folder in parts[2:]:
            return parts[parts.index(folder, 2) - 1], folder
    return b"", b""
