"""Promotion: releases of one channel become releases of another, with a reason.

Nothing is copied and nothing built: the same bytes under the same name, with the same record of
their build, in a row of the target channel. It follows the rules of any publication there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from packaging.utils import NormalizedName, canonicalize_name
from sqlalchemy import Connection, Row, select

from store import catalogue
from store.access import Actor
from store.audit import Deed, record
from store.channel import RELEASE, UPSTREAM, Channel
from store.digest import JSON
from store.errors import MalformedError, NameTakenError, NotFoundError, PolicyError
from store.invalidate import check_line, refuse_disowned
from store.provenance import OF_AN_INDEX
from store.publish import Store, check_quota, check_status
from store.release import Release, Widening, timestamp
from store.schema import releases, sources, widenings
from store.selection import Selection, matching

IndexHas = Callable[[NormalizedName], bool]
"""Whether the package index knows a project, asked now; raises when it cannot be asked."""

_COPIED: Final = (
    "fingerprint",
    "build_key",
    "filename",
    "project",
    "source_id",
    "log_sha256",
    "provenance",
    "proof",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What is to be promoted: whatever of `selection`, which names no channel, `source` offers."""

    selection: Selection
    source: Channel
    target: Channel
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promoted:
    """The releases of the target channel: those that were made, and those it had already."""

    made: tuple[Release, ...]
    there: tuple[Release, ...]


class _Undone(Exception):  # noqa: N818  # no trouble, but the end of a dry run
    """Takes the transaction of a dry run back."""


def promote(
    store: Store, move: Move, *, actor: Actor, index_has: IndexHas, dry_run: bool = False
) -> Promoted:
    """Let the target channel list what `move` means, all of it or nothing; for `actor`.

    What is yanked or under quarantine in the source is not offered, so it is not promoted. A dry
    run does it all, and takes it back.

    Raises NotFoundError where there is nothing of that name; PolicyError where the target may not
    have it; NameTakenError where the target has the same build with other bytes; DisownedError,
    QuotaError, MalformedError, StoreError; and what `index_has` raises.
    """
    check_line("reason", move.reason)
    _check_channels(move)
    with store.database.reading() as connection:
        offered = _offered(connection, move)
    cleared = _cleared(offered, move, index_has)
    result = Promoted(made=(), there=())
    try:
        with store.database.writing() as connection:
            result = _promote(connection, store, move, actor, cleared)
            if dry_run:
                raise _Undone  # noqa: TRY301  # only so does the transaction end without a trace
    except _Undone:
        pass
    return result


