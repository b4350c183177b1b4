"""The queries of the catalogue: what the store has, and for whom.

Names are put in order here and not by the database, whose order is that of its locale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from packaging.tags import Tag
from packaging.utils import NormalizedName, canonicalize_name
from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Connection,
    Row,
    Select,
    Update,
    and_,
    func,
    or_,
    select,
    union_all,
    update,
)

from store.access import Actor
from store.audit import Deed, record
from store.channel import Channel, Inheritance
from store.database import Database, insert, insert_new
from store.digest import JSON, Sha256, sha256_of
from store.errors import NotFoundError
from store.fingerprint import Fingerprint, fingerprint_of
from store.provenance import OF_AN_INDEX, BuildKey, Pin, Provenance, Source
from store.release import Release, Widening
from store.schema import (
    blobs,
    files,
    local_names,
    project_statuses,
    release_requirements,
    releases,
    resolutions,
    sources,
    targets,
    widenings,
)
from store.status import ACTIVE, ProjectStatus, strictest
from store.target import Target, identity_of, target_from_identity
from store.verdict import VerifiedWheel

SUPERSEDED: Final = "superseded by "
"""How the reason begins for which an older build of a version is yanked."""

_RELEASE: Final = (
    select(
        releases.c.id,
        releases.c.channel,
        releases.c.fingerprint,
        releases.c.build_key,
        releases.c.proof,
        releases.c.published_at,
        releases.c.yanked,
        releases.c.disowned,
        releases.c.promotion,
        files,
        blobs.c.size,
    )
    .join_from(releases, files)
    .join(blobs, files.c.sha256 == blobs.c.sha256)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSummary:
    """One index of the store: a channel and a fingerprint, and how much it lists."""

    channel: Channel
    fingerprint: Fingerprint
    projects: int
    files: int


class Catalogue:
    """Questions to one database, each in a transaction of its own. All raise StoreError.

    What is asked of an index is answered for the channel with what it inherits: every project from
    the first channel of the chain that has it for the fingerprint, and from that one alone.
    """

    def __init__(self, database: Database, inheritance: Inheritance = Inheritance()) -> None:  # noqa: B008  # frozen
        self._database = database
        self.inheritance = inheritance

    def find_release(
        self, channel: Channel, fingerprint: Fingerprint, build_key: BuildKey
    ) -> Release | None:
        """The release of one build, None when none stands: whether a build is a hit."""
        with self._database.reading() as connection:
            return release_of_build(connection, channel, fingerprint, build_key)

    def indexes(self) -> list[IndexSummary]:
        """Every index with at least one wheel, its own or inherited."""
        with self._database.reading() as connection:
            own = _summaries(connection)
            heirs = self.inheritance.heirs([each.channel for each in own])
            chains = {heir: self.inheritance.chain(heir) for heir in heirs}
            found = [*(each for each in own if each.channel not in chains)]
            found += _inherited_summaries(connection, chains) if chains else []
        found.sort(key=lambda index: index.fingerprint)
        return sorted(found, key=lambda index: index.channel, reverse=True)

    def has_index(self, channel: Channel, fingerprint: Fingerprint) -> bool:
        """Whether `channel` serves, or would fetch, at least one wheel for `fingerprint`."""
        with self._database.reading() as connection:
            return any(
                connection.execute(_ids(each, fingerprint).limit(1)).first() is not None
                for each in self.inheritance.chain(channel)
            ) or (self.inheritance.pulls(channel) and _is_target(connection, fingerprint))

    def projects(self, channel: Channel, fingerprint: Fingerprint) -> list[str]:
        """The normalised names of the projects of one index, sorted; quarantined ones as well."""
        found: set[str] = set()
        with self._database.reading() as connection:
            for each, taken in _walk(connection, self.inheritance.chain(channel), fingerprint):
                served = releases.c.id.in_(_ids(each, fingerprint))
                query = select(releases.c.project).where(served).distinct()
                names = connection.execute(query).scalars()
                found.update(name for name in names if name not in taken)
        return sorted(found)

    def listing(
        self, channel: Channel, fingerprint: Fingerprint, project: NormalizedName | None = None
    ) -> list[Release]:
        """The wheels of one index, or of one project in it: one release for each file name.

        Built for the fingerprint or widened to it, and of no quarantined project. Where several
        builds gave the same file it is the first of them, yanked when any of them is. Sorted by
        name and file name.
        """
        chain = self.inheritance.chain(channel)
        with self._database.reading() as connection:
            if project is None:
                rows = _whole(connection, chain, fingerprint)
            else:
                chain = _holders(connection, chain, fingerprint, project)
                query = _served(chain, fingerprint, project=project)
                rows = connection.execute(_in_order(query))
            found = _one_per_file(map(_release, rows))
        return sorted(found, key=lambda release: (release.name, release.filename))

    def served_file(
        self, channel: Channel, fingerprint: Fingerprint, filename: str
    ) -> Release | None:
        """The release behind a file name of one index, None when the index does not list it."""
        chain = self.inheritance.chain(channel)
        with self._database.reading() as connection:
            if len(chain) > 1:
                named = select(files.c.name).where(files.c.filename == filename)
                project = connection.execute(named).scalar()
                chain = _holders(connection, chain, fingerprint, project or "")
            query = _served(chain, fingerprint, filename=filename)
            found = _one_per_file(map(_release, connection.execute(_in_order(query))))
            return found[0] if found else None

    def holder(
        self, channel: Channel, fingerprint: Fingerprint, project: NormalizedName
    ) -> Channel | None:
        """The channel whose wheels of a project an index lists; None when no channel has any.

        It is that channel's also when each of its wheels was yanked or disowned: to take something
        back never brings another channel's wheels into its place.
        """
        with self._database.reading() as connection:
            for each in self.inheritance.chain(channel):
                if _ever_had(connection, each, fingerprint, project):
                    return each
        return None

    def releases_of_builds(self, keys: Collection[BuildKey]) -> list[Release]:
        """Every release, in any channel, of those BuildKeys; some hundreds of keys at most.

        Also the disowned ones.
        """
        query = _RELEASE.where(releases.c.build_key.in_(keys)).order_by(releases.c.id)
        with self._database.reading() as connection:
            return [_release(row) for row in connection.execute(query)]

    def releases_of(self, text: str) -> list[Release]:
        """Every release, in any channel, of a file name, a wheel's digest, or a BuildKey.

        Also the disowned ones.
        """
        if not is_text(text):
            return []
        named = or_(files.c.filename == text, files.c.sha256 == text, releases.c.build_key == text)
        with self._database.reading() as connection:
            rows = connection.execute(_RELEASE.where(named).order_by(releases.c.id))
            return [_release(row) for row in rows]

    def release(self, release_id: int) -> Release:
        """The release of that number. Raises NotFoundError."""
        with self._database.reading() as connection:
            return release_of(connection, release_id)

    def provenance(self, release: Release) -> dict[str, JSON]:
        """The record of the build behind `release`, as `Provenance.to_json` gave it."""
        query = select(releases.c.provenance).where(releases.c.id == release.id)
        with self._database.reading() as connection:
            record: dict[str, JSON] = connection.execute(query).scalar_one()
            return record

    def widenings(self, release: Release) -> list[Widening]:
        """Whom else `release` serves, and why."""
        query = select(widenings).where(
            widenings.c.release_id == release.id, widenings.c.disowned.is_(None)
        )
        with self._database.reading() as connection:
            return [_widening(row) for row in connection.execute(query.order_by(widenings.c.id))]

    def targets(
        self, channel: Channel | None = None, *, inherited: bool = True
    ) -> dict[Fingerprint, Target]:
        """The targets that the store knows, or those that one channel has an index for; `inherited`
        counts what it inherits."""
        query = select(targets)
        if channel is not None and not (inherited and self.inheritance.pulls(channel)):
            chain = self.inheritance.chain(channel) if inherited else (channel,)
            query = query.where(targets.c.fingerprint.in_(_fingerprints(chain)))
        with self._database.reading() as connection:
            identities = {row.fingerprint: row.identity for row in connection.execute(query)}
        return {
            name: target_from_identity(identity) for name, identity in sorted(identities.items())
        }

    def target(self, fingerprint: Fingerprint) -> Target | None:
        """The target of that fingerprint, None when the store does not know it."""
        query = select(targets.c.identity).where(targets.c.fingerprint == fingerprint)
        with self._database.reading() as connection:
            identity = connection.execute(query).scalar()
        return None if identity is None else target_from_identity(identity)

    def remember_target(self, target: Target) -> Fingerprint:
        """Let the store know `target`, so that a wheel may be widened to it."""
        with self._database.writing() as connection:
            record_target(connection, target)
        return fingerprint_of(target)

    def siblings(
        self, source: Sha256, but: Fingerprint | None = None
    ) -> dict[Fingerprint, frozenset[str]]:
        """What the same sdist gave elsewhere: fingerprint -> dotted names of extension modules."""
        query = (
            select(releases.c.fingerprint, files.c.extension_modules)
            .join_from(releases, files)
            .join(sources, releases.c.source_id == sources.c.id)
            .where(sources.c.sha256 == source, releases.c.fingerprint != (but or ""))
            .where(releases.c.disowned.is_(None))
            .order_by(releases.c.id)
        )
        with self._database.reading() as connection:
            rows = connection.execute(query)
            return {row.fingerprint: frozenset(row.extension_modules) for row in rows}

    def was_disowned(self, channel: Channel, fingerprint: Fingerprint, filename: str) -> bool:
        """Whether an index listed that file once, and it was disowned."""
        widened = select(widenings.c.release_id).where(widenings.c.fingerprint == fingerprint)
        itself = and_(
            releases.c.disowned.is_not(None),
            or_(releases.c.fingerprint == fingerprint, releases.c.id.in_(widened)),
        )
        its_widening = releases.c.id.in_(widened.where(widenings.c.disowned.is_not(None)))
        query = select(releases.c.id).where(
            releases.c.channel.in_(self.inheritance.chain(channel)),
            releases.c.filename == filename,
            or_(itself, its_widening),
        )
        with self._database.reading() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def yank(self, channel: Channel, filename: str, reason: str) -> int:
        """Yank a file (PEP 592) in one channel; give the number of releases it changed."""
        query = (
            update(releases)
            .where(releases.c.channel == channel, releases.c.filename == filename)
            .values(yanked=reason)
        )
        with self._database.writing() as connection:
            return connection.execute(query).rowcount

    def yank_builds(
        self, channel: Channel, fingerprint: Fingerprint, name: str, version: str, reason: str
    ) -> int:
        """Yank every build of one version in one index; give the number of releases it changed."""
        query = (
            _builds_of(channel, fingerprint, name, version)
            .where(releases.c.yanked.is_(None))
            .values(yanked=reason)
        )
        with self._database.writing() as connection:
            return connection.execute(query).rowcount

    def prefer(self, release: Release) -> None:
        """Make `release` the one build of its version that its index offers.

        Every other build of the version there is superseded (yanked, and says by what); a release
        that was superseded itself is offered again. Other yanks stay.
        """
        with self._database.writing() as connection:
            supersede(connection, release)

    def project_status(self, channel: Channel, name: NormalizedName) -> ProjectStatus:
        """What `channel` says of a project (PEP 792)."""
        with self._database.reading() as connection:
            return status_of(connection, channel, name)

    def shown_status(
        self, channel: Channel, fingerprint: Fingerprint, name: NormalizedName
    ) -> ProjectStatus:
        """What an index says of a project: the strictest word of the channel itself, of that which
        has the project, and of those between."""
        chain = self.inheritance.chain(channel)
        with self._database.reading() as connection:
            holders = _holders(connection, chain, fingerprint, name)
            return strictest(status_of(connection, each, name) for each in holders)

    def is_local(self, name: NormalizedName) -> bool:
        """Whether a build or an upload of the project ever came from elsewhere than an index."""
        query = select(local_names.c.name).where(local_names.c.name == name)
        with self._database.reading() as connection:
            return connection.execute(query).first() is not None

    def project_statuses(self, channel: Channel) -> dict[str, ProjectStatus]:
        """The projects of which `channel` says that they are not active."""
        query = select(project_statuses).where(project_statuses.c.channel == channel)
        with self._database.reading() as connection:
            rows = connection.execute(query.order_by(project_statuses.c.name))
            return {row.name: ProjectStatus(status=row.status, reason=row.reason) for row in rows}

    def set_project_status(
        self, channel: Channel, name: NormalizedName, status: ProjectStatus, by: Actor
    ) -> None:
        """Say it of a project, which need not have a wheel yet."""
        detail: dict[str, JSON] = {
            "channel": channel,
            "status": status.status,
            "reason": status.reason,
        }
        deed = Deed(actor=by, action="status", object=f"project {name}", detail=detail)
        table = project_statuses
        here = (table.c.channel == channel, table.c.name == name)
        row = {"status": status.status, "reason": status.reason, "recorded_at": now()}
        with self._database.writing() as connection:
            connection.execute(table.delete().where(*here))
            if status.status != "active":
                connection.execute(table.insert().values(channel=channel, name=name, **row))
            record(connection, deed)

    def remember_resolution(self, key: Sha256, pins: Iterable[Pin]) -> None:
        """Keep the outcome of resolving build requirements; the newest one counts."""
        row = {"key": key, "pins": [pin.to_json() for pin in pins], "recorded_at": now()}
        with self._database.writing() as connection:
            query = insert(connection, resolutions).values(row)
            connection.execute(
                query.on_conflict_do_update(
                    index_elements=["key"],
                    set_={"pins": query.excluded.pins, "recorded_at": query.excluded.recorded_at},
                )
            )

    def resolution(self, key: Sha256) -> tuple[Pin, ...] | None:
        """The pins kept under `key`, None when there are none."""
        return self.resolutions([key]).get(key)

    def resolutions(self, keys: Collection[Sha256]) -> dict[Sha256, tuple[Pin, ...]]:
        """The pins kept under each of `keys` that has any; some hundreds of keys at most."""
        query = select(resolutions.c.key, resolutions.c.pins).where(resolutions.c.key.in_(keys))
        with self._database.reading() as connection:
            found = connection.execute(query)
            return {row.key: tuple(Pin(**pin) for pin in row.pins) for row in found}


def now() -> datetime:
    """The moment, in UTC."""
    return datetime.now(UTC)


def release_of_build(
    connection: Connection, channel: Channel, fingerprint: Fingerprint, build_key: BuildKey
) -> Release | None:
    """The standing release of one build, as the connection's transaction sees it."""
    query = _RELEASE.where(
        releases.c.channel == channel,
        releases.c.fingerprint == fingerprint,
        releases.c.build_key == build_key,
        releases.c.disowned.is_(None),
    )
    row = connection.execute(query).first()
    return None if row is None else _release(row)


