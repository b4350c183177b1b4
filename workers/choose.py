"""Which wheels of one index an environment gets that asks for some projects: a resolver's choice.

The index of a fingerprint holds only wheels that are right for it, so that what is left to choose
is versions: by resolvelib, pip's own algorithm, over the metadata that the store has.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, partial
from typing import Any, Final, TypeAlias

from packaging.markers import Marker
from packaging.metadata import InvalidMetadata, Metadata
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name
from packaging.version import Version
from resolvelib import (
    AbstractProvider,
    BaseReporter,
    ResolutionImpossible,
    ResolutionTooDeep,
    Resolver,
)
from resolvelib.structs import RequirementInformation

from store.channel import UPSTREAM, Channel
from store.fingerprint import Fingerprint
from store.publish import Store
from store.release import Release
from store.target import Target, tag_order
from workers.errors import NoChoiceError
from workers.markers import marker_environment

_ROUNDS: Final = 20_000
"""Steps of the search; pip gives up after ten times as many."""
_TOLD: Final = 8

Key: TypeAlias = tuple[NormalizedName, frozenset[str]]
Wish: TypeAlias = "RequirementInformation[Requirement, Candidate]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """One wheel, and those of the other chosen projects that it asks for, by name."""

    release: Release
    needs: tuple[NormalizedName, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A wheel with the extras of it that are asked for."""

    release: Release
    extras: frozenset[str]

    @cached_property
    def version(self) -> Version:
        """The version, to be compared."""
        return Version(self.release.version)

    def __str__(self) -> str:
        return f"{self.release.name} {self.release.version}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Index:
    """The wheels of one index, and what each of them asks for there."""

    store: Store
    target: Target
    by_project: Mapping[NormalizedName, Sequence[Release]]
    _read: dict[str, tuple[Requirement, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Store, channel: Channel, fingerprint: Fingerprint, target: Target) -> Index:
        """The index as it is now."""
        by_project: dict[NormalizedName, list[Release]] = {}
        for release in store.catalogue.listing(channel, fingerprint):
            by_project.setdefault(canonicalize_name(release.name), []).append(release)
        return cls(store=store, target=target, by_project=by_project)

    def requirements(self, release: Release) -> tuple[Requirement, ...]:
        """What the wheel's METADATA asks for. Raises NoChoiceError when it cannot be read."""
        if release.filename not in self._read:
            data = self.store.blobs.read(release.metadata_sha256)
            try:
                found = Metadata.from_email(data, validate=False).requires_dist or []
            except (InvalidMetadata, ExceptionGroup) as error:
                message = f"the metadata of {release.filename} cannot be read: {error}"
                raise NoChoiceError(message[:500]) from error
            self._read[release.filename] = tuple(found)
        return self._read[release.filename]


def choose(index: Index, wanted: Iterable[Requirement]) -> tuple[Chosen, ...]:
    """The wheels that `wanted` gets there, with all that they ask for; sorted by name.

    The newest version that fits; of two wheels of one version the one published last. Yanked ones
    only for an exact pin (PEP 592), pre-releases only where a specifier says so or there is nothing
    else (PEP 440). Raises NoChoiceError, with what stands against what, when nothing fits.
    """
    resolver: Resolver[Requirement, Candidate, Key] = Resolver(_Provider(index), BaseReporter())
    asked = [each for each in wanted if _applies(each.marker, index.target, frozenset())]
    try:
        result = resolver.resolve(asked, max_rounds=_ROUNDS)
    except ResolutionImpossible as error:
        raise _no_choice(index, error.causes) from error
    except ResolutionTooDeep as error:
        hint = "pin the versions of some of the projects"
        raise NoChoiceError(f"no choice in {_ROUNDS} steps", hint=hint) from error
    return _by_project(index, result.mapping.values())


def _by_project(index: Index, candidates: Iterable[Candidate]) -> tuple[Chosen, ...]:
    """One entry for a project, whatever extras of it were asked for."""
    extras: dict[str, set[str]] = {}
    releases: dict[str, Release] = {}
    for one in candidates:
        releases[one.release.name] = one.release
        extras.setdefault(one.release.name, set()).update(one.extras)
    return tuple(
        Chosen(release=releases[name], needs=_needs(index, releases[name], extras[name]))
        for name in sorted(releases)
    )


def _needs(index: Index, release: Release, extras: Iterable[str]) -> tuple[NormalizedName, ...]:
    asked = _asked_by(index, release, frozenset(extras))
    return tuple(sorted({canonicalize_name(each.name) for each in asked}))


def _asked_by(index: Index, release: Release, extras: frozenset[str]) -> Iterator[Requirement]:
    for requirement in index.requirements(release):
        if _applies(requirement.marker, index.target, extras):
            yield requirement


def _applies(marker: Marker | None, target: Target, extras: frozenset[str]) -> bool:
    if marker is None:
        return True
    environment = marker_environment(target)
    return any(marker.evaluate({**environment, "extra": extra}) for extra in extras or {""})


class _Provider(AbstractProvider[Requirement, Candidate, Key]):
    """What resolvelib asks (resolvelib.AbstractProvider)."""

    def __init__(self, index: Index) -> None:
        self._index = index

    def identify(self, requirement_or_candidate: Requirement | Candidate) -> Key:
        """The project, apart for each set of extras: a candidate of it asks for other things."""
        one = requirement_or_candidate
        name = one.release.name if isinstance(one, Candidate) else one.name
        return canonicalize_name(name), frozenset(map(canonicalize_name, one.extras))

    def get_preference(
        self,
        identifier: Key,
        resolutions: Mapping[Key, Candidate],  # noqa: ARG002
        candidates: Mapping[Key, Iterator[Candidate]],  # noqa: ARG002
        information: Mapping[Key, Iterator[Wish]],
        backtrack_causes: Sequence[Wish],
    ) -> tuple[bool, bool, NormalizedName]:
        """First what stood in the way, then what is pinned; by name, for the same end again."""
        name = identifier[0]
        in_the_way = any(
            name == canonicalize_name(one.requirement.name) for one in backtrack_causes
        )
        pinned = any(_pins(one.requirement.specifier) for one in information[identifier])
        return not in_the_way, not pinned, name

    def find_matches(
        self,
        identifier: Key,
        requirements: Mapping[Key, Iterator[Requirement]],
        incompatibilities: Mapping[Key, Iterator[Candidate]],
    ) -> list[Candidate]:
        """The candidates that fit all `requirements`, the best of them first."""
        asked = list(requirements[identifier])
        if any(one.url for one in asked):
            return []
        barred = {one.release.filename for one in incompatibilities[identifier]}
        fitting = _fitting(self._index, identifier[0], [one.specifier for one in asked])
        found = [Candidate(release=each, extras=identifier[1]) for each in fitting]
        return [one for one in found if one.release.filename not in barred]

    def is_satisfied_by(self, requirement: Requirement, candidate: Candidate) -> bool:
        """Whether the candidate, found for some requirements, fits one more."""
        if requirement.url:
            return False
        return requirement.specifier.contains(candidate.version, prereleases=True)

    def get_dependencies(self, candidate: Candidate) -> list[Requirement]:
        """What the wheel asks for; with extras, the same version without them as well."""
        release = candidate.release
        asked = list(_asked_by(self._index, release, candidate.extras))
        if candidate.extras:
            asked.append(Requirement(f"{release.name}=={release.version}"))
        return asked


def _fitting(
    index: Index, name: NormalizedName, specifiers: Sequence[SpecifierSet]
) -> list[Release]:
    """The project's wheels that fit, newest version first, of each the one published last."""
    pinned = any(map(_pins, specifiers))
    there = [
        release
        for release in index.by_project.get(name, ())
        if (pinned or release.yanked is None) and _runs(release, index.target)
    ]
    both = SpecifierSet()
    for one in specifiers:
        both &= one
    versions = set(both.filter({Version(release.version) for release in there}))
    fitting = [release for release in there if Version(release.version) in versions]
    return sorted(fitting, key=partial(_preference, index.target), reverse=True)


def _preference(target: Target, release: Release) -> tuple[Version, int, datetime]:
    """Of the wheels that an index upstream has of a version, the one whose tags fit best."""
    order = tag_order(target) if release.channel == UPSTREAM else {}
    place = min((order[tag] for tag in release.tags if tag in order), default=0)
    return Version(release.version), -place, release.published_at


def _pins(specifiers: SpecifierSet) -> bool:
    return any(
        one.operator == "===" or (one.operator == "==" and not one.version.endswith(".*"))
        for one in specifiers
    )


def _runs(release: Release, target: Target) -> bool:
    """Whether Requires-Python lets it; the micro version is not the target's to say."""
    if release.requires_python is None:
        return True
    full = marker_environment(target)["python_full_version"]
    return SpecifierSet(release.requires_python).contains(full, prereleases=True)


def _no_choice(index: Index, causes: Collection[Any]) -> NoChoiceError:
    """Who asks for what, and which versions the index has of it."""
    asked = dict.fromkeys(
        f"{one.requirement} (asked for by {one.parent or 'you'})" for one in causes
    )
    lines = [*asked][:_TOLD]
    more = f" and {len(asked) - _TOLD} more" if len(asked) > _TOLD else ""
    names = sorted({canonicalize_name(one.requirement.name) for one in causes})[:_TOLD]
    there = "; ".join(f"{name}: {_versions(index, name)}" for name in names)
    return NoChoiceError(
        f"no set of wheels fits {', '.join(lines)}{more}",
        hint=f"the index has {there}; `wheelfarm build` builds what is missing",
    )


def _versions(index: Index, name: NormalizedName) -> str:
    found = sorted({Version(one.version) for one in index.by_project.get(name, ())}, reverse=True)
    return ", ".join(map(str, found[:_TOLD])) or "nothing"
