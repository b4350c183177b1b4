"""The pinned list of real wheels: ``wheels.toml``, read and held to its own rules."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from packaging.tags import Tag

from builder.wheel import parse_name
from store.digest import Sha256, parse_sha256
from store.tags import parse_tag_set
from store.verdict import Verdict

LIST = Path(__file__).with_name("wheels.toml")
LARGEST_FILE = 60_000_000
"""Bytes of one wheel."""
LARGEST_TOTAL = 400_000_000
"""Bytes of all of them together."""

Kind = Literal["honest", "liar"]
Field = Literal[
    "archs", "minimum_os", "needs", "rpaths", "newest_version", "undefined",
    "executable_stack", "suffix", "lacks",
]  # fmt: skip


class ListError(ValueError):
    """wheels.toml breaks a rule of its own; the text names the wheel and the rule."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One thing that another reader than ours says of one member, and that makes the lie.

    `value` is what the field is, or holds: see `tests.corpus.evidence`.
    """

    member: str
    arch: str | None
    field: Field
    value: str


@dataclass(frozen=True, kw_only=True)
class Listed:
    """One real wheel and what is expected of it.

    `tags` are the tags that hold, empty for a reject. `errors` are the codes of every error that is
    found, `external` the libraries that a Recipe would declare, with its reason.
    """

    project: str
    version: str
    file: str
    sha256: Sha256
    size: int
    kind: Kind
    family: str
    verdict: Verdict
    tags: frozenset[Tag]
    errors: frozenset[str]
    external: Mapping[str, str]
    facts: tuple[Fact, ...]
    why: str

    @cached_property
    def claimed(self) -> frozenset[Tag]:
        """The expanded tags of the file name."""
        return parse_name(self.file)[3]

    def __str__(self) -> str:
        return self.file


def read_list(path: Path = LIST) -> tuple[Listed, ...]:
    """Every listed wheel, in the order of the file. Raises ListError, OSError."""
    rows = tomllib.loads(path.read_text("utf-8"))["wheel"]
    wheels = tuple(_listed(row) for row in rows)
    _check_sizes(wheels)
    for field in ("file", "sha256"):
        values = [getattr(wheel, field) for wheel in wheels]
        if len(set(values)) != len(values):
            raise ListError(f"a {field} is listed twice")
    return wheels


def _check_sizes(wheels: tuple[Listed, ...]) -> None:
    for wheel in wheels:
        if wheel.size > LARGEST_FILE:
            raise ListError(f"{wheel}: larger than {LARGEST_FILE} bytes")
    if sum(wheel.size for wheel in wheels) > LARGEST_TOTAL:
        raise ListError(f"all wheels together are larger than {LARGEST_TOTAL} bytes")


def _listed(row: Mapping[str, Any]) -> Listed:
    name = str(row["file"])
    claimed = parse_name(name)[3]
    holding = parse_tag_set(row["tags"]) if "tags" in row else claimed
    wheel = Listed(
        project=row["project"],
        version=row["version"],
        file=name,
        sha256=parse_sha256(row["sha256"]),
        size=row["size"],
        kind=row["kind"],
        family=row["family"],
        verdict=row["verdict"],
        tags=frozenset() if row["verdict"] == "reject" else holding,
        errors=frozenset(row.get("errors", ())),
        external=_external(row.get("external", {})),
        facts=tuple(_fact(fact) for fact in row.get("facts", ())),
        why=row["why"],
    )
    _check_row(wheel, claimed)
    return wheel


def _external(table: Mapping[str, list[str]]) -> Mapping[str, str]:
    """Library -> reason, from reason -> libraries."""
    return {library: reason for reason, libraries in table.items() for library in libraries}


def _fact(row: Mapping[str, Any]) -> Fact:
    if row["field"] not in get_args(Field):
        raise ListError(f"no such field of evidence: {row['field']}")
    return Fact(member=row["member"], arch=row.get("arch"), field=row["field"], value=row["value"])


def _check_row(wheel: Listed, claimed: frozenset[Tag]) -> None:
    """A wheel agrees with its name, and an expectation with itself."""
    name, version, _, _ = parse_name(wheel.file)
    honest = wheel.verdict == "accept"
    rules = {
        "project and version are those of the file name": version == wheel.version
        and name == re.sub(r"[-_.]+", "-", wheel.project).lower(),
        "the verdict is known": wheel.verdict in get_args(Verdict),
        "an honest wheel is accepted, a liar is not": (wheel.kind == "honest") == honest,
        "what is accepted has no errors": honest != bool(wheel.errors),
        "what is accepted keeps its tags": not honest or wheel.tags == claimed,
        "a lie has facts": (wheel.kind == "liar") == bool(wheel.facts),
        "one sentence says why": wheel.why.endswith(".") and len(wheel.why) > 20,
    }
    for rule, kept in rules.items():
        if not kept:
            raise ListError(f"{wheel}: {rule}")