def release_of(connection: Connection, release_id: int) -> Release:
    """The release of that number, as the connection's transaction sees it. Raises NotFoundError."""
    row = connection.execute(_RELEASE.where(releases.c.id == release_id)).first()
    if row is None:
        raise NotFoundError(f"the store has no release number {release_id}")
    return _release(row)


def releases_where(connection: Connection, *conditions: ColumnElement[bool]) -> list[Release]:
    """The releases whose rows and files meet `conditions`, disowned ones as well, oldest first."""
    rows = connection.execute(_in_order(_RELEASE.where(*conditions)))
    return [_release(row) for row in rows]


def copy_release(connection: Connection, release_id: int, row: Mapping[str, Any]) -> Release:
    """Note a release that is made of another one, with what went into that one's build."""
    made = connection.execute(releases.insert().values(row).returning(releases.c.id)).scalar_one()
    query = select(release_requirements).where(release_requirements.c.release_id == release_id)
    rows = [{**pin._mapping, "release_id": made} for pin in connection.execute(query)]
    if rows:
        connection.execute(release_requirements.insert(), rows)
    return release_of(connection, made)


def status_of(connection: Connection, channel: Channel, name: str) -> ProjectStatus:
    """What `channel` says of a project, as the connection's transaction sees it."""
    query = select(project_statuses.c.status, project_statuses.c.reason).where(
        project_statuses.c.channel == channel, project_statuses.c.name == name
    )
    row = connection.execute(query).first()
    return ACTIVE if row is None else ProjectStatus(status=row.status, reason=row.reason)


