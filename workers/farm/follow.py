"""Follow a submission to its end: hear of every start and every end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from workers.farm.states import FINAL
from workers.farm.submissions import ItemRow, Submissions
from workers.matrix import Watcher
from workers.outcome import Outcome

_POLL_SECONDS: Final = 0.1


def follow(submissions: Submissions, submission_id: str, watcher: Watcher) -> list[Outcome]:
    """The outcome of every item, in order, once all are over. Raises StoreError."""
    items = {item.place: item for item in submissions.items(submission_id)}
    watcher.planned(list(dict.fromkeys(item.label for item in items.values())))
    ends = _ended(items.values(), watcher)
    running: set[tuple[int, int]] = set()
    while len(ends) < len(items):
        states = submissions.states(submission_id)
        _tell_starts(items, states, running, watcher)
        over = [place for place in items if place not in ends and states[place][0] in FINAL]
        ends |= _ended(submissions.items(submission_id, over), watcher)
        time.sleep(_POLL_SECONDS)
    return [ends[place] for place in sorted(ends)]


def _ended(items: Iterable[ItemRow], watcher: Watcher) -> dict[int, Outcome]:
    ends = {item.place: item.outcome for item in items if item.outcome is not None}
    for outcome in ends.values():
        watcher.ended(outcome)
    return ends


def _tell_starts(
    items: dict[int, ItemRow],
    states: dict[int, tuple[str, int]],
    running: set[tuple[int, int]],
    watcher: Watcher,
) -> None:
    """Each try of a job is a start; `running` keeps which were told."""
    for place, (state, token) in states.items():
        if state == "running" and (place, token) not in running:
            running.add((place, token))
            watcher.started(items[place].label, items[place].target)
