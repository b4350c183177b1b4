"""What a client says when it submits: a model that refuses all else, made into a Call and back.

Anybody may send anything, so every list, text and number is bounded here. The server keeps what it
was told as JSON and reads it again when it plans, maybe after a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName
from packaging.utils import InvalidName, canonicalize_name
from packaging.version import InvalidVersion, Version
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from builder.sdist import sdist_name
from store.channel import RELEASE, Channel, parse_channel
from store.digest import JSON, Sha256
from store.errors import MalformedError, WheelfarmError
from store.promote import Move
from store.provenance import Origin
from store.selection import Selection, parse_selection
from store.target import Target, identity_of, target_from_identity
from workers.markers import applies
from workers.plan import Call, WantedTarget
from workers.requirements import Wanted, WantedFile, WantedRelease
from workers.sources import LOCAL, UNPINNED, VCS

MOST_THINGS: Final = 10_000
MOST_TARGETS: Final = 64
MOST_ADOPTED: Final = 20
"""Versions of one adoption: it is answered when all of them are fetched and judged."""
LARGEST_CALL: Final = 32 << 20
"""Bytes of a submission's JSON: ten thousand lines, each with the digests of fifty files."""

Line = Annotated[str, Field(min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

T = TypeVar("T")
Place = Callable[[Sha256, str], Path]
"""Where the uploaded sdist of that digest and file name lies."""


class _Said(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SaidRelease(_Said):
    """One exact version from the farm's index. `place` is where it was asked for, for messages."""

    kind: Literal["release"] = "release"
    name: Annotated[str, Field(min_length=1, max_length=200)]
    version: Annotated[str, Field(min_length=1, max_length=200)]
    hashes: list[Digest] = Field(default_factory=list, max_length=2_000)
    marker: Annotated[str, Field(max_length=4_000)] | None = None
    place: Line = "command line"


class SaidUpload(_Said):
    """An sdist that was uploaded before. `place` is where it lies for who asks, or the commit that
    it was made of, as `origin` says."""

    kind: Literal["upload"] = "upload"
    sha256: Digest
    filename: Annotated[str, Field(min_length=1, max_length=200)]
    place: Line = "command line"
    origin: Literal["local", "vcs"] = "local"


class SaidTarget(_Said):
    """A target: the name that the submitter gave it, and every field of its identity."""

    name: Line
    identity: dict[str, StrictBool | StrictInt | str | None] = Field(max_length=40)


class SaidCall(_Said):
    """What is to be built, for which targets.

    `priority`: higher is sooner. `channel` null sends each thing where it belongs; `refresh` has
    build requirements resolved afresh; `retry` builds what is remembered to fail.
    """

    wanted: list[Annotated[SaidRelease | SaidUpload, Field(discriminator="kind")]] = Field(
        min_length=1, max_length=MOST_THINGS
    )
    targets: list[SaidTarget] = Field(min_length=1, max_length=MOST_TARGETS)
    submitter: Annotated[Line, Field(max_length=200)]
    channel: Annotated[str, Field(max_length=80)] | None = None
    refresh: StrictBool = False
    retry: StrictBool = False
    priority: StrictInt = Field(default=0, ge=-1_000, le=1_000)


class SaidSelection(_Said):
    """Which releases are meant: every condition that is given must hold.

    `store.selection.Selection` says what each means; one of them at least must be more than a
    place (`channel`, `fingerprint`).
    """

    channel: Annotated[str, Field(max_length=80)] | None = None
    fingerprint: Annotated[str, Field(max_length=200)] | None = None
    file: Line | None = None
    package: Line | None = None
    build_key: Line | None = None
    requirement: Line | None = None
    worker: Line | None = None
    toolchain: Line | None = None
    interpreter: Line | None = None
    linked: StrictBool = False
    sdist: Line | None = None
    fields_: dict[Annotated[str, Field(max_length=200)], Line] = Field(
        default_factory=dict, max_length=20, alias="fields"
    )

    def selection(self) -> Selection:
        """The selection that is said. Raises MalformedError for none, and for what is none."""
        told = self.model_dump(by_alias=True, exclude_defaults=True)
        return parse_selection({name: value for name, value in told.items() if value is not None})


class SaidStrike(_Said):
    """A yank or a disowning. `dry_run` says what it would reach, and changes nothing.

    `deep`: also whatever was built with the releases that are meant; null is yes for a disowning
    and no for a yank. `reason` is needed unless it is a dry run.
    """

    selection: SaidSelection
    by: Annotated[Line, Field(max_length=200)]
    reason: Line | None = None
    deep: StrictBool | None = None
    dry_run: StrictBool = False


class SaidUndo(_Said):
    """What is to be undone: an order by its number, or the orders on what a selection means."""

    by: Annotated[Line, Field(max_length=200)]
    order: Annotated[StrictInt, Field(ge=1, lt=1 << 31)] | None = None
    selection: SaidSelection | None = None


class SaidPromotion(_Said):
    """What of a channel is to be in another one as well. `selection` names a package or a file;
    `dry_run` says what would be promoted, and changes nothing.
    """

    selection: SaidSelection
    source: Annotated[str, Field(max_length=80)]
    target: Annotated[str, Field(max_length=80)]
    reason: Line
    dry_run: StrictBool = False

    def move(self) -> Move:
        """The promotion that is said. Raises MalformedError, also for more than one project."""
        if self.selection.package is None and self.selection.file is None:
            raise MalformedError("name a package or a file", path="selection")
        return Move(
            selection=self.selection.selection(),
            source=_under("source", parse_channel, self.source),
            target=_under("target", parse_channel, self.target),
            reason=self.reason,
        )


class SaidAdoption(_Said):
    """Exact versions whose wheels the farm is to take from its index upstream, for targets that are
    described, and `fingerprints` that it knows."""

    wanted: list[SaidRelease] = Field(max_length=MOST_ADOPTED)
    targets: list[SaidTarget] = Field(default_factory=list, max_length=MOST_TARGETS)
    fingerprints: list[Annotated[str, Field(max_length=200)]] = Field(
        default_factory=list, max_length=MOST_TARGETS
    )

    def pins(self, target: Target) -> list[WantedRelease]:
        """What is wanted, markers held against one of the targets. Raises MalformedError with the
        path of what names nothing."""
        return [
            _under(f"wanted[{number}]", lambda each: _release(each, target), one)
            for number, one in enumerate(self.wanted)
        ]

    def described(self) -> dict[str, Target]:
        """The targets that are described, by name. Raises MalformedError."""
        found = [
            _under(f"targets[{number}]", _target, one) for number, one in enumerate(self.targets)
        ]
        _refuse_twins([each.name for each in found])
        return {each.name: each.target for each in found}


def say_adoption(
    pins: Sequence[WantedRelease], targets: Mapping[str, Target], fingerprints: Sequence[str]
) -> SaidAdoption:
    """The words for an adoption."""
    return SaidAdoption(
        wanted=[_say_release(one) for one in pins],
        targets=[
            SaidTarget(name=name, identity=dict(_flat(identity_of(target))))
            for name, target in targets.items()
        ],
        fingerprints=list(fingerprints),
    )


def said(kept: Mapping[str, Any]) -> SaidCall:
    """The call that was kept as JSON. Raises MalformedError."""
    try:
        return SaidCall.model_validate(kept)
    except ValidationError as error:
        raise MalformedError(f"not a submission: {error.errors()[0]['msg']}") from error


def read_call(call: SaidCall, place: Place) -> Call:
    """What is to be planned. Raises MalformedError with the path of what names nothing."""
    targets = tuple(
        _under(f"targets[{number}]", _target, one) for number, one in enumerate(call.targets)
    )
    _refuse_twins([target.name for target in targets])
    wanted = [
        _under(f"wanted[{number}]", lambda one: _wanted(one, targets[0].target, place), one)
        for number, one in enumerate(call.wanted)
    ]
    return Call(
        wanted=tuple(dict.fromkeys(wanted)),
        targets=targets,
        submitter=call.submitter,
        channel=parse_channel(call.channel) if call.channel else None,
        refresh=call.refresh,
        retry=call.retry,
        nice=-call.priority,
    )


def say_call(call: Call, digest_of_file: Callable[[WantedFile], Sha256]) -> SaidCall:
    """The words for `call`, whose files were uploaded. Raises MalformedError beyond the bounds."""
    if len(call.wanted) > MOST_THINGS or len(call.targets) > MOST_TARGETS:
        raise MalformedError(
            f"more than {MOST_THINGS} things or {MOST_TARGETS} targets at once",
            hint="submit them in parts",
        )
    return SaidCall(
        wanted=[_say_wanted(one, digest_of_file) for one in call.wanted],
        targets=[
            SaidTarget(name=one.name, identity=dict(_flat(identity_of(one.target))))
            for one in call.targets
        ],
        submitter=call.submitter,
        channel=call.channel,
        refresh=call.refresh,
        retry=call.retry,
        priority=-call.nice,
    )


def uploads(call: SaidCall) -> list[SaidUpload]:
    """The things of `call` that must have been uploaded."""
    return [one for one in call.wanted if isinstance(one, SaidUpload)]


def channels_of(call: SaidCall) -> frozenset[Channel]:
    """The channels that what is built would go to. Raises MalformedError for no channel."""
    if call.channel:
        return frozenset({parse_channel(call.channel)})
    return frozenset(map(_own_channel, call.wanted))


def _own_channel(one: SaidRelease | SaidUpload) -> Channel:
    """Where a thing goes when nobody says otherwise; see `workers.sources.channel_for`."""
    if isinstance(one, SaidUpload):
        return VCS if one.origin == "vcs" else LOCAL
    return RELEASE if one.hashes else UNPINNED


def kept(call: SaidCall) -> dict[str, JSON]:
    """The call as JSON that `said` reads."""
    row: dict[str, JSON] = call.model_dump(mode="json")
    return row


def _under(path: str, parse: Callable[[Any], T], value: object) -> T:
    try:
        return parse(value)
    except MalformedError as error:
        raise error.under(path) from error
    except WheelfarmError as error:
        raise MalformedError(error.message, hint=error.hint, path=path) from error


def _target(one: SaidTarget) -> WantedTarget:
    return WantedTarget(name=one.name, target=target_from_identity(one.identity))


def _refuse_twins(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise MalformedError("two targets have one name", path="targets")


def _wanted(one: SaidRelease | SaidUpload, target: Target, place: Place) -> Wanted:
    if isinstance(one, SaidUpload):
        sdist_name(one.filename)
        path = place(Sha256(one.sha256), one.filename)
        origin = Origin(kind=one.origin, location=one.place, pinned=False)
        return WantedFile(path=path, place=one.place, origin=origin)
    return _release(one, target)


def _release(one: SaidRelease, target: Target) -> WantedRelease:
    try:
        return WantedRelease(
            name=canonicalize_name(one.name, validate=True),
            version=str(Version(one.version)),
            hashes=frozenset(map(Sha256, one.hashes)),
            marker=_marker(one.marker, target),
            place=one.place,
        )
    except InvalidName as error:
        raise MalformedError(f"not a project's name: {one.name[:80]!r}") from error
    except InvalidVersion as error:
        raise MalformedError(f"not a version: {one.version[:80]!r}") from error


def _marker(text: str | None, target: Target) -> Marker | None:
    if text is None:
        return None
    try:
        marker = Marker(text)
        applies(marker, target)
    except (InvalidMarker, UndefinedComparison, UndefinedEnvironmentName, RecursionError) as error:
        raise MalformedError(f"not a marker: {text[:80]!r}") from error
    return marker


def _say_wanted(
    one: Wanted, digest_of_file: Callable[[WantedFile], Sha256]
) -> SaidRelease | SaidUpload:
    if isinstance(one, WantedFile):
        origin = one.origin or Origin(kind="local", location=str(one.path.absolute()), pinned=False)
        return SaidUpload(
            sha256=digest_of_file(one),
            filename=one.path.name,
            place=origin.location[-500:],
            origin="vcs" if origin.kind == "vcs" else "local",
        )
    return _say_release(one)


def _say_release(one: WantedRelease) -> SaidRelease:
    return SaidRelease(
        name=one.name,
        version=one.version,
        hashes=sorted(one.hashes),
        marker=None if one.marker is None else str(one.marker),
        place=one.place[-500:],
    )


def _flat(identity: Mapping[str, JSON]) -> Mapping[str, Any]:
    return identity
