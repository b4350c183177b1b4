"""Taking back what was published: a yank hides it from who does not pin, a disowning from all.

Both are orders with a reason, by somebody, at some time, and both can be undone. Nothing is
deleted: rows and bytes stay for the inquiry. docs/invalidation.md is the page for people.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, cast

from sqlalchemy import Connection, Row, and_, delete, or_, select, update

from store.catalogue import SUPERSEDED, now
from store.channel import UPSTREAM, Channel
from store.database import Database
from store.digest import JSON
from store.errors import DisownedError, MalformedError, NotFoundError
from store.fingerprint import Fingerprint
from store.radius import Radius, Struck, blast_radius, read_releases
from store.release import timestamp
from store.schema import files, invalidated, invalidations, releases, resolutions, widenings
from store.selection import Selection, in_parts, matching

Verb = Literal["yank", "disown"]

_LINE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,500}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A yank or a disowning that was ordered; `selection` in the words of `Selection.to_json`."""

    id: int
    verb: Verb
    selection: dict[str, JSON]
    reason: str
    by: str
    at: datetime
    undone_at: datetime | None
    undone_by: str | None

    def to_json(self) -> dict[str, JSON]:
        """The order as plain JSON."""
        return {
            "id": self.id,
            "verb": self.verb,
            "selection": self.selection,
            "reason": self.reason,
            "by": self.by,
            "at": timestamp(self.at),
            "undone_at": timestamp(self.undone_at) if self.undone_at else None,
            "undone_by": self.undone_by,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifted:
    """What an undoing brought back, and what it could not: `replaced` have a newer release of
    the same build, `held` are still struck by another order."""

    restored: tuple[Struck, ...]
    replaced: tuple[Struck, ...]
    held: tuple[Struck, ...]


class Invalidation:
    """The orders over one catalogue. Every method raises StoreError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def look(self, selection: Selection, *, deep: bool = True) -> Radius:
        """What an order of `selection` would reach; nothing is changed."""
        with self._database.reading() as connection:
            return blast_radius(connection, matching(connection, selection), deep=deep)

    def yank(
        self, selection: Selection, *, reason: str, by: str, deep: bool = False
    ) -> tuple[Order | None, Radius]:
        """Yank what `selection` means (PEP 592): only who pins it gets it still.

        `deep`: also what was built with it. Without anything to strike there is no order.
        """
        return self._strike("yank", selection, reason, by, deep=deep)

    def disown(
        self, selection: Selection, *, reason: str, by: str, deep: bool = True
    ) -> tuple[Order | None, Radius]:
        """Take back what `selection` means and, if `deep`, all that was built with it.

        From the commit on no index, page, file address or plan knows it.
        """
        return self._strike("disown", selection, reason, by, deep=deep)

    def undo(self, verb: Verb, which: int | Selection, *, by: str) -> Lifted:
        """Undo one order, or all orders of that verb as far as a selection goes.

        Raises NotFoundError where there is no such order that stands.
        """
        with self._database.writing() as connection:
            struck = _struck_by(connection, verb, which)
            lifted = _lift(connection, verb, struck)
            _close_empty(connection, verb, by)
        return lifted

    def orders(self, limit: int = 100) -> list[Order]:
        """The newest orders, undone ones also."""
        query = select(invalidations).order_by(invalidations.c.id.desc()).limit(limit)
        with self._database.reading() as connection:
            return [_order(row) for row in connection.execute(query)]

    def order(self, number: int) -> Order:
        """The order of that number. Raises NotFoundError."""
        with self._database.reading() as connection:
            return _order_of(connection, number)

    def _strike(
        self, verb: Verb, selection: Selection, reason: str, by: str, *, deep: bool
    ) -> tuple[Order | None, Radius]:
        check_line("reason", reason)
        check_line("by", by)
        with self._database.writing() as connection:
            found = blast_radius(connection, matching(connection, selection), deep=deep)
            if not found.struck:
                return None, found
            order = _record(connection, verb, selection, reason, by)
            _note(connection, order, found.struck)
            _STRIKES[verb](connection, order, found)
            _settle_offers(connection, found.struck)
        return order, found


def check_line(name: str, text: str) -> None:
    """Raise MalformedError unless `text` is one line of 1 to 500 characters."""
    if not _LINE.fullmatch(text) or not text.strip():
        raise MalformedError("must be one line of 1 to 500 characters", path=name)


def refuse_disowned(connection: Connection, filename: str, inputs: Mapping[str, Any]) -> None:
    """Raise DisownedError where these bytes were disowned, or something that went into them.

    `inputs` in the form of `BuildInputs.to_json`.

    Bytes come back by an undoing, or under another epoch or salt than they had: then a person
    has said that they are to be made afresh, whatever comes out.
    """
    query = select(releases.c.disowned, releases.c.provenance).where(
        releases.c.filename == filename, releases.c.disowned.is_not(None)
    )
    for row in connection.execute(query):
        was = row.provenance["inputs"]
        if (was["epoch"], was.get("salt", "")) == (inputs["epoch"], inputs.get("salt", "")):
            raise _disowned(_order_of(connection, row.disowned), filename)
    for pin in inputs["build_requirements"]:
        if number := _disowned_by(connection, pin["sha256"]):
            order, name = _order_of(connection, number), pin["filename"]
            raise _disowned(order, name, f"{filename} was built with {name}, which")


def _disowned(order: Order, filename: str, subject: str | None = None) -> DisownedError:
    return DisownedError(
        f"{subject or filename} was disowned on {order.at:%Y-%m-%d} by {order.by}: {order.reason}",
        hint=f"`wheelfarm disown --undo {order.id}` if that was wrong; else build it afresh, with "
        "a new epoch or salt (docs/invalidation.md)",
    )


def _disowned_by(connection: Connection, sha256: str) -> int | None:
    """The order that took back the file of that digest; None where a release of it stands."""
    query = select(releases.c.disowned).join_from(releases, files).where(files.c.sha256 == sha256)
    found = list(connection.execute(query).scalars())
    return None if not found or None in found else int(max(cast("list[int]", found)))


def _record(
    connection: Connection, verb: Verb, selection: Selection, reason: str, by: str
) -> Order:
    row = {
        "verb": verb, "selection": selection.to_json(), "reason": reason, "by": by, "at": now(),
    }  # fmt: skip
    made = invalidations.insert().values(row).returning(invalidations)
    return _order(connection.execute(made).one())


def _note(connection: Connection, order: Order, struck: Sequence[Struck]) -> None:
    """Write down what the order struck, with the yank that each had before any order."""
    before = _yanked_before(connection, [each.id for each in struck])
    rows = [
        {
            "invalidation_id": order.id,
            "release_id": each.id,
            "yanked_before": before.get(each.id, each.yanked),
        }
        for each in struck
    ]
    connection.execute(invalidated.insert(), rows)


def _yanked_before(connection: Connection, numbers: Sequence[int]) -> dict[int, str | None]:
    """For releases that a yank has struck already: the reason that they had before it."""
    found: dict[int, str | None] = {}
    for some in in_parts(numbers):
        query = (
            select(invalidated.c.release_id, invalidated.c.yanked_before)
            .join_from(invalidated, invalidations)
            .where(
                invalidated.c.release_id.in_(some),
                invalidated.c.lifted_at.is_(None),
                invalidations.c.verb == "yank",
            )
        )
        found |= {row.release_id: row.yanked_before for row in connection.execute(query)}
    return found


def _yank(connection: Connection, order: Order, radius: Radius) -> None:
    for some in in_parts([each.id for each in radius.struck]):
        query = update(releases).where(releases.c.id.in_(some))
        connection.execute(query.values(yanked=order.reason))


def _disown(connection: Connection, order: Order, radius: Radius) -> None:
    struck = radius.struck
    for some in in_parts([each.id for each in struck]):
        query = update(releases).where(releases.c.id.in_(some))
        connection.execute(query.values(disowned=order.id))
    for some in in_parts([each.widening_id for each in radius.widened]):
        taken = update(widenings).where(widenings.c.id.in_(some))
        connection.execute(taken.values(disowned=order.id))
    forget_resolutions(connection, {each.sha256 for each in struck})


_STRIKES: Final = {"yank": _yank, "disown": _disown}


def forget_resolutions(connection: Connection, digests: set[str]) -> None:
    """Have build requirements resolved afresh where a remembered resolution names one of these."""
    query = select(resolutions.c.key, resolutions.c.pins)
    stale = [
        row.key
        for row in connection.execute(query.execution_options(yield_per=1_000))
        if any(pin["sha256"] in digests for pin in row.pins)
    ]
    for some in in_parts(stale):
        connection.execute(delete(resolutions).where(resolutions.c.key.in_(some)))


def _settle_offers(connection: Connection, struck: Iterable[Struck]) -> None:
    """Leave one build of each version offered, where one can be.

    What a release superseded is offered again when that release is gone, the newest of it; and
    of several that are offered, the newest stays.
    """
    versions = {(each.channel, each.fingerprint, each.name, each.version) for each in struck}
    for channel, fingerprint, name, version in sorted(versions):
        if channel != UPSTREAM:
            _settle_one(connection, channel, fingerprint, name, version)


def _settle_one(
    connection: Connection, channel: Channel, fingerprint: Fingerprint, name: str, version: str
) -> None:
    query = (
        select(releases.c.id, releases.c.filename, releases.c.yanked)
        .join_from(releases, files)
        .where(
            releases.c.channel == channel,
            releases.c.fingerprint == fingerprint,
            releases.c.disowned.is_(None),
            releases.c.project == name,
            files.c.version == version,
        )
        .order_by(releases.c.id)
    )
    rows = connection.execute(query).all()
    offered = [row for row in rows if row.yanked is None]
    if not offered:
        offered = [row for row in rows if (row.yanked or "").startswith(SUPERSEDED)][-1:]
    if offered:
        _offer(connection, offered[-1].filename, rows)


def _offer(connection: Connection, filename: str, rows: Sequence[Any]) -> None:
    for row in rows:
        by_rule = row.yanked is None or row.yanked.startswith(SUPERSEDED)
        wanted = None if row.filename == filename else f"{SUPERSEDED}{filename}"
        if by_rule and row.yanked != wanted:
            query = update(releases).where(releases.c.id == row.id)
            connection.execute(query.values(yanked=wanted))


def _struck_by(connection: Connection, verb: Verb, which: int | Selection) -> list[tuple[int, int]]:
    """(order, release) of what is to be lifted. Raises NotFoundError when there is nothing."""
    query = (
        select(invalidated.c.invalidation_id, invalidated.c.release_id)
        .join_from(invalidated, invalidations)
        .where(invalidations.c.verb == verb, invalidated.c.lifted_at.is_(None))
    )
    if isinstance(which, int):
        parts = [query.where(invalidations.c.id == which)]
    else:
        numbers = matching(connection, which)
        parts = [query.where(invalidated.c.release_id.in_(some)) for some in in_parts(numbers)]
    found = [(row[0], row[1]) for part in parts for row in connection.execute(part)]
    if not found:
        what = f"order {which}" if isinstance(which, int) else str(which)
        raise NotFoundError(
            f"nothing of {what} is {verb}ed",
            hint=f"`wheelfarm {verb} --list` lists the orders that stand",
        )
    return found


def _lift(connection: Connection, verb: Verb, struck: Sequence[tuple[int, int]]) -> Lifted:
    """Take the releases out of those orders; bring back what no other order holds."""
    orders = {order for order, _ in struck}
    restored, replaced, held = [], [], []
    for release in _releases(connection, {release for _, release in struck}):
        others = [each for each in _orders_on(connection, verb, release.id) if each not in orders]
        if others:
            _hand_over(connection, verb, release, max(others))
            held.append(release)
        elif _BRINGS_BACK[verb](connection, release):
            restored.append(release)
        else:
            replaced.append(release)
            continue
        _mark_lifted(connection, orders, release)
    _settle_offers(connection, restored)
    return Lifted(restored=tuple(restored), replaced=tuple(replaced), held=tuple(held))


def _releases(connection: Connection, numbers: Iterable[int]) -> list[Struck]:
    """The newest first: of two builds of one key the later one comes back."""
    return sorted(read_releases(connection, numbers), key=lambda each: each.id, reverse=True)


def _orders_on(connection: Connection, verb: Verb, release_id: int) -> list[int]:
    query = (
        select(invalidations.c.id)
        .join_from(invalidated, invalidations)
        .where(
            invalidated.c.release_id == release_id,
            invalidated.c.lifted_at.is_(None),
            invalidations.c.verb == verb,
        )
    )
    return list(connection.execute(query).scalars())


def _hand_over(connection: Connection, verb: Verb, release: Struck, order: int) -> None:
    """Let another order be the one that holds the release."""
    values: dict[str, object] = {"disowned": order}
    if verb == "yank":
        values = {"yanked": _order_of(connection, order).reason}
    connection.execute(update(releases).where(releases.c.id == release.id).values(values))


def _unyank(connection: Connection, release: Struck) -> bool:
    before = _yanked_before(connection, [release.id]).get(release.id)
    query = update(releases).where(releases.c.id == release.id)
    connection.execute(query.values(yanked=before))
    return True


def _reown(connection: Connection, release: Struck) -> bool:
    """Let the release stand again, unless another build has its key by now."""
    same = select(releases.c.id).where(
        releases.c.channel == release.channel,
        releases.c.fingerprint == release.fingerprint,
        releases.c.build_key == release.build_key,
        releases.c.disowned.is_(None),
    )
    if connection.execute(same).first() is not None:
        return False
    query = update(releases).where(releases.c.id == release.id)
    connection.execute(query.values(disowned=None))
    _reown_widenings(connection, release)
    return True


def _reown_widenings(connection: Connection, release: Struck) -> None:
    """Those of the release, and those whose proof it is."""
    taken = select(widenings).where(
        widenings.c.disowned.is_not(None),
        or_(
            widenings.c.release_id == release.id,
            and_(
                widenings.c.reason == "same-content",
                widenings.c.fingerprint == release.fingerprint,
            ),
        ),
    )
    for row in connection.execute(taken).all():
        if row.release_id == release.id or row.evidence.get("twin") == release.filename:
            query = update(widenings).where(widenings.c.id == row.id)
            connection.execute(query.values(disowned=None))


_BRINGS_BACK: Final = {"yank": _unyank, "disown": _reown}


def _mark_lifted(connection: Connection, orders: set[int], release: Struck) -> None:
    query = update(invalidated).where(
        invalidated.c.release_id == release.id, invalidated.c.invalidation_id.in_(orders)
    )
    connection.execute(query.values(lifted_at=now()))


def _close_empty(connection: Connection, verb: Verb, by: str) -> None:
    """An order that holds nothing any more was undone, by whoever took the last of it."""
    holding = select(invalidated.c.invalidation_id).where(invalidated.c.lifted_at.is_(None))
    query = update(invalidations).where(
        invalidations.c.verb == verb,
        invalidations.c.undone_at.is_(None),
        invalidations.c.id.not_in(holding),
    )
    connection.execute(query.values(undone_at=now(), undone_by=by))


def _order_of(connection: Connection, number: int) -> Order:
    row = connection.execute(select(invalidations).where(invalidations.c.id == number)).first()
    if row is None:
        raise NotFoundError(f"there is no order {number}")
    return _order(row)


def _order(row: Row[Any]) -> Order:
    return Order(**row._mapping)
