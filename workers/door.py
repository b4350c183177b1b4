"""The door of the store: a file that somebody uploaded is looked at, and let in or refused.

A wheel is judged as one of the farm's own builds is, in a process of its own that is bounded in
time and memory, written anew under the tags that hold, and listed for the targets that take it. An
sdist is kept, and built by the farm. Neither ever enters the release channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version
from sqlalchemy import Connection

from builder.sdist import read_pkg_info, sdist_name
from builder.verify import reverify, verify_for_store
from store.access import Actor
from store.audit import Deed, record
from store.catalogue import record_local_name
from store.channel import RELEASE, UPSTREAM, Channel
from store.digest import JSON, Sha256
from store.errors import MalformedError, NameTakenError, NotProvenError, PolicyError
from store.fingerprint import Fingerprint, fingerprint_of
from store.provenance import Origin, Source
from store.publish import Store
from store.release import Release
from store.target import Target, identity_of
from store.upload import better_served, check_name, take_name
from store.verdict import VerifiedWheel
from workers.errors import UploadRefusedError
from workers.farm.calls import MOST_TARGETS, SaidCall, SaidTarget, SaidUpload
from workers.farm.desk import FarmDesk
from workers.foreign import papers_of, serves, write_log
from workers.inspection import Inspection
from workers.settings import Settings
from workers.targets import resolve_identity

_INSPECTION: Final = Inspection(refusal=UploadRefusedError)
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file as it came in: `path` has its own name; `said` is what the client says of it, each
    field of the core metadata with all its values. `kind` is ``bdist_wheel`` or ``sdist``."""

    path: Path
    sha256: Sha256
    kind: str
    name: str
    version: str
    said: Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of an upload: the name under which a wheel is served and for whom, or the
    submissions that build an sdist."""

    channel: Channel
    filename: str | None = None
    sha256: str | None = None
    fingerprints: tuple[Fingerprint, ...] = ()
    submissions: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """The answer to the client."""
        return {
            "channel": self.channel,
            "filename": self.filename,
            "sha256": self.sha256,
            "fingerprints": list(self.fingerprints),
            "submissions": list(self.submissions),
        }


def take(upload: Upload, desk: FarmDesk, actor: Actor, channel: Channel) -> Taken:
    """Let `upload` into `channel`, for `actor`. The same file again changes nothing.

    Raises UploadRefusedError, NotProvenError, MalformedError for what is not as it says;
    NameTakenError when the name has other bytes; PolicyError; StoreError. Then nothing is left.
    """
    if channel in {RELEASE, UPSTREAM}:
        raise PolicyError(
            f"{upload.path.name} was not built here: it may not enter the channel {channel}",
            hint="upload to a channel dev/NAME: https://…/dev/NAME/legacy/",
        )
    with desk.farm.store.database.reading() as connection:
        check_name(connection, channel, upload.path.name, upload.sha256)
    if upload.kind == "sdist":
        return _take_sdist(upload, desk, actor, channel)
    return _take_wheel(upload, desk, actor, channel)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    """A wheel on its way in: what came out of it, whom it could serve, and which of those have a
    better one of its version."""

    upload: Upload
    wheel: VerifiedWheel
    actor: Actor
    channel: Channel
    targets: Mapping[Fingerprint, Target]
    better: frozenset[Fingerprint]

    @property
    def chosen(self) -> dict[Fingerprint, Target]:
        """For whom it is published."""
        return {name: each for name, each in self.targets.items() if name not in self.better}


def _take_wheel(upload: Upload, desk: FarmDesk, actor: Actor, channel: Channel) -> Taken:
    _check_wheel_name(upload)
    wheel = _judged(upload)
    _check_said(upload, wheel.name, parse_email(wheel.metadata)[0])
    targets = _served_by(wheel, _known_targets(desk, None))
    with desk.farm.store.database.reading() as connection:
        better = better_served(connection, channel, wheel, targets)
    entry = _Entry(
        upload=upload, wheel=wheel, actor=actor, channel=channel, targets=targets, better=better
    )
    _check_served(entry)
    releases = _publish(entry, desk.farm.store)
    return Taken(
        channel=channel,
        filename=wheel.filename,
        sha256=wheel.sha256,
        fingerprints=tuple(release.fingerprint for release in releases),
    )


def _publish(entry: _Entry, store: Store) -> list[Release]:
    """The releases, listed in the transaction that takes the name and writes the audit log."""
    wheel, channel, source = entry.wheel, entry.channel, _source(entry)
    log = entry.upload.path.parent / "upload.log"
    write_log(wheel, source, source.origin.location, log)
    came: dict[str, JSON] = {"uploaded_by": entry.actor.who, "token": entry.actor.token}
    papers = [
        papers_of(wheel, source, target, log=log, environment=came)
        for target in entry.chosen.values()
    ]
    noted = False

    def note(connection: Connection) -> None:
        nonlocal noted
        _note(connection, entry)
        noted = True

    verifying = replace(store, verifier=_verified_again)
    releases = verifying.put_all(wheel, papers, channel=channel, log=log, fence=note)
    if not noted:  # all of it was there before
        with store.database.writing() as connection:
            note(connection)
    return releases


def _note(connection: Connection, entry: _Entry) -> None:
    upload, wheel, channel = entry.upload, entry.wheel, entry.channel
    if better_served(connection, channel, wheel, entry.targets) != entry.better:
        raise NameTakenError(
            f"another wheel of {wheel.name} {wheel.version} was published meanwhile",
            hint="upload it again",
        )
    take_name(connection, channel, upload.path.name, upload.sha256, entry.actor.who)
    told: dict[str, JSON] = {"as": wheel.filename, "fingerprints": sorted(entry.chosen)}
    record(connection, _deed(entry.actor, upload, channel, **told))


def _deed(actor: Actor, upload: Upload, channel: Channel, **told: JSON) -> Deed:
    detail = {"sha256": upload.sha256, **told}
    on = f"{channel} {upload.path.name}"
    return Deed(actor=actor, action="upload", object=on, detail=detail)


def _take_sdist(upload: Upload, desk: FarmDesk, actor: Actor, channel: Channel) -> Taken:
    project, version = sdist_name(upload.path.name)
    _compare(upload, "name", canonicalize_name(upload.name), project)
    _compare_version(upload, str(version))
    metadata = _INSPECTION.run(read_pkg_info, upload.path)
    _check_said(upload, project, metadata or {})
    targets = _known_targets(desk, channel)
    if not targets:
        raise UploadRefusedError(
            f"nobody knows for which targets {upload.path.name} is to be built: {channel} has none",
            hint="name them in the server's wheelfarm.toml: [upload] targets",
        )
    kept = desk.farm.store.keep(upload.path)
    with desk.farm.store.database.writing() as connection:
        take_name(connection, channel, upload.path.name, kept.sha256, actor.who)
        record_local_name(connection, canonicalize_name(project))
        record(connection, _deed(actor, upload, channel, fingerprints=sorted(targets)))
    submissions = tuple(_submitted(upload, desk, actor, channel, targets))
    return Taken(channel=channel, submissions=submissions, fingerprints=tuple(targets))


def _submitted(
    upload: Upload,
    desk: FarmDesk,
    actor: Actor,
    channel: Channel,
    targets: Mapping[Fingerprint, Target],
) -> Iterator[str]:
    place = _origin(actor).location
    thing = SaidUpload(sha256=upload.sha256, filename=upload.path.name, place=place)
    said = [
        SaidTarget.model_validate({"name": name, "identity": identity_of(target)})
        for name, target in targets.items()
    ]
    for start in range(0, len(said), MOST_TARGETS):
        call = SaidCall(
            wanted=[thing],
            targets=said[start : start + MOST_TARGETS],
            submitter=actor.who[:200],
            channel=channel,
        )
        yield desk.acting_for(actor).submit(call).id


def _known_targets(desk: FarmDesk, channel: Channel | None) -> dict[Fingerprint, Target]:
    """The targets that the settings name, and those of one channel or of the whole store."""
    settings = desk.farm.settings
    known = dict(desk.farm.store.catalogue.targets(channel, inherited=False))
    for target in _set_targets(settings):
        known[fingerprint_of(target)] = target
    return known


def _set_targets(settings: Settings) -> list[Target]:
    return [resolve_identity(word, settings) for word in settings.upload.targets]


def _served_by(
    wheel: VerifiedWheel, targets: Mapping[Fingerprint, Target]
) -> dict[Fingerprint, Target]:
    return {name: target for name, target in targets.items() if serves(wheel, target)}


def _check_served(entry: _Entry) -> None:
    name, wheel = entry.upload.path.name, entry.wheel
    if wheel.interpreter_bound:
        raise UploadRefusedError(
            f"{name} is bound to one interpreter build ({wheel.interpreter_bound[0]})",
            hint="upload its sdist: the farm builds it on the interpreter that it will run on",
        )
    if not entry.targets:
        tags = ", ".join(sorted(map(str, wheel.tags))[:_SHOWN])
        raise UploadRefusedError(
            f"no target that this store knows takes {tags}",
            hint="build something for the target first, or name it under [upload] targets",
        )
    if not entry.chosen:
        raise NameTakenError(
            f"{wheel.name} {wheel.version} already exists for every target that {name} serves, "
            "and was built here or fits better",
            hint="what was built here is not replaced by an upload: raise the version",
        )


def _judged(upload: Upload) -> VerifiedWheel:
    """The wheel as it may be published, beside the one that was uploaded."""
    out = upload.path.parent / "published"
    out.mkdir()
    return _INSPECTION.wheel(verify_for_store, upload.path, out)


def _verified_again(path: Path) -> VerifiedWheel:
    """The store's own look at the bytes that it copied."""
    return _INSPECTION.again(reverify, path)


