"""Which projects, and which files of them, may come from an index upstream. Pure.

A name is local or upstream by rule, never by chance: whoever registers a local name in a public
index gets nothing in by that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final

from packaging.utils import NormalizedName

from store.errors import MalformedError

_PATTERN: Final = re.compile(r"[a-z0-9*]([a-z0-9*-]{0,98}[a-z0-9*])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """The rules: patterns that passed `parse_pattern`, and the age from which a file counts."""

    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    local: tuple[str, ...] = ()
    min_age: timedelta = timedelta(0)

    def refusal(self, name: NormalizedName, *, is_local: bool) -> str | None:
        """Why the project is never looked up; None when it may be.

        `is_local`: a build or an upload of it came from elsewhere than an index, at any time.
        """
        if pattern := _first(self.deny, name):
            return f"upstream.deny names it ({pattern})"
        if name in self.allow:  # named in full: somebody means this very project
            return None
        if pattern := _first(self.local, name):
            return f"upstream.local names it ({pattern})"
        if is_local:
            return "a build or an upload of that name was made here, so the name is local"
        if self.allow and not _first(self.allow, name):
            return "upstream.allow does not name it"
        return None

    def too_young(self, uploaded_at: datetime | None, now: datetime) -> str | None:
        """Why a file may not come in yet; None when it may. Without a time it never is old."""
        if not self.min_age:
            return None
        if uploaded_at is None:
            return "the index does not say when it was uploaded, and upstream.min-age-days is set"
        if now - uploaded_at < self.min_age:
            day = (uploaded_at + self.min_age).date().isoformat()
            return f"it was uploaded on {uploaded_at.date().isoformat()}, and counts from {day} on"
        return None


def parse_pattern(text: str) -> str:
    """`text` as a pattern of project names, normalised (PEP 503); ``*`` stands for anything.

    Raises MalformedError.
    """
    pattern = re.sub(r"[-_.]+", "-", text).lower()
    if not _PATTERN.fullmatch(pattern):
        raise MalformedError(
            f"not a pattern of project names: {text[:80]!r}", hint='as in "numpy" or "acme-*"'
        )
    return pattern


def _first(patterns: Iterable[str], name: NormalizedName) -> str | None:
    return next((each for each in patterns if fnmatchcase(name, each)), None)
