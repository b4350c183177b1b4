"""Channel: a trust domain in the store, part of every URL; and what a channel inherits."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

from store.errors import MalformedError, PolicyError
from store.provenance import ADOPTED, Source

Channel = NewType("Channel", str)
"""``release``, ``upstream``, or ``dev/NAME``, that passed `parse_channel`."""

RELEASE: Final = Channel("release")
"""The channel of sdists from an index that were pinned by hash."""

UPSTREAM: Final = Channel("upstream")
"""The channel of wheels that an index has, each pinned by the hash that the index gives."""

ANY_DEV: Final = "dev/*"
"""How the settings name every dev channel that has no table of its own."""

_GRAMMAR: Final = re.compile(r"release|upstream|dev/[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inheritance:
    """Which channels list what others have: `named` is channel, or ``dev/*`` -> what it inherits,
    in the order in which they are asked.

    One level, written out: a channel does not inherit what those inherit that it names.
    `pull_through`: what `upstream` lacks is asked of an index when somebody wants it.
    """

    named: Mapping[str, tuple[Channel, ...]] = field(default_factory=dict)
    pull_through: bool = False

    def chain(self, channel: Channel) -> tuple[Channel, ...]:
        """The channels whose wheels the indexes of `channel` list, itself first."""
        others = self.named.get(ANY_DEV, ()) if channel.startswith("dev/") else ()
        inherited = self.named.get(channel, others)
        return (channel, *(each for each in inherited if each != channel))

    def pulls(self, channel: Channel) -> bool:
        """Whether the indexes of `channel` have whatever an index upstream has."""
        return self.pull_through and UPSTREAM in self.chain(channel)

    def heirs(self, known: Sequence[Channel]) -> list[Channel]:
        """Those of `known`, and of the channels that are named, which inherit anything."""
        named = (Channel(name) for name in self.named if name != ANY_DEV)
        return [each for each in dict.fromkeys((*known, *named)) if len(self.chain(each)) > 1]


def parse_inherited(heir: str, texts: Sequence[str]) -> tuple[Channel, ...]:
    """What the channel `heir`, or ``dev/*``, inherits. Raises MalformedError.

    No channel may widen the trust that it stands for: `release` inherits `upstream` at most, where
    each wheel is pinned by hash as well, and `upstream` nothing.
    """
    found = tuple(map(parse_channel, texts))
    if len(set(found)) < len(found) or heir in found:
        raise MalformedError("names a channel twice, or itself")
    if heir == UPSTREAM and found:
        raise MalformedError("must be empty", hint="upstream has the wheels of an index alone")
    if heir == RELEASE and set(found) - {UPSTREAM}:
        raise MalformedError(
            f"release may not inherit {next(each for each in found if each != UPSTREAM)}",
            hint='at most ["upstream"]; `wheelfarm promote` brings single wheels into release',
        )
    return found


def parse_channel(text: str) -> Channel:
    """`text` as a channel. Raises MalformedError unless it is one of the three kinds.

    NAME is 1 to 63 of ``a-z 0-9 . _ -``, with a letter or digit at either end.
    """
    if not _GRAMMAR.fullmatch(text):
        raise MalformedError(
            f"not a channel: {text[:80]!r}", hint="write release, upstream or dev/NAME"
        )
    return Channel(text)


def admit(source: Source, channel: Channel) -> None:
    """Raise PolicyError when wheels of `source` may not enter `channel`.

    The release channel takes what came from an index under a digest that was known beforehand,
    and was built here; upstream takes wheels that an index has, and nothing else; a channel of its
    own takes everything.
    """
    kind, pinned = source.origin.kind, source.origin.pinned
    if channel == UPSTREAM and kind != ADOPTED:
        raise PolicyError(
            f"{source.filename} ({kind}) may not enter the channel upstream",
            hint="upstream has wheels of an index, by `wheelfarm adopt`, and nothing else",
        )
    if channel == RELEASE and not (kind == "index" and pinned):
        origin = f"{kind}, {'pinned' if pinned else 'not pinned by hash'}"
        raise PolicyError(
            f"{source.filename} ({origin}) may not enter the release channel",
            hint="pin it with --hash=sha256:… from an index, or publish to a channel dev/NAME",
        )
