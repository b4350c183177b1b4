"""Release and Widening: what the store says of a published wheel, and of whom else it serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from packaging.tags import Tag

from store.channel import Channel
from store.digest import JSON, Sha256
from store.fingerprint import Fingerprint
from store.provenance import BuildKey
from store.verdict import ProofLevel

WideningReason = Literal["same-content", "abi3", "linkage-free"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A published wheel: blob, fingerprint, channel, BuildKey, and the facts an index shows.

    `size` is in bytes; `published_at` is aware and in UTC; `yanked` is the reason of a yank
    (PEP 592), None when it has none. `disowned` is the number of the order that took the release
    back, None while it stands. `promotion` says whence it was promoted, by whom, when and why.
    `id` is its number in this store's catalogue.
    """

    id: int
    channel: Channel
    fingerprint: Fingerprint
    build_key: BuildKey
    filename: str
    sha256: Sha256
    size: int
    name: str
    version: str
    tags: frozenset[Tag]
    requires_python: str | None
    metadata_sha256: Sha256
    content_sha256: Sha256
    extension_modules: frozenset[str]
    interpreter_bound: tuple[str, ...]
    proof: ProofLevel
    published_at: datetime
    yanked: str | None
    disowned: int | None = None
    promotion: Mapping[str, JSON] | None = None

    def to_json(self) -> dict[str, JSON]:
        """The release as plain JSON, every field but its number."""
        return {
            "channel": self.channel,
            "fingerprint": self.fingerprint,
            "build_key": self.build_key,
            "filename": self.filename,
            "sha256": self.sha256,
            "size": self.size,
            "name": self.name,
            "version": self.version,
            "tags": sorted(map(str, self.tags)),
            "requires_python": self.requires_python,
            "metadata_sha256": self.metadata_sha256,
            "content_sha256": self.content_sha256,
            "extension_modules": sorted(self.extension_modules),
            "interpreter_bound": list(self.interpreter_bound),
            "proof": self.proof,
            "published_at": timestamp(self.published_at),
            "yanked": self.yanked,
            "disowned": self.disowned,
            "promotion": dict(self.promotion) if self.promotion else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Widening:
    """A recorded reason why one release may serve a second fingerprint, with its evidence."""

    release_id: int
    fingerprint: Fingerprint
    reason: WideningReason
    evidence: Mapping[str, JSON]
    recorded_at: datetime

    def to_json(self) -> dict[str, JSON]:
        """The widening as plain JSON."""
        return {
            "fingerprint": self.fingerprint,
            "reason": self.reason,
            "evidence": dict(self.evidence),
            "recorded_at": timestamp(self.recorded_at),
        }


def timestamp(moment: datetime) -> str:
    """`moment` as PEP 700 writes an upload time: ``2026-11-21T06:14:00.000000Z``."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
