"""Submit to a farm that is somewhere else, and follow it to the end with the same matrix."""

from __future__ import annotations

import dataclasses

from pydantic import ValidationError

from builder.errors import SdistError
from store.digest import Sha256, sha256_of_file
from workers.errors import FarmRefusedError, ServerError
from workers.farm import answers
from workers.farm.calls import SaidCall, say_call
from workers.farm.event_stream import ServerEvent, followed
from workers.farm.patience import Patience, patiently
from workers.farm.remote import RemoteDesk
from workers.matrix import Watcher
from workers.outcome import Outcome
from workers.plan import Call
from workers.requirements import WantedFile


def put_into_words(desk: RemoteDesk, call: Call) -> SaidCall:
    """The words for `call`, its files uploaded. Raises SdistError for a file that is not there."""
    return say_call(call, lambda wanted: _uploaded(desk, wanted))


def _uploaded(desk: RemoteDesk, wanted: WantedFile) -> Sha256:
    path = wanted.path
    if not path.is_file():
        raise SdistError(f"no such file: {path}", hint="give the path of a .tar.gz or .zip sdist")
    sha256 = sha256_of_file(path)
    if not desk.has_sdist(sha256, path.name):
        desk.upload(path, sha256)
    return sha256


class Attendance:
    """Follows one submission and tells `watcher` of it, however often the server goes away."""

    def __init__(self, desk: RemoteDesk, submission_id: str, watcher: Watcher) -> None:
        self._desk = desk
        self._id = submission_id
        self._watcher = watcher
        self._items: dict[int, answers.Item] = {}
        self._ends: dict[int, Outcome] = {}
        self._started: set[tuple[int, int]] = set()

    def outcomes(self) -> list[Outcome]:
        """The outcome of every item, in order, once all are over.

        Raises FarmRefusedError when the submission was refused, ServerError when the server stays
        away.
        """
        patience = self._desk.patience()
        for event in followed(lambda last: self._desk.events(self._id, last), patience):
            self._hear(event, patience)
        return [self._ends.get(place) or _cancelled(item) for place, item in self._items.items()]

    def _hear(self, event: ServerEvent, patience: Patience) -> None:
        try:
            if event.kind == "planned":
                self._planned(answers.Submission.model_validate_json(event.data), patience)
            elif event.kind == "item":
                self._ended(answers.Item.model_validate_json(event.data))
            elif event.kind == "job":
                self._moved(answers.Event.model_validate_json(event.data))
        except ValidationError as error:
            raise ServerError("the server sent an event of another form than expected") from error

    def _planned(self, submission: answers.Submission, patience: Patience) -> None:
        if submission.error is not None:
            told = submission.error
            raise FarmRefusedError(f"{told.message} ({told.code})", hint=told.hint)
        if not self._items:
            self._items = patiently(self._all_items, patience)
            labels = (item.label for item in self._items.values())
            self._watcher.planned(list(dict.fromkeys(labels)))

    def _all_items(self) -> dict[int, answers.Item]:
        found: list[answers.Item] = []
        first: int | None = 0
        while first is not None:
            page = self._desk.items(self._id, first)
            found += page.items
            first = page.next
        return {item.place: item for item in found}

    def _ended(self, item: answers.Item) -> None:
        if item.end is not None and item.place not in self._ends:
            self._ends[item.place] = _with_log(item, item.end.outcome())
            self._watcher.ended(self._ends[item.place])

    def _moved(self, event: answers.Event) -> None:
        """Each try of a job is a start, for each item that it is."""
        if event.kind != "claim":
            return
        for place in event.places:
            if place in self._items and (place, event.attempt) not in self._started:
                self._started.add((place, event.attempt))
                if place not in self._ends:
                    self._watcher.started(self._items[place].label, self._items[place].target)


def _with_log(item: answers.Item, outcome: Outcome) -> Outcome:
    """The log lies on the worker: here it is had by a command."""
    if outcome.log is None or item.job is None:
        return dataclasses.replace(outcome, log=None)
    return dataclasses.replace(outcome, log=f"`wheelfarm log {item.job}`")


def _cancelled(item: answers.Item) -> Outcome:
    """The outcome of what had no end when the submission was over: others wait for it still."""
    package, _, version = item.label.partition("==")
    return Outcome(
        package=package,
        version=version,
        target=item.target,
        fingerprint="",
        channel="",
        status="cancelled",
        code="cancelled",
        message="it was cancelled before it was built",
    )
