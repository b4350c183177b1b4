"""What a farm answers, one model for each question: the words of the HTTP API and of ``--json``."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from store.promote import Promoted as PromotedInStore
from store.release import Release
from workers.farm.jobs import JobRow
from workers.farm.states import State
from workers.farm.submissions import ItemRow
from workers.outcome import Outcome, Status, outcome_from_json

SubmissionState = Literal["planning", "open", "done", "cancelled", "refused"]


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Trouble(_Answer):
    """An error: its code, one sentence, and what to do about it."""

    code: str
    message: str
    hint: str | None


class End(_Answer):
    """How one package ended for one target; the words are those of ``wheelfarm build --json``."""

    package: str
    version: str
    target: str
    fingerprint: str
    channel: str
    status: Status
    filename: str | None
    sha256: str | None
    code: str | None
    message: str | None
    first_error: str | None
    hint: str | None
    log: str | None
    findings: list[dict[str, Any]]
    build_key: str | None
    seconds: int

    def outcome(self) -> Outcome:
        """The outcome that it tells of."""
        return outcome_from_json(self.model_dump())


class Submitted(_Answer):
    """The id of a submission."""

    id: str


class Submission(_Answer):
    """A submission. `counts` are its items by state; an item without a job is `done`.

    `targets` are the names that the submitter gave them.
    """

    id: str
    submitter: str
    created_at: datetime
    state: SubmissionState
    counts: dict[str, int]
    targets: list[str]
    error: Trouble | None


class Item(_Answer):
    """One package for one target; `end` once it is over."""

    place: int
    target: str
    label: str
    job: int | None
    state: str
    end: End | None


class Items(_Answer):
    """Items in order; `next` is the `first` of the next page, null after the last."""

    items: list[Item]
    next: int | None


class Event(_Answer):
    """Something that happened to a job; `places` are the items of the submission that it is."""

    id: int
    job: int
    at: datetime
    kind: str
    attempt: int
    worker: str | None
    detail: dict[str, Any]
    places: list[int]


class Job(_Answer):
    """A job. `attempt` is the number of its try, `tries` counts its failures by kind."""

    id: int
    label: str
    fingerprint: str
    channel: str
    state: State
    queue: str
    priority: int
    submitter: str
    attempt: int
    tries: dict[str, int]
    owner: str | None
    failure: str | None
    not_before: datetime | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    end: End | None


class Jobs(_Answer):
    """Jobs, newest first; `next` is the `before` of the next page, null after the last."""

    jobs: list[Job]
    next: int | None


class Reason(_Answer):
    """Why something is not running (yet, or any more)."""

    code: str
    sentence: str
    details: dict[str, Any]


class Cancelled(_Answer):
    """How many open jobs were cancelled."""

    jobs: int


class LogPiece(_Answer):
    """What a build printed from byte `start` to before byte `end` in its try `attempt`."""

    attempt: int
    start: int
    end: int
    text: str


class Retried(_Answer):
    """The jobs that are tried again, and how many remembered failures were forgotten."""

    jobs: list[int]
    forgotten: int


class Toolchain(_Answer):
    """A target that a worker can build for, and the digest of all of its toolchain."""

    fingerprint: str
    name: str
    sha256: str


class Worker(_Answer):
    """A worker. `skews` say where it differs from the other workers, or its clock is wrong."""

    id: str
    state: Literal["ready", "draining", "set-aside", "gone"]
    reason: str | None
    host: str
    version: str
    slots: int
    running: int
    queues: list[str]
    facts: dict[str, Any]
    strikes: int
    started_at: datetime
    heartbeat_at: datetime
    toolchains: list[Toolchain]
    skews: list[str]


class Workers(_Answer):
    """Workers, the newest last."""

    workers: list[Worker]


class Queue(_Answer):
    """A queue, for whoever starts and stops workers.

    `waiting` jobs, of which `held` are held back for a while; the age of the oldest that waits, in
    seconds; `workers` that take the queue now, with `slots` altogether.
    """

    queue: str
    capability: str
    memory_class: int
    waiting: int
    held: int
    oldest_seconds: int
    running: int
    workers: int
    slots: int


class Queues(_Answer):
    """Every queue that has jobs or workers, and how many submissions wait to be planned."""

    queues: list[Queue]
    unplanned: int


class Identity(BaseModel):
    """An identity token (a JWT) that a CI system gave one of its jobs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: Annotated[str, Field(min_length=1, max_length=16_384)]


class Minted(_Answer):
    """A token for a job, what it gives in which channels, and until when."""

    token: str
    expires_at: datetime
    scopes: list[str]
    channels: list[str]


