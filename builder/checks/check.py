"""What a check is: a code, a title, and up to three functions over an opened wheel."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from packaging.tags import Tag

from builder.checks.context import Context
from builder.wheel import OpenedWheel
from store.verdict import Finding


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """What one check says of one claimed tag.

    `tags` is the exact maximum that the bytes support under that tag: the tag itself, narrower
    ones, or none. `findings` say why it is not the tag itself.
    """

    tags: frozenset[Tag]
    findings: tuple[Finding, ...] = ()


Find: TypeAlias = Callable[[OpenedWheel, Context], Iterable[Finding]]
Narrow: TypeAlias = Callable[[OpenedWheel, Tag, Context], Ruling]
Conclude: TypeAlias = Callable[[OpenedWheel, frozenset[Tag], Context], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule.

    `find` looks at the wheel whatever it claims; an error there refuses it, unless `mended` says
    that writing the wheel afresh puts such a finding right. `narrow` holds one claimed tag against
    the bytes. `conclude` looks at the tags that are left in the end. `code` is also the name of its
    page in docs/checks.
    """

    code: str
    title: str
    find: Find | None = None
    narrow: Narrow | None = None
    conclude: Conclude | None = None
    mended: bool = False


def holds(tag: Tag) -> Ruling:
    """The ruling that `tag` stands as it is."""
    return Ruling(tags=frozenset({tag}))