def file_conflict(connection: Connection, filename: str, sha256: Sha256) -> tuple[str, str] | None:
    """The published (file name, digest) that stands in the way of this pair, None when free."""
    query = select(files.c.filename, files.c.sha256).where(
        or_(files.c.filename == filename, files.c.sha256 == sha256)
    )
    pairs = [(row.filename, row.sha256) for row in connection.execute(query)]
    return next((pair for pair in pairs if pair != (filename, sha256)), None)


def channel_has(connection: Connection, channel: Channel, filename: str) -> bool:
    """Whether a channel has the file already, in whatever index."""
    query = select(releases.c.id).where(
        releases.c.channel == channel, releases.c.filename == filename
    )
    return connection.execute(query.limit(1)).first() is not None


def channel_size(connection: Connection, channel: Channel) -> int:
    """Bytes of the wheels of a channel, each once; disowned ones are kept, so they count."""
    names = select(releases.c.filename).where(releases.c.channel == channel)
    query = (
        select(func.coalesce(func.sum(blobs.c.size), 0))
        .join_from(files, blobs, files.c.sha256 == blobs.c.sha256)
        .where(files.c.filename.in_(names))
    )
    return int(connection.execute(query).scalar_one())


def metadata_blob(wheel: VerifiedWheel) -> tuple[Sha256, int]:
    """Digest and size in bytes of the wheel's METADATA file."""
    return sha256_of(wheel.metadata), len(wheel.metadata)