def _check_wheel_name(upload: Upload) -> None:
    try:
        project, version, _, _ = parse_wheel_filename(upload.path.name)
    except (InvalidWheelFilename, InvalidVersion) as error:
        raise MalformedError(f"not a wheel's file name: {upload.path.name[:80]!a}") from error
    _compare(upload, "name", canonicalize_name(upload.name), project)
    _compare_version(upload, str(version))


def _check_said(upload: Upload, project: str, metadata: RawMetadata) -> None:
    """Hold what the client says of the file against what the file says of itself."""
    if name := metadata.get("name"):
        _compare(upload, "Name", canonicalize_name(name), project)
    if version := metadata.get("version"):
        _compare_version(upload, version)
    texts = {
        "metadata_version": metadata.get("metadata_version"),
        "summary": metadata.get("summary"),
    }
    for field, text in texts.items():
        if told := upload.said.get(field):
            _compare(upload, field, told[0].strip(), (text or "").strip())
    if told := upload.said.get("requires_python"):
        wanted = _specifiers(metadata.get("requires_python") or "")
        _compare(upload, "requires_python", _specifiers(told[0]), wanted)
    if told := upload.said.get("requires_dist"):
        needed = _requirements(metadata.get("requires_dist") or [])
        _compare(upload, "requires_dist", _requirements(told), needed)


