"""What an index upstream has beside what the store has: listed at its word, served when proved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Protocol

from packaging.utils import NormalizedName

from store.digest import Sha256
from store.fingerprint import Fingerprint
from store.release import Release

MOST_WAITING: Final = 100
"""How many requests may wait at a time for what is brought; each of them takes a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A wheel as a page lists it, that nobody here has looked at yet.

    `sha256` and `metadata_sha256` are what the index gives; what it does not say is None.
    """

    filename: str
    sha256: Sha256
    version: str
    size: int | None
    requires_python: str | None
    metadata_sha256: Sha256 | None
    published_at: datetime | None
    yanked: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Offers:
    """What there is of a project upstream: `yanked` are reasons of files that the store has, by
    file name; `away` says that the index did not answer, so that there may be more."""

    offers: tuple[Offer, ...] = ()
    yanked: Mapping[str, str] = field(default_factory=dict)
    away: bool = False


class Puller(Protocol):
    """Brings what an index has when somebody asks for it."""

    def offers(self, fingerprint: Fingerprint, project: NormalizedName) -> Offers:
        """What may be listed beside what is there; no bytes are fetched.

        Raises NotFoundError where a rule keeps the project from being looked up.
        """

    def file(self, fingerprint: Fingerprint, filename: str) -> Release:
        """The wheel of that name, fetched, verified and published.

        Raises NotFoundError, and a WheelfarmError of 403 for one that is not what it says.
        """

    def metadata(self, fingerprint: Fingerprint, filename: str) -> bytes:
        """Its METADATA as the index has it, held against the hash that the page gives.

        Raises NotFoundError.
        """
