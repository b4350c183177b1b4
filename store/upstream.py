"""What came from an index as it is, and what was looked at and refused: the queries about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields

from packaging.utils import NormalizedName
from sqlalchemy import ColumnElement, Connection, RowMapping, delete, or_, select

from store.catalogue import is_text, now, releases_where
from store.channel import UPSTREAM
from store.database import Database, insert
from store.digest import JSON, Sha256
from store.release import Release
from store.schema import files, releases, sources, upstream_refusals


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """A release of the channel upstream, and the digest of the file of the index that it is."""

    sha256: Sha256
    release: Release


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A file of an index that was looked at and refused: by its digest, with what was found."""

    sha256: Sha256
    filename: str
    name: str
    code: str
    message: str
    findings: Sequence[Mapping[str, JSON]] = ()


def adoptions(database: Database, project: NormalizedName) -> list[Adoption]:
    """All of a project's, for whatever fingerprint, disowned ones as well; the oldest first."""
    return _adoptions(database, files.c.name == project)


def adoptions_of(database: Database, sha256: Sha256) -> list[Adoption]:
    """Those of one file of an index, as it was before it was retagged, if it was."""
    of_it = select(sources.c.id).where(sources.c.sha256 == sha256)
    return _adoptions(database, releases.c.source_id.in_(of_it))


def refusals(database: Database, project: NormalizedName) -> dict[Sha256, Refusal]:
    """What was refused of a project, by digest."""
    return {each.sha256: each for each in _refusals(database, upstream_refusals.c.name == project)}


def refusals_of(database: Database, text: str) -> list[Refusal]:
    """What was refused under that file name or digest; the newest first."""
    if not is_text(text):
        return []
    table = upstream_refusals.c
    return _refusals(database, or_(table.filename == text, table.sha256 == text))


def remember_refusal(database: Database, refusal: Refusal) -> None:
    """Note that a file was refused; the newest look counts."""
    row = {
        "sha256": refusal.sha256,
        "filename": refusal.filename,
        "name": refusal.name,
        "code": refusal.code,
        "message": refusal.message,
        "findings": [dict(each) for each in refusal.findings],
        "refused_at": now(),
    }
    with database.writing() as connection:
        query = insert(connection, upstream_refusals).values(row)
        newer = {name: query.excluded[name] for name in row if name != "sha256"}
        connection.execute(query.on_conflict_do_update(index_elements=["sha256"], set_=newer))


def forget_refusal(connection: Connection, sha256: Sha256) -> None:
    """A later look let the file in."""
    connection.execute(delete(upstream_refusals).where(upstream_refusals.c.sha256 == sha256))


def _adoptions(database: Database, condition: ColumnElement[bool]) -> list[Adoption]:
    digests = (
        select(releases.c.id, sources.c.sha256)
        .join_from(releases, files)
        .join(sources, releases.c.source_id == sources.c.id)
        .where(releases.c.channel == UPSTREAM, condition)
    )
    with database.reading() as connection:
        known = {row.id: row.sha256 for row in connection.execute(digests)}
        found = releases_where(connection, releases.c.channel == UPSTREAM, condition)
        return [Adoption(sha256=known[each.id], release=each) for each in found]


def _refusals(database: Database, condition: ColumnElement[bool]) -> list[Refusal]:
    query = select(upstream_refusals).where(condition)
    newest = query.order_by(upstream_refusals.c.refused_at.desc())
    with database.reading() as connection:
        return [_refusal(row._mapping) for row in connection.execute(newest)]


def _refusal(row: RowMapping) -> Refusal:
    return Refusal(**{each.name: row[each.name] for each in dataclass_fields(Refusal)})
