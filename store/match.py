"""Which target an environment satisfies, and where two differ: field by field, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from store.digest import JSON, canonical_json
from store.environment import Environment
from store.target import Baseline, Target, identity_of

NEAREST: Final = 3
"""How many of the nearest targets a match without a best one names."""

NOT_MEASURED: Final = "not measured"
"""Stands for the value of a ``build.*`` field of a portable target, which has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One identity field in which two sides differ. `at_least` says that more would do, too."""

    field: str
    wanted: JSON
    found: JSON
    at_least: bool = False

    def __str__(self) -> str:
        or_later = " or later" if self.at_least else ""
        return f"{self.field}: wanted {_shown(self.wanted)}{or_later}, found {_shown(self.found)}"

    def to_json(self) -> dict[str, JSON]:
        """The difference as plain JSON, with its sentence."""
        return {
            "field": self.field,
            "wanted": self.wanted,
            "found": self.found,
            "message": str(self),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """A target that an environment does not satisfy, and the fields that differ."""

    target: Target
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """The one best target; where there is none, the nearest ones, nearest first."""

    best: Target | None
    nearest: tuple[NearMiss, ...] = ()


def satisfies(environment: Environment, target: Target) -> tuple[Difference, ...]:
    """What keeps `environment` from being served by `target`: nothing when it satisfies it.

    Every identity field is equal, but the OS may be above the baseline; a portable target, whose
    interpreter build nobody has seen, says nothing of the ``build.*`` fields.
    """
    own = environment.target()
    return tuple(
        _open_ended(difference)
        for difference in diff(target, own)
        if not (target.build is None and difference.field.startswith("build."))
        and not (difference.field == "baseline" and _reaches(own.baseline, target.baseline))
    )


def match(environment: Environment, targets: Iterable[Target]) -> Match:
    """The best of `targets` for `environment`: exact before portable, then highest baseline."""
    candidates = [
        NearMiss(target=target, differences=satisfies(environment, target)) for target in targets
    ]
    if fitting := [candidate.target for candidate in candidates if not candidate.differences]:
        return Match(best=max(fitting, key=_preference))
    return Match(best=None, nearest=tuple(sorted(candidates, key=_distance)[:NEAREST]))


def diff(a: Target, b: Target) -> tuple[Difference, ...]:
    """Every identity field in which two targets differ: `a` is wanted, `b` is found."""
    wanted, found = identity_of(a), identity_of(b)
    return tuple(
        Difference(field=name, wanted=_value(wanted, name), found=_value(found, name))
        for name in sorted(wanted.keys() | found.keys())
        if _value(wanted, name) != _value(found, name)
    )


def _value(identity: Mapping[str, JSON], name: str) -> JSON:
    return identity.get(name, NOT_MEASURED)


def _reaches(own: Baseline, floor: Baseline) -> bool:
    return own.kind == floor.kind and own >= floor


def _open_ended(difference: Difference) -> Difference:
    if difference.field != "baseline":
        return difference
    return Difference(
        field=difference.field,
        wanted=difference.wanted,
        found=difference.found,
        at_least=True,
    )


def _preference(target: Target) -> tuple[bool, Baseline]:
    return target.build is not None, target.baseline


def _distance(candidate: NearMiss) -> tuple[int, bool, bytes]:
    """Few differences first; then exact ones; then whatever order is always the same."""
    target = candidate.target
    return len(candidate.differences), target.build is None, canonical_json(identity_of(target))


def _shown(value: JSON) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