def _check_channels(move: Move) -> None:
    if move.source == move.target:
        raise MalformedError("a promotion leads to another channel", path="target")
    if move.target == UPSTREAM:
        raise PolicyError(
            "upstream has the wheels of an index, and nothing is promoted into it",
            hint="`wheelfarm adopt` brings wheels of the index there",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offer:
    """A release that may be promoted, and its row; `doubtful` when what made it is not known to
    be what the release channel stands for."""

    release: Release
    row: Mapping[str, Any]
    doubtful: bool

    @property
    def project(self) -> NormalizedName:
        return canonicalize_name(self.release.name)


def _offered(connection: Connection, move: Move) -> list[_Offer]:
    """What the source offers of it. Raises NotFoundError, PolicyError when it offers nothing."""
    chosen = replace(move.selection, channel=move.source)
    found = [_offer(connection, number) for number in matching(connection, chosen)]
    standing = [each for each in found if each.release.disowned is None]
    if not standing:
        raise NotFoundError(f"{move.source} has no release that stands of: {move.selection}")
    offered = [each for each in standing if each.release.yanked is None]
    if not offered:
        why = standing[-1].release.yanked or "no reason given"
        raise PolicyError(
            f"{standing[-1].release.filename} is yanked in {move.source}: {why}",
            hint="promote another build, or undo the yank",
        )
    for name in dict.fromkeys(each.project for each in offered):
        _check_open(connection, name, move.source)
    return offered


def _check_open(connection: Connection, name: NormalizedName, source: Channel) -> None:
    said = catalogue.status_of(connection, source, name)
    if said.status == "quarantined":
        raise PolicyError(f"{name} is under quarantine in {source}: {said.reason or 'no reason'}")


def _offer(connection: Connection, number: int) -> _Offer:
    row = connection.execute(select(releases).where(releases.c.id == number)).one()
    origin = connection.execute(
        select(sources.c.origin_kind, sources.c.origin_pinned).where(sources.c.id == row.source_id)
    ).one()
    return _Offer(
        release=catalogue.release_of(connection, number),
        row=dict(row._mapping),
        doubtful=not (origin.origin_kind in OF_AN_INDEX and origin.origin_pinned),
    )


def _cleared(
    offered: Sequence[_Offer], move: Move, index_has: IndexHas
) -> frozenset[NormalizedName]:
    """The projects of which a local or unpinned build may enter the release channel: those that
    the index does not have at this moment. Raises PolicyError for one that it has."""
    if move.target != RELEASE:
        return frozenset()
    names = frozenset(each.project for each in offered if each.doubtful)
    for name in sorted(names):
        if index_has(name):
            raise _shadows(name)
    return names


def _shadows(name: str) -> PolicyError:
    return PolicyError(
        f"the index has a project {name}: a local, uploaded or unpinned build of that name may "
        "not enter the release channel",
        hint="pin its sdist by hash and build it; or give what is yours a name of its own",
    )


def _promote(
    connection: Connection,
    store: Store,
    move: Move,
    actor: Actor,
    cleared: frozenset[NormalizedName],
) -> Promoted:
    made, there = [], []
    for each in _offered(connection, move):
        if move.target == RELEASE and each.doubtful and each.project not in cleared:
            raise _shadows(each.project)  # it came meanwhile, and nobody asked for its name
        if standing := _standing(connection, each, move.target):
            there.append(standing)
        else:
            made.append(_make(connection, store, each, move, actor))
    for release in made:
        _widen(connection, release, move.source)
        record(connection, _deed(release, move, actor))
    return Promoted(made=tuple(made), there=tuple(there))


def _standing(connection: Connection, offer: _Offer, target: Channel) -> Release | None:
    """What the target has of the same build. Raises NameTakenError when it has other bytes."""
    release = offer.release
    found = catalogue.release_of_build(connection, target, release.fingerprint, release.build_key)
    if found is not None and found.sha256 != release.sha256:
        raise NameTakenError(
            f"{target} has {found.filename} of the same build as {release.filename}: the first "
            "release of a build stands",
            hint="disown one of the two",
        )
    return found


def _make(connection: Connection, store: Store, offer: _Offer, move: Move, actor: Actor) -> Release:
    release, target = offer.release, move.target
    check_status(connection, release.name, target)
    refuse_disowned(connection, release.filename, offer.row["provenance"]["inputs"])
    check_quota(connection, target, release, store.quota(target))
    row = {name: offer.row[name] for name in _COPIED} | {
        "channel": target,
        "published_at": catalogue.now(),
        "promotion": _told(move, actor),
    }
    made = catalogue.copy_release(connection, release.id, row)
    catalogue.supersede(connection, made)
    return made


def _told(move: Move, actor: Actor) -> dict[str, JSON]:
    at = timestamp(catalogue.now())
    return {"from": move.source, "reason": move.reason, "by": actor.who, "at": at}


def _widen(connection: Connection, made: Release, source: Channel) -> None:
    """Let the new release serve whom the old one served, for every reason that holds there too."""
    old = catalogue.release_of_build(connection, source, made.fingerprint, made.build_key)
    assert old is not None
    query = select(widenings).where(
        widenings.c.release_id == old.id, widenings.c.disowned.is_(None)
    )
    for row in connection.execute(query.order_by(widenings.c.id)).all():
        if row.reason != "same-content" or _has_twin(connection, made.channel, row):
            catalogue.record_widening(
                connection,
                Widening(
                    release_id=made.id,
                    fingerprint=row.fingerprint,
                    reason=row.reason,
                    evidence=row.evidence,
                    recorded_at=catalogue.now(),
                ),
            )


def _has_twin(connection: Connection, channel: Channel, widening: Row[Any]) -> bool:
    query = select(releases.c.id).where(
        releases.c.channel == channel,
        releases.c.fingerprint == widening.fingerprint,
        releases.c.filename == widening.evidence.get("twin"),
        releases.c.disowned.is_(None),
    )
    return connection.execute(query).first() is not None


def _deed(release: Release, move: Move, actor: Actor) -> Deed:
    detail: dict[str, JSON] = {
        "from": move.source,
        "to": move.target,
        "fingerprint": release.fingerprint,
        "sha256": release.sha256,
        "reason": move.reason,
    }
    return Deed(actor=actor, action="promote", object=release.filename, detail=detail)