def record_blob(connection: Connection, sha256: Sha256, size: int) -> None:
    """Note a blob that is on disk."""
    insert_new(connection, blobs, {"sha256": sha256, "size": size})


def record_target(connection: Connection, target: Target) -> None:
    """Note a target's identity under its fingerprint."""
    row = {"fingerprint": fingerprint_of(target), "identity": identity_of(target)}
    insert_new(connection, targets, row)


def record_file(connection: Connection, wheel: VerifiedWheel, metadata: Sha256) -> None:
    """Note what is in the bytes of `wheel`; `metadata` is the digest of its METADATA blob."""
    row = {
        "filename": wheel.filename,
        "sha256": wheel.sha256,
        "name": canonicalize_name(wheel.name),
        "version": wheel.version,
        "tags": sorted(map(str, wheel.tags)),
        "requires_python": wheel.requires_python,
        "metadata_sha256": metadata,
        "content_sha256": wheel.content_sha256,
        "extension_modules": sorted(wheel.extension_modules),
        "interpreter_bound": list(wheel.interpreter_bound),
    }
    insert_new(connection, files, row)


def record_source(connection: Connection, source: Source) -> int:
    """Note a source with its origin; give its number."""
    row = {
        "sha256": source.sha256,
        "name": source.name,
        "version": source.version,
        "filename": source.filename,
        "origin_kind": source.origin.kind,
        "origin_location": source.origin.location,
        "origin_pinned": source.origin.pinned,
    }
    insert_new(connection, sources, row)
    if source.origin.kind not in OF_AN_INDEX:
        record_local_name(connection, canonicalize_name(source.name))
    query = select(sources.c.id).where(*(sources.c[name] == row[name] for name in row))
    return int(connection.execute(query.order_by(sources.c.id)).scalars().first() or 0)


