"""ProjectStatus: what a channel says of a whole project, as PEP 792 defines it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from store.errors import MalformedError

Status = Literal["active", "archived", "quarantined", "deprecated"]

STATUSES: Final[tuple[Status, ...]] = get_args(Status)
LONGEST_REASON: Final = 1_000
_CLOSED: Final = frozenset({"archived", "quarantined"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectStatus:
    """A project's status in one channel, and why; it is active where nobody said otherwise."""

    status: Status = "active"
    reason: str | None = None

    def __post_init__(self) -> None:
        """Raise MalformedError for a reason that a page or a catalogue could not hold."""
        reason = self.reason
        if reason is not None and not (reason.isprintable() and 0 < len(reason) <= LONGEST_REASON):
            raise MalformedError(
                f"a reason is one line of 1 to {LONGEST_REASON} printable characters"
            )

    @property
    def takes_wheels(self) -> bool:
        """Whether a new wheel of the project may be published."""
        return self.status not in _CLOSED


ACTIVE: Final = ProjectStatus()

_STRICTER: Final[tuple[Status, ...]] = ("active", "deprecated", "archived", "quarantined")


def strictest(said: Iterable[ProjectStatus]) -> ProjectStatus:
    """The one of `said` that forbids the most, of several the first; active where nobody says."""
    return max(said, key=lambda each: _STRICTER.index(each.status), default=ACTIVE)
