"""Which index is right for an environment: the one answer, or the nearest ones and why not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from store.catalogue import Catalogue
from store.channel import Channel
from store.digest import JSON
from store.environment import Environment
from store.fingerprint import Fingerprint, fingerprint_of
from store.match import NearMiss, match

DEFAULT_PORT: Final = 8484
"""Where `wheelfarm serve` listens when it is not told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The index of one channel for an environment: `fingerprint`, or None and the nearest ones.

    `elsewhere` are the other channels that have one.
    """

    channel: Channel
    fingerprint: Fingerprint | None
    nearest: tuple[NearMiss, ...]
    elsewhere: tuple[Channel, ...] = ()

    def to_json(self, base_url: str) -> dict[str, JSON]:
        """The answer as plain JSON, its URLs under `base_url`; an error's form without a match."""
        if self.fingerprint is None:
            return self._miss()
        index = index_url(base_url, self.channel, self.fingerprint)
        return {
            "channel": self.channel,
            "fingerprint": self.fingerprint,
            "index_url": f"{index}simple/",
            "links_url": f"{index}links/",
        }

    def _miss(self) -> dict[str, JSON]:
        hint = "build for it: `wheelfarm build --target native`; the nearest indexes follow"
        if self.elsewhere:
            hint = f"another channel has one: --channel {self.elsewhere[0]}"
        return {
            "code": "no-match",
            "message": f"the channel {self.channel} has no index for this environment",
            "hint": hint,
            "channel": self.channel,
            "other_channels": list(self.elsewhere),
            "nearest": [_near_json(near) for near in self.nearest],
        }


def resolve(catalogue: Catalogue, channel: Channel, environment: Environment) -> Resolution:
    """The index of `channel` whose target `environment` satisfies best. Raises StoreError."""
    found = match(environment, catalogue.targets(channel).values())
    if found.best is not None:
        return Resolution(channel=channel, fingerprint=fingerprint_of(found.best), nearest=())
    return Resolution(
        channel=channel,
        fingerprint=None,
        nearest=found.nearest,
        elsewhere=_channels_for(catalogue, environment),
    )


def _channels_for(catalogue: Catalogue, environment: Environment) -> tuple[Channel, ...]:
    channels = dict.fromkeys(index.channel for index in catalogue.indexes())
    return tuple(
        channel
        for channel in channels
        if match(environment, catalogue.targets(channel).values()).best is not None
    )


def index_url(base_url: str, channel: Channel, fingerprint: Fingerprint) -> str:
    """Where an index is served, with a slash at its end; ``simple/`` and ``links/`` are in it."""
    return f"{base_url.rstrip('/')}/{quote(channel)}/{quote(fingerprint, safe='')}/"


def _near_json(near: NearMiss) -> dict[str, JSON]:
    return {
        "fingerprint": fingerprint_of(near.target),
        "differences": [difference.to_json() for difference in near.differences],
    }