def record_local_name(connection: Connection, name: NormalizedName) -> None:
    """Note that a project is one's own: its name is never looked up upstream from now on."""
    insert_new(connection, local_names, {"name": name, "since": now()})


def record_release(
    connection: Connection,
    channel: Channel,
    provenance: Provenance,
    wheel: VerifiedWheel,
    source_id: int,
) -> None:
    """Note that `wheel` is published; the row that makes all the others seen."""
    row = {
        "channel": channel,
        "fingerprint": provenance.fingerprint,
        "build_key": provenance.inputs.key,
        "filename": wheel.filename,
        "project": canonicalize_name(wheel.name),
        "source_id": source_id,
        "log_sha256": provenance.log_sha256,
        "provenance": provenance.to_json(),
        "proof": provenance.proof,
        "published_at": now(),
        "yanked": None,
    }
    made = releases.insert().values(row).returning(releases.c.id)
    _record_requirements(connection, connection.execute(made).scalar_one(), provenance)


def _record_requirements(connection: Connection, release_id: int, provenance: Provenance) -> None:
    unique = {pin.sha256: pin for pin in provenance.inputs.build_requirements}
    rows = [
        {"release_id": release_id, "sha256": pin.sha256, "name": pin.name, "version": pin.version}
        for pin in unique.values()
    ]
    if rows:
        connection.execute(release_requirements.insert(), rows)


def supersede(connection: Connection, release: Release) -> None:
    """Leave `release` the only build of its version in its index; see `Catalogue.prefer`.

    Build tags sort, so two builds of one version would be chosen between by their digests.
    """
    here = _builds_of(release.channel, release.fingerprint, release.name, release.version)
    others = here.where(releases.c.filename != release.filename, releases.c.yanked.is_(None))
    itself = here.where(
        releases.c.filename == release.filename, releases.c.yanked.startswith(SUPERSEDED)
    )
    connection.execute(others.values(yanked=f"{SUPERSEDED}{release.filename}"))
    connection.execute(itself.values(yanked=None))


