"""What one binary asks of its loader and does not surely get, and how that is said.

The two link checks, of Mach-O and of musl, differ in what they know; what they find is alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.checks.symbols.interpreter import State, python_state
from builder.checks.symbols.stable_abi import is_cpython_name
from builder.wheel import Member
from store.digest import JSON
from store.verdict import Finding, Severity

Version = tuple[int, ...]
_SHOWN: Final = 20
_FEW: Final = 5
_LONGEST: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The symbols of one binary, or slice of one, that need a word, under one tag.

    `newer` are those of a later system than the tag says, with the version that brought them;
    `missing` are strong ones that nobody brings; `unsure` may come from `outside`, libraries that
    no list tells of, or from a CPython that none does. `weak` are those that may be missing.
    """

    member: Member
    arch: str
    weak: frozenset[str]
    newer: Mapping[str, Version]
    missing: tuple[str, ...]
    unsure: tuple[str, ...]
    outside: tuple[str, ...]

    def newer_that_are(self, *, weak: bool) -> dict[str, Version]:
        """The symbols of a later system that may, or may not, be missing."""
        return {name: since for name, since in self.newer.items() if (name in self.weak) == weak}

    @property
    def broken(self) -> bool:
        """Whether a strong symbol is surely not there."""
        return bool(self.missing or self.newer_that_are(weak=False))


def sort_out(
    names: Iterable[str], tag: Tag, weak: frozenset[str], is_open: Callable[[str], bool]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The missing and the unsure ones among `names`, which neither the system nor the wheel has.

    `is_open` says whether a symbol may come from what no list tells of.
    """
    states = {name: _state(name, tag, weak, is_open) for name in names}
    missing = sorted(name for name, state in states.items() if state == "missing")
    unsure = sorted(name for name, state in states.items() if state == "unsure")
    return tuple(missing), tuple(unsure)


def _state(name: str, tag: Tag, weak: frozenset[str], is_open: Callable[[str], bool]) -> State:
    if is_cpython_name(name) and (known := python_state(name, tag)) is not None:
        state = known
    elif is_open(name):
        state = "unsure"
    else:
        state = "missing"
    return "found" if state == "missing" and name in weak else state


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How one check says what it finds: its code, the system and the kind of binary it reads."""

    code: str
    system: str
    part: str
    unlinked: str

    def newer(
        self,
        asked: Asked,
        newer: Mapping[str, Version],
        evidence: Mapping[str, JSON],
        *,
        severity: Severity,
        but: str,
        hint: str,
    ) -> Finding:
        """A finding about the symbols of a later system, of which the latest is named."""
        last = max(newer, key=lambda name: newer[name])
        shown = sorted(newer, key=lambda name: (newer[name], name), reverse=True)[:_SHOWN]
        return Finding(
            check=self.code,
            severity=severity,
            member=asked.member.path,
            slice=asked.arch,
            message=f"{last} is in {self.system} since {version_text(newer[last])}{but}",
            evidence={
                **evidence,
                "symbols": {name: version_text(newer[name]) for name in shown},
                "count": len(newer),
            },
            hint=hint,
        )

    def weak(self, asked: Asked, evidence: Mapping[str, JSON]) -> Finding:
        """The finding about symbols of a later system that may be missing."""
        return self.newer(
            asked,
            asked.newer_that_are(weak=True),
            evidence,
            severity="warning",
            but="; before, the code must do without",
            hint="see that the code asks whether the function is there before it calls it",
        )

    def missing(self, asked: Asked, tag: Tag, evidence: Mapping[str, JSON]) -> Finding:
        """The finding about strong symbols that nobody brings."""
        rest = len(asked.missing) - 1
        first = asked.missing[0][:_LONGEST]
        what = f"{first} (and {rest} more)" if rest else first
        return Finding(
            check=self.code,
            severity="error",
            member=asked.member.path,
            slice=asked.arch,
            message=f"nothing that the {self.part} can load under `{tag}` has {what}",
            evidence={
                "claimed": str(tag),
                "symbols": [name[:_LONGEST] for name in asked.missing[:_SHOWN]],
                "count": len(asked.missing),
                **evidence,
            },
            hint=self.unlinked,
        )

    def unsure(self, asked: Asked) -> Finding:
        """The note about symbols that no list tells of."""
        return Finding(
            check=self.code,
            severity="note",
            member=asked.member.path,
            slice=asked.arch,
            message="some symbols are left to libraries whose contents are not known here",
            evidence={
                "symbols": [name[:_LONGEST] for name in asked.unsure[:_FEW]],
                "count": len(asked.unsure),
                "libraries": list(asked.outside[:_SHOWN]),
            },
        )


def first_names(names: Iterable[str]) -> list[JSON]:
    """As many of `names` as evidence shows."""
    return [name[:_LONGEST] for name in list(names)[:_SHOWN]]


def version_text(version: Version) -> str:
    """A version as its system writes it."""
    return ".".join(map(str, version))
