"""The blast radius of releases: what was made with them, whom they serve, who was given them.

A wheel that was a build requirement of others takes with it what was built with it, and so on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, select

from store.channel import Channel
from store.digest import JSON
from store.fingerprint import Fingerprint
from store.schema import files, release_requirements, releases, servings, widenings
from store.selection import in_parts

_ROW: Final = select(
    releases.c.id,
    releases.c.channel,
    releases.c.fingerprint,
    releases.c.build_key,
    releases.c.yanked,
    releases.c.disowned,
    files.c.filename,
    files.c.sha256,
    files.c.name,
    files.c.version,
).join_from(releases, files)


@dataclass(frozen=True, slots=True, kw_only=True)
class Struck:
    """A release that an order reaches. `because` is the file that it was built with, None for one
    that was selected itself."""

    id: int
    channel: Channel
    fingerprint: Fingerprint
    build_key: str
    yanked: str | None
    disowned: int | None
    filename: str
    sha256: str
    name: str
    version: str
    because: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """The release as plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Widened:
    """A second fingerprint that a file serves; it goes with the release, or with its proof."""

    widening_id: int
    channel: Channel
    filename: str
    fingerprint: Fingerprint
    reason: str

    def to_json(self) -> dict[str, JSON]:
        """The widening as plain JSON, but for its number."""
        return {name: getattr(self, name) for name in self.__slots__ if name != "widening_id"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """An environment fingerprint that was given a file, from the first day to the last."""

    channel: Channel
    fingerprint: Fingerprint
    filename: str
    first_on: str
    last_on: str

    def to_json(self) -> dict[str, JSON]:
        """The record as plain JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Radius:
    """All that hangs on some releases.

    `selected` are they themselves, `made_with` what was built with them, directly or not,
    `widened` the second fingerprints that they serve, or for which they are the proof; `same_bytes`
    are other releases of their files, which no order of these reaches; `served` who was given them.
    """

    selected: tuple[Struck, ...]
    made_with: tuple[Struck, ...]
    widened: tuple[Widened, ...]
    same_bytes: tuple[Struck, ...]
    served: tuple[Served, ...]

    @property
    def struck(self) -> tuple[Struck, ...]:
        """Every release in it but those of the same bytes."""
        return self.selected + self.made_with

    @property
    def channels(self) -> list[Channel]:
        """Every channel that lists one of them."""
        return sorted({each.channel for each in self.struck})

    @property
    def fingerprints(self) -> list[Fingerprint]:
        """Every fingerprint that one of them was built for, is widened to, or was served to."""
        found = {each.fingerprint for each in self.struck}
        found |= {each.fingerprint for each in self.widened}
        return sorted(found | {each.fingerprint for each in self.served})

    @property
    def projects(self) -> list[str]:
        """The projects whose wheels they are, normalised names."""
        return sorted({each.name for each in self.struck})


def blast_radius(connection: Connection, selected: Iterable[int], *, deep: bool = True) -> Radius:
    """The radius of the standing releases of those numbers; unless `deep`, of them alone."""
    chosen = tuple(_standing(connection, selected))
    made_with = tuple(_made_with(connection, chosen)) if deep else ()
    struck = chosen + made_with
    return Radius(
        selected=chosen,
        made_with=made_with,
        widened=tuple(_widened(connection, struck)),
        same_bytes=tuple(_same_bytes(connection, struck)),
        served=tuple(_served(connection, struck)),
    )


def read_releases(connection: Connection, numbers: Iterable[int]) -> Iterator[Struck]:
    """The releases of those numbers, disowned ones also."""
    for some in in_parts(numbers):
        yield from _read(connection, _ROW.where(releases.c.id.in_(some)))


def _standing(connection: Connection, numbers: Iterable[int]) -> Iterator[Struck]:
    for some in in_parts(numbers):
        query = _ROW.where(releases.c.id.in_(some), releases.c.disowned.is_(None))
        yield from _read(connection, query)


def _made_with(connection: Connection, first: Sequence[Struck]) -> Iterator[Struck]:
    """What was built with them, then what was built with that; each release once."""
    seen, frontier = {each.id for each in first}, list(first)
    while frontier:
        found = [each for each in _built_with(connection, frontier) if each.id not in seen]
        frontier = list({each.id: each for each in found}.values())
        seen |= {each.id for each in frontier}
        yield from frontier


def _built_with(connection: Connection, used: Sequence[Struck]) -> Iterator[Struck]:
    by_digest = {each.sha256: each.filename for each in used}
    for some in in_parts(by_digest):
        query = (
            _ROW.add_columns(release_requirements.c.sha256.label("with_sha256"))
            .join(release_requirements, release_requirements.c.release_id == releases.c.id)
            .where(release_requirements.c.sha256.in_(some), releases.c.disowned.is_(None))
        )
        for row in connection.execute(query.order_by(releases.c.id)):
            fields = dict(row._mapping)
            yield Struck(because=by_digest[fields.pop("with_sha256")], **fields)


def _widened(connection: Connection, struck: Sequence[Struck]) -> Iterator[Widened]:
    """The widenings of these releases, and those of others whose proof is one of them."""
    columns = (
        widenings.c.id.label("widening_id"),
        releases.c.channel,
        releases.c.filename,
        widenings.c.fingerprint,
        widenings.c.reason,
    )
    query = select(*columns).join_from(widenings, releases).where(widenings.c.disowned.is_(None))
    for some in in_parts({each.id for each in struck}):
        own = query.where(releases.c.id.in_(some)).order_by(widenings.c.id)
        yield from (Widened(**row._mapping) for row in connection.execute(own))
    yield from _proved_by(connection, query, struck)


def _proved_by(connection: Connection, query: Any, struck: Sequence[Struck]) -> Iterator[Widened]:
    """A wheel of the same content serves a fingerprint because the one built for it is the twin."""
    twins = {(each.channel, each.fingerprint, each.filename) for each in struck}
    own = {each.id for each in struck}
    others = query.add_columns(widenings.c.evidence, releases.c.id.label("release_id"))
    others = others.where(widenings.c.reason == "same-content")
    for some in in_parts({each.fingerprint for each in struck}):
        for row in connection.execute(others.where(widenings.c.fingerprint.in_(some))):
            fields = dict(row._mapping)
            twin = fields.pop("evidence").get("twin")
            if fields.pop("release_id") in own:
                continue
            if (fields["channel"], fields["fingerprint"], twin) in twins:
                yield Widened(**fields)


def _same_bytes(connection: Connection, struck: Sequence[Struck]) -> Iterator[Struck]:
    own = {each.id for each in struck}
    for some in in_parts({each.filename for each in struck}):
        query = _ROW.where(releases.c.filename.in_(some), releases.c.disowned.is_(None))
        yield from (each for each in _read(connection, query) if each.id not in own)


def _served(connection: Connection, struck: Sequence[Struck]) -> Iterator[Served]:
    """Who was given one of these files, in a channel where they are."""
    known = {(each.channel, each.filename) for each in struck}
    for some in in_parts({each.filename for each in struck}):
        query = select(servings).where(servings.c.filename.in_(some))
        for row in connection.execute(query.order_by(*servings.primary_key)):
            served = Served(**row._mapping)
            if (served.channel, served.filename) in known:
                yield served


def _read(connection: Connection, query: Any) -> Iterator[Struck]:
    rows = connection.execute(query.order_by(releases.c.id))
    return (Struck(**row._mapping) for row in rows)
