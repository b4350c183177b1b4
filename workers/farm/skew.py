"""In what workers of one farm differ that should be alike: version, toolchain, clock. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from workers.farm.registry import ToolchainFacts, WorkerRow

CLOCK_SECONDS: Final = 5
"""A clock that is off by more is worth a word. Leases do not depend on it."""

Toolchains = Mapping[str, Sequence[ToolchainFacts]]
"""Worker -> its toolchains."""


def skews(workers: Sequence[WorkerRow], toolchains: Toolchains) -> dict[str, list[str]]:
    """Worker -> one sentence for each thing in which it differs from the most of the living."""
    living = [worker for worker in workers if worker.state != "gone"]
    usual = _usual_toolchains(living, toolchains)
    version = _most_common([worker.version for worker in living])
    return {
        worker.id: [
            *_version(worker, version),
            *_toolchain(toolchains.get(worker.id, ()), usual),
            *_clock(worker),
        ]
        for worker in living
    }


def _version(worker: WorkerRow, usual: str | None) -> list[str]:
    if worker.version == usual:
        return []
    return [f"it runs wheelfarm {worker.version}, most others {usual}"]


def _toolchain(own: Sequence[ToolchainFacts], usual: Mapping[str, str | None]) -> list[str]:
    return [
        f"its toolchain for {each.fingerprint} is {each.sha256[:12]}, "
        f"that of most others {str(usual[each.fingerprint])[:12]}"
        for each in own
        if each.sha256 != usual[each.fingerprint]
    ]


def _clock(worker: WorkerRow) -> list[str]:
    ahead = worker.facts.get("clock_ahead_seconds", 0)
    if abs(ahead) <= CLOCK_SECONDS:
        return []
    return [f"its clock is {abs(ahead)} s {'ahead' if ahead > 0 else 'behind'}"]


def _usual_toolchains(living: Sequence[WorkerRow], toolchains: Toolchains) -> dict[str, str | None]:
    """Fingerprint -> the digest of the toolchain that the most living workers have for it."""
    found: dict[str, list[str]] = {}
    for worker in living:
        for each in toolchains.get(worker.id, ()):
            found.setdefault(each.fingerprint, []).append(each.sha256)
    return {fingerprint: _most_common(digests) for fingerprint, digests in found.items()}


def _most_common(values: Sequence[str]) -> str | None:
    """The most frequent value; of equally frequent ones the greatest, so that all agree."""
    counted = Counter(values)
    return max(counted, key=lambda value: (counted[value], value), default=None)