def _compare_version(upload: Upload, seen: str) -> None:
    try:
        same = Version(upload.version) == Version(seen)
    except InvalidVersion:
        same = False
    if not same:
        _compare(upload, "version", upload.version, seen)


def _compare(upload: Upload, field: str, told: object, seen: object) -> None:
    if told != seen:
        raise NotProvenError(
            f"{upload.path.name}: its {field} is {seen!a:.200}, not {told!a:.200} as was said",
            hint="upload the file with what it says of itself, as twine and uv do",
        )


def _specifiers(text: str) -> object:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return text.strip()


def _requirements(texts: Sequence[str]) -> list[str]:
    return sorted(map(_requirement, texts))


def _requirement(text: str) -> str:
    try:
        return str(Requirement(text))
    except InvalidRequirement:
        return text.strip()


def _source(entry: _Entry) -> Source:
    """The file as it was uploaded."""
    return Source(
        name=canonicalize_name(entry.wheel.name),
        version=entry.wheel.version,
        filename=entry.upload.path.name,
        sha256=entry.upload.sha256,
        origin=_origin(entry.actor),
    )


def _origin(actor: Actor) -> Origin:
    by = f"{actor.who} (token {actor.token})" if actor.token else actor.who
    return Origin(kind="upload", location=f"uploaded by {by}", pinned=False)
