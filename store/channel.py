"""Channel: a trust domain in the store, part of every URL."""

from __future__ import annotations

import re
from typing import Final, NewType

from store.errors import MalformedError, PolicyError
from store.provenance import Source

Channel = NewType("Channel", str)
"""``release``, or ``dev/NAME``, that passed `parse_channel`."""

RELEASE: Final = Channel("release")
"""The channel of sdists from an index that were pinned by hash."""

_GRAMMAR: Final = re.compile(r"release|dev/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def parse_channel(text: str) -> Channel:
    """`text` as a channel. Raises MalformedError unless it is ``release`` or ``dev/NAME``.

    NAME is 1 to 63 of ``a-z 0-9 . _ -``, with a letter or digit at either end.
    """
    if not _GRAMMAR.fullmatch(text):
        raise MalformedError(f"not a channel: {text[:80]!r}", hint="write release or dev/NAME")
    return Channel(text)


def admit(source: Source, channel: Channel) -> None:
    """Raise PolicyError when wheels of `source` may not enter `channel`.

    The release channel takes what came from an index under a digest that was known beforehand;
    a channel of its own takes everything.
    """
    if channel != RELEASE or (source.origin.kind == "index" and source.origin.pinned):
        return
    origin = f"{source.origin.kind}, {'pinned' if source.origin.pinned else 'not pinned by hash'}"
    raise PolicyError(
        f"{source.filename} ({origin}) may not enter the release channel",
        hint="pin it with --hash=sha256:… from an index, or publish to a channel dev/NAME",
    )