class Struck(_Answer):
    """A release that an order reaches; `because` is the file that it was built with, null for one
    that was meant itself."""

    channel: str
    fingerprint: str
    filename: str
    sha256: str
    name: str
    version: str
    build_key: str
    yanked: str | None
    because: str | None


class Widened(_Answer):
    """A second fingerprint that a file serves, and by what reason."""

    channel: str
    filename: str
    fingerprint: str
    reason: str


class ServedTo(_Answer):
    """A fingerprint whose clients were given a file, from one day to another (UTC)."""

    channel: str
    fingerprint: str
    filename: str
    first_on: str
    last_on: str


class Cleaning(_Answer):
    """A command for a client's machine, and what it drops there."""

    command: str
    drops: str


class Radius(_Answer):
    """All that hangs on the releases that are meant.

    `totals` are the lengths of the lists, which are cut after 10,000. `same_bytes` are releases of
    the same files that the order does not reach.
    """

    totals: dict[str, int]
    selected: list[Struck]
    made_with: list[Struck]
    widened: list[Widened]
    same_bytes: list[Struck]
    served: list[ServedTo]
    channels: list[str]
    fingerprints: list[str]
    cleaning: list[Cleaning]


class Order(_Answer):
    """A yank or a disowning: what was meant, why, by whom, when; and its undoing."""

    id: int
    verb: Literal["yank", "disown"]
    selection: dict[str, Any]
    reason: str
    by: str
    at: datetime
    undone_at: datetime | None
    undone_by: str | None


class Strike(_Answer):
    """What an order reached, or would; `order` is null for a dry run, and where nothing is."""

    order: Order | None
    radius: Radius


class Lifted(_Answer):
    """What an undoing brought back. `replaced` stay away, since a newer release has their build;
    `held` stay by another order."""

    restored: list[Struck]
    replaced: list[Struck]
    held: list[Struck]


class Orders(_Answer):
    """The newest orders."""

    orders: list[Order]


class Adoption(_Answer):
    """What became of one version for one target. `listed` is the file of the index that was chosen,
    `filename` its name here; `error` is why it is not here, `findings` what was seen in it."""

    package: str
    version: str
    target: str
    fingerprint: str
    status: Literal["adopted", "there", "skipped", "refused"]
    listed: str | None
    filename: str | None
    sha256: str | None
    error: Trouble | None
    findings: list[dict[str, Any]]


class Adoptions(_Answer):
    """What became of every version for every target; one of them at least."""

    adoptions: list[Adoption]


class PromotedRelease(_Answer):
    """A release of the target channel."""

    filename: str
    sha256: str
    channel: str
    fingerprint: str
    name: str
    version: str


class Promoted(_Answer):
    """What a promotion gave, or would: the releases that it made in the target channel, and those
    that were there already."""

    made: list[PromotedRelease]
    there: list[PromotedRelease]


class Forecast(_Answer):
    """What would become of one package for one target.

    `fate`: ``build``; ``hit`` (the store has it); ``skip`` (its marker); ``fail`` (it cannot be had
    or may not be built, or it is remembered to fail); ``nobody`` (no worker can build it).
    """

    label: str
    target: str
    fingerprint: str
    fate: Literal["build", "hit", "skip", "fail", "nobody"]
    why: str | None
    queue: str | None


class Plan(_Answer):
    """What a submission would do, item by item; nothing was changed."""

    items: list[Forecast]


def promoted(done: PromotedInStore) -> Promoted:
    """The answer that tells of a promotion."""
    return Promoted(made=[*map(_promoted, done.made)], there=[*map(_promoted, done.there)])


def _promoted(release: Release) -> PromotedRelease:
    told = {name: getattr(release, name) for name in PromotedRelease.model_fields}
    return PromotedRelease.model_validate(told)


def end_of(outcome: Outcome) -> End:
    """The answer that tells of `outcome`."""
    return End.model_validate(outcome.to_json())


def item_of(row: ItemRow) -> Item:
    """The answer for an item."""
    return Item(
        place=row.place,
        target=row.target,
        label=row.label,
        job=row.job_id,
        state=row.state,
        end=end_of(row.outcome) if row.outcome else None,
    )


def job_of(row: JobRow) -> Job:
    """The answer for a job."""
    return Job(
        id=row.id,
        label=row.label,
        fingerprint=row.fingerprint,
        channel=row.channel,
        state=row.state,
        queue=row.queue,
        priority=-row.nice,
        submitter=row.submitter,
        attempt=row.token,
        tries=dict(row.tries),
        owner=row.owner,
        failure=row.failure,
        not_before=row.not_before,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
        end=End.model_validate(row.outcome) if row.outcome else None,
    )