def _builds_of(channel: Channel, fingerprint: Fingerprint, name: str, version: str) -> Update:
    """An update of every build of one version in one index."""
    its_file = select(files.c.filename).where(
        files.c.filename == releases.c.filename, files.c.version == version
    )
    return update(releases).where(
        releases.c.channel == channel,
        releases.c.project == name,
        releases.c.fingerprint == fingerprint,
        releases.c.disowned.is_(None),
        its_file.exists(),
    )


def record_widening(connection: Connection, widening: Widening) -> None:
    """Note a widening; the first one for a release and a fingerprint stands."""
    row = {
        "release_id": widening.release_id,
        "fingerprint": widening.fingerprint,
        "reason": widening.reason,
        "evidence": widening.evidence,
        "recorded_at": widening.recorded_at,
        "project": select(releases.c.project)
        .where(releases.c.id == widening.release_id)
        .scalar_subquery(),
    }
    insert_new(connection, widenings, row)


def _in_order(query: Select[Any]) -> Select[Any]:
    return query.order_by(releases.c.id)


def _served(
    holders: Sequence[Channel],
    fingerprint: Fingerprint,
    *,
    project: str | None = None,
    filename: str | None = None,
) -> Select[Any]:
    """The releases of the last of `holders` that are served to `fingerprint`, none of a project
    that one of the holders has under quarantine; of one project, or one file, where it is named."""
    hidden = select(project_statuses.c.name).where(
        project_statuses.c.channel.in_(holders), project_statuses.c.status == "quarantined"
    )
    standing = _ids(holders[-1], fingerprint, project=project, filename=filename)
    return _RELEASE.where(releases.c.id.in_(standing), releases.c.project.not_in(hidden))


def _ids(
    channel: Channel,
    fingerprint: Fingerprint,
    *,
    project: str | None = None,
    filename: str | None = None,
    ever: bool = False,
) -> CompoundSelect[int]:
    """The numbers of the releases of one index: built for `fingerprint`, or widened to it.

    `ever`: of those also that were disowned. Two queries together, each with its own index: engines
    find no way into an OR of both.
    """
    here = [releases.c.channel == channel]
    widened = [releases.c.id == widenings.c.release_id, widenings.c.fingerprint == fingerprint]
    if project is not None:
        here.append(releases.c.project == project)
        widened.append(widenings.c.project == project)
    if filename is not None:
        here.append(releases.c.filename == filename)
    if not ever:
        here.append(releases.c.disowned.is_(None))
        widened.append(widenings.c.disowned.is_(None))
    # Not correlated: these are conditions on these rows, not on those of a query around.
    numbers = select(releases.c.id).where(*here).correlate(None)
    return union_all(numbers.where(releases.c.fingerprint == fingerprint), numbers.where(*widened))


def _whole(
    connection: Connection, chain: Sequence[Channel], fingerprint: Fingerprint
) -> Iterator[Row[Any]]:
    """The rows of a whole index: of each channel what no earlier one has."""
    for number, (_, taken) in enumerate(_walk(connection, chain, fingerprint), start=1):
        rows = connection.execute(_in_order(_served(chain[:number], fingerprint)))
        yield from (row for row in rows if row.name not in taken)


def _walk(
    connection: Connection, chain: Sequence[Channel], fingerprint: Fingerprint
) -> Iterator[tuple[Channel, set[str]]]:
    """Each channel, with the names of the projects that the earlier ones have."""
    taken: set[str] = set()
    for channel in chain:
        yield channel, taken
        if channel != chain[-1]:
            ever = releases.c.id.in_(_ids(channel, fingerprint, ever=True))
            names = connection.execute(select(releases.c.project).where(ever).distinct())
            taken = taken | set(names.scalars())


def _holders(
    connection: Connection, chain: Sequence[Channel], fingerprint: Fingerprint, project: str
) -> tuple[Channel, ...]:
    """The channels up to the first that has the project; all where none has it."""
    for number, channel in enumerate(chain[:-1], start=1):
        if _ever_had(connection, channel, fingerprint, project):
            return tuple(chain[:number])
    return tuple(chain)


def _ever_had(
    connection: Connection, channel: Channel, fingerprint: Fingerprint, project: str
) -> bool:
    query = _ids(channel, fingerprint, project=project, ever=True)
    return connection.execute(query.limit(1)).first() is not None


def _is_target(connection: Connection, fingerprint: Fingerprint) -> bool:
    query = select(targets.c.fingerprint).where(targets.c.fingerprint == fingerprint)
    return connection.execute(query).first() is not None


