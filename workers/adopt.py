"""``wheelfarm adopt``: exact versions, the best wheel of the index for each target, taken in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from packaging.utils import canonicalize_name

from builder.errors import NoSuchVersionError
from builder.index_wheels import ListedWheel, best_wheel, is_version
from store.digest import JSON, Sha256
from store.errors import StoreError, WheelfarmError
from store.fingerprint import Fingerprint, fingerprint_of
from store.release import Release
from store.target import Target
from store.upstream import adoptions_of
from workers.errors import NoWheelError, ServesNobodyError, SystemTroubleError, WheelRefusedError
from workers.markers import applies
from workers.requirements import WantedRelease
from workers.upstream import Upstream

AdoptionStatus = Literal["adopted", "there", "skipped", "refused"]

STOPS: Final = (StoreError, SystemTroubleError)
"""Trouble with which there is no sense in going on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """What became of one version for one target. `listed` is the file of the index that was chosen,
    `filename` its name here; `error` is why it is not here."""

    package: str
    version: str
    target: str
    fingerprint: Fingerprint
    status: AdoptionStatus
    listed: str | None = None
    filename: str | None = None
    sha256: Sha256 | None = None
    error: WheelfarmError | None = None

    def to_json(self) -> dict[str, JSON]:
        """The outcome as plain JSON; findings are those of the wheel that was refused."""
        findings = self.error.findings if isinstance(self.error, WheelRefusedError) else ()
        return {
            "package": self.package,
            "version": self.version,
            "target": self.target,
            "fingerprint": self.fingerprint,
            "status": self.status,
            "listed": self.listed,
            "filename": self.filename,
            "sha256": self.sha256,
            "error": dict(self.error.to_json()) if self.error else None,
            "findings": [finding.to_json() for finding in findings],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Choice:
    """The wheel of the index for some of the targets of one version."""

    wheel: ListedWheel
    targets: dict[str, Target] = field(default_factory=dict)


def adopt(
    upstream: Upstream, wanted: Sequence[WantedRelease], targets: Mapping[str, Target]
) -> Iterator[Adopted]:
    """Take each of `wanted` in for each of `targets`, by name; one outcome each, as it comes.

    What is wrong with one is its outcome. Raises StoreError for trouble that is no wheel's.
    """
    for target in targets.values():
        upstream.store.catalogue.remember_target(target)
    for one in wanted:
        yield from _one(upstream, one, targets)


def _one(
    upstream: Upstream, one: WantedRelease, targets: Mapping[str, Target]
) -> Iterator[Adopted]:
    applying = {name: each for name, each in targets.items() if applies(one.marker, each)}
    for name in targets.keys() - applying.keys():
        yield _outcome(one, name, targets[name], "skipped")
    if not applying:
        return
    try:
        listed = upstream.wheels(canonicalize_name(one.name))
        _check_version(one, listed)
    except STOPS:
        raise
    except WheelfarmError as error:
        for name, target in applying.items():
            yield _outcome(one, name, target, "refused", error=error)
        return
    choices: dict[str, _Choice] = {}
    for name, target in applying.items():
        wheel = best_wheel(listed, one.version, target, one.hashes)
        if wheel is None:
            yield _outcome(one, name, target, "refused", error=_no_wheel(one, name))
        else:
            choices.setdefault(wheel.filename, _Choice(wheel=wheel)).targets[name] = target
    for choice in choices.values():
        yield from _bring(upstream, one, choice)


def _bring(upstream: Upstream, one: WantedRelease, choice: _Choice) -> Iterator[Adopted]:
    wheel, there = choice.wheel, _there(upstream, choice.wheel)
    missing = {
        fingerprint_of(target): target
        for target in choice.targets.values()
        if fingerprint_of(target) not in there
    }
    error: WheelfarmError | None = None
    made: dict[Fingerprint, Release] = {}
    try:
        pinned = bool(one.hashes)
        releases = upstream.bring(wheel, missing, pinned=pinned) if missing else []
        made = {each.fingerprint: each for each in releases}
    except STOPS:
        raise
    except WheelfarmError as trouble:
        error = trouble
    for name, target in choice.targets.items():
        fingerprint = fingerprint_of(target)
        if release := there.get(fingerprint) or made.get(fingerprint):
            status: AdoptionStatus = "there" if fingerprint in there else "adopted"
            yield _outcome(one, name, target, status, wheel=wheel, release=release)
        else:
            why = error or ServesNobodyError(
                f"the tags that hold of {wheel.filename} are not for {name}"
            )
            yield _outcome(one, name, target, "refused", wheel=wheel, error=why)


def _there(upstream: Upstream, wheel: ListedWheel) -> dict[Fingerprint, Release]:
    """The releases that stand of that very file."""
    found = adoptions_of(upstream.store.database, wheel.sha256)
    return {each.release.fingerprint: each.release for each in found if not each.release.disowned}


def _check_version(one: WantedRelease, listed: Sequence[ListedWheel]) -> None:
    """Raise NoSuchVersionError when the index has no wheel of that version at all."""
    if not any(is_version(each, one.version) for each in listed):
        newest = sorted({each.version for each in listed}, reverse=True)[:5]
        raise NoSuchVersionError(
            f"the index has no wheel of {one.name} {one.version}",
            hint=f"it has wheels of {', '.join(map(str, newest)) or 'no version'}",
        )


def _no_wheel(one: WantedRelease, target: str) -> NoWheelError:
    pinned = " with a hash that is given" if one.hashes else ""
    return NoWheelError(
        f"the index has no wheel of {one.name} {one.version}{pinned} that {target} takes",
        hint="`wheelfarm build` builds it from its sdist",
    )


def _outcome(
    one: WantedRelease,
    name: str,
    target: Target,
    status: AdoptionStatus,
    *,
    wheel: ListedWheel | None = None,
    release: Release | None = None,
    error: WheelfarmError | None = None,
) -> Adopted:
    return Adopted(
        package=canonicalize_name(one.name),
        version=one.version,
        target=name,
        fingerprint=fingerprint_of(target),
        status=status,
        listed=wheel.filename if wheel else None,
        filename=release.filename if release else None,
        sha256=release.sha256 if release else None,
        error=error,
    )
