"""Work: one build to do, as a job row keeps it, and the queue of those who can do it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NewType

from store.channel import Channel
from store.digest import JSON, Sha256, digest_of
from store.fingerprint import Fingerprint, fingerprint_of
from store.provenance import BuildInputs, Origin, Pin, Recipe, Source
from store.target import Target, identity_of, target_from_identity

Capability = NewType("Capability", str)
"""What a worker must be able to do for a target: an exact fingerprint, or ``cross-macos-cp311``."""

Queue = NewType("Queue", str)
"""A capability and a class of memory, ``cross-macos-cp311.m1``: where a job waits for a worker."""

_QUEUE: Final = re.compile(r"(?P<capability>[a-z0-9_-]{1,240})\.m(?P<memory>[1-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Everything that is known of a build before it starts, but the toolchain.

    `pins` are a remembered resolution; None asks the worker for a fresh one. The sdist's bytes are
    a blob of the store.
    """

    source: Source
    target: Target
    recipe: Recipe
    channel: Channel
    epoch: int
    pins: tuple[Pin, ...] | None
    salt: str = ""

    @property
    def label(self) -> str:
        """What a person calls it: ``NAME==VERSION``."""
        return f"{self.source.name}=={self.source.version}"

    @property
    def fingerprint(self) -> Fingerprint:
        """The target's fingerprint."""
        return fingerprint_of(self.target)

    @property
    def key(self) -> Sha256:
        """Two works of one key are the same work: one job does for both.

        Where the sdist came from does not count, its bytes do.
        """
        facts = self.to_json() | {"source": [self.label, self.source.sha256]}
        return digest_of(facts)

    @property
    def capability(self) -> Capability:
        """What a worker must be able to do to take it."""
        return capability_of(self.target)

    def inputs(self, toolchain: Mapping[str, JSON], tools: Mapping[str, str]) -> BuildInputs:
        """What goes into the build on a worker with that toolchain and those tools.

        Only where `pins` are known; its ``key`` is the BuildKey.
        """
        assert self.pins is not None
        return BuildInputs(
            source_name=self.source.name,
            source_version=self.source.version,
            source_sha256=self.source.sha256,
            target=identity_of(self.target),
            recipe=self.recipe,
            build_requirements=tuple(sorted(self.pins, key=lambda pin: pin.name)),
            toolchain=toolchain,
            tools=tools,
            epoch=self.epoch,
            salt=self.salt,
        )

    def to_json(self) -> dict[str, JSON]:
        """The work as plain JSON."""
        return {
            "source": self.source.to_json(),
            "target": identity_of(self.target),
            "recipe": self.recipe.to_json(),
            "channel": self.channel,
            "epoch": self.epoch,
            "salt": self.salt,
            "pins": None if self.pins is None else [pin.to_json() for pin in self.pins],
        }


def work_from_json(row: Mapping[str, Any]) -> Work:
    """The work whose `to_json` was `row`. Raises MalformedError for a target that is none."""
    source = dict(row["source"])
    recipe = {name: _hashable(value) for name, value in row["recipe"].items()}
    return Work(
        source=Source(**source | {"origin": Origin(**source["origin"])}),
        target=target_from_identity(row["target"]),
        recipe=Recipe(**recipe),
        channel=Channel(row["channel"]),
        epoch=row["epoch"],
        salt=row.get("salt", ""),  # a job that an older wheelfarm made has none
        pins=None if row["pins"] is None else tuple(Pin(**pin) for pin in row["pins"]),
    )


def capability_of(target: Target) -> Capability:
    """What a worker must be able to do to build for `target`.

    An exact target needs the very interpreter; a portable one a cross compiler and an interpreter
    of the same version to run the backends.
    """
    if target.build is not None:
        return Capability(fingerprint_of(target))
    return Capability(f"cross-{target.baseline.os}-{target.interpreter.abi_tag}")


def queue_of(capability: Capability, memory_class: int) -> Queue:
    """The queue of those who have `capability` and that class of memory, 1 to 3."""
    return Queue(f"{capability}.m{memory_class}")


def parts_of(queue: Queue) -> tuple[Capability, int]:
    """The capability and the class of memory that make `queue`."""
    found = _QUEUE.fullmatch(queue)
    assert found is not None
    return Capability(found["capability"]), int(found["memory"])


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