def _pairs(*, ever: bool = False) -> Any:
    """(channel, fingerprint, release number) of every standing release and widening; `ever`: of
    those also that were disowned."""
    stands = [] if ever else [releases.c.disowned.is_(None)]
    holds = [] if ever else [widenings.c.disowned.is_(None)]
    built = select(releases.c.channel, releases.c.fingerprint, releases.c.id).where(*stands)
    widened = (
        select(releases.c.channel, widenings.c.fingerprint, releases.c.id)
        .join_from(releases, widenings)
        .where(*stands, *holds)
    )
    return built.union(widened).subquery()


def _fingerprints(channels: Sequence[Channel]) -> Any:
    pairs = _pairs()
    return select(pairs.c.fingerprint).where(pairs.c.channel.in_(channels))


def _summaries(connection: Connection) -> list[IndexSummary]:
    pairs = _pairs()
    query = (
        select(
            pairs.c.channel,
            pairs.c.fingerprint,
            func.count(releases.c.project.distinct()).label("projects"),
            func.count(releases.c.filename.distinct()).label("files"),
        )
        .join_from(pairs, releases, pairs.c.id == releases.c.id)
        .group_by(pairs.c.channel, pairs.c.fingerprint)
    )
    return [IndexSummary(**row._mapping) for row in connection.execute(query)]


def _inherited_summaries(
    connection: Connection, chains: Mapping[Channel, Sequence[Channel]]
) -> list[IndexSummary]:
    """The indexes of the channels that inherit."""
    involved = {each for chain in chains.values() for each in chain}
    standing, ever = (_counts(connection, involved, ever=each) for each in (False, True))
    return [
        summary
        for heir, chain in chains.items()
        for fingerprint in sorted({name for each in chain for name in standing.get(each, ())})
        if (summary := _inherited(heir, chain, fingerprint, standing, ever))
    ]


_Counts: TypeAlias = dict[Channel, dict[Fingerprint, dict[str, int]]]
"""Channel -> fingerprint -> project -> how many files."""


def _inherited(
    heir: Channel,
    chain: Sequence[Channel],
    fingerprint: Fingerprint,
    standing: _Counts,
    ever: _Counts,
) -> IndexSummary | None:
    listed: dict[str, int] = {}
    taken: set[str] = set()
    for each in chain:
        there = standing.get(each, {}).get(fingerprint, {})
        listed |= {name: count for name, count in there.items() if name not in taken}
        taken |= ever.get(each, {}).get(fingerprint, {}).keys()
    if not listed:
        return None
    return IndexSummary(
        channel=heir, fingerprint=fingerprint, projects=len(listed), files=sum(listed.values())
    )


def _counts(connection: Connection, channels: Collection[Channel], *, ever: bool) -> _Counts:
    pairs = _pairs(ever=ever)
    count = func.count(releases.c.filename.distinct()).label("count")
    query = (
        select(pairs.c.channel, pairs.c.fingerprint, releases.c.project, count)
        .join_from(pairs, releases, pairs.c.id == releases.c.id)
        .where(pairs.c.channel.in_(channels))
        .group_by(pairs.c.channel, pairs.c.fingerprint, releases.c.project)
    )
    found: _Counts = {}
    for channel, fingerprint, name, number in connection.execute(query):
        found.setdefault(channel, {}).setdefault(fingerprint, {})[name] = number
    return found


def is_text(text: str) -> bool:
    """Whether both engines can be asked for it: UTF-8 without NUL, which PostgreSQL never holds."""
    try:
        return b"\0" not in text.encode("utf-8")
    except UnicodeEncodeError:
        return False


def _one_per_file(found: Iterable[Release]) -> list[Release]:
    by_file: dict[str, Release] = {}
    for release in found:
        first = by_file.setdefault(release.filename, release)
        if first.yanked is None and release.yanked is not None:
            by_file[release.filename] = release
    return list(by_file.values())


def _release(row: Row[Any]) -> Release:
    fields = dict(row._mapping)
    fields["tags"] = frozenset(Tag(*text.split("-")) for text in fields["tags"])
    fields["extension_modules"] = frozenset(fields["extension_modules"])
    fields["interpreter_bound"] = tuple(fields["interpreter_bound"])
    return Release(**fields)


def _widening(row: Row[Any]) -> Widening:
    fields = dict(row._mapping)
    del fields["id"], fields["disowned"], fields["project"]
    return Widening(**fields)
