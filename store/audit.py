"""The audit log: who changed what, when by the clock of the catalogue, and what came of it.

`record` writes a row inside a transaction of the caller's, so that change and row are one.
`audited` is for what takes several transactions: the row is there before the change begins, as
``asked``, and says afterwards how it ended; one that stays ``asked`` tells of a crash in between.

Rows are never removed. There is no secret in them: a token is named by its public id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, select, update

from store.access import Actor
from store.database import Database, clock
from store.digest import JSON
from store.errors import WheelfarmError
from store.schema import audit

ASKED: Final = "asked"
DONE: Final = "done"

_LONGEST_WHO: Final = 200
_LONGEST_OBJECT: Final = 500
_LONGEST_ADDRESS: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody does: a kebab-case word (``token-create``), the object of it in the words of
    the command line (``job 7``), and details that are no secret."""

    actor: Actor
    action: str
    object: str
    detail: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRow:
    """A row of the log. `result` is ``done``, ``asked``, or the code of the error that ended it."""

    id: int
    at: datetime
    who: str
    token: str | None
    address: str | None
    action: str
    object: str
    result: str
    detail: Mapping[str, JSON]

    def to_json(self) -> dict[str, JSON]:
        """The row as plain JSON."""
        return {
            "id": self.id,
            "at": self.at.isoformat(),
            "who": self.who,
            "token": self.token,
            "address": self.address,
            "action": self.action,
            "object": self.object,
            "result": self.result,
            "detail": dict(self.detail),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which rows are meant: those that fit all that is given. `before` is a row's number.

    `object` is how the object begins.
    """

    who: str | None = None
    token: str | None = None
    action: str | None = None
    object: str | None = None
    result: str | None = None
    since: datetime | None = None
    before: int | None = None


def record(connection: Connection, deed: Deed, result: str = DONE) -> int:
    """Write a row in the connection's transaction; give its number."""
    row = {
        "at": clock(connection),
        "who": _plain(deed.actor.who, _LONGEST_WHO),
        "token": deed.actor.token,
        "address": _plain(deed.actor.address or "", _LONGEST_ADDRESS) or None,
        "action": deed.action,
        "object": _plain(deed.object, _LONGEST_OBJECT),
        "result": result,
        "detail": dict(deed.detail),
    }
    written = audit.insert().values(row).returning(audit.c.id)
    return int(connection.execute(written).scalar_one())


@contextmanager
def audited(database: Database, deed: Deed) -> Iterator[None]:
    """Have a row in the log for what the ``with`` block does. Raises StoreError before it begins
    when the row cannot be written, so that nothing is done without one."""
    with database.transaction() as connection:
        number = record(connection, deed, ASKED)
    try:
        yield
    except WheelfarmError as error:
        _end(database, number, error.code)
        raise
    except Exception:
        _end(database, number, WheelfarmError.code)
        raise
    _end(database, number, DONE)


def audit_rows(database: Database, chosen: AuditFilter, most: int) -> list[AuditRow]:
    """The newest rows that fit, newest first."""
    query = select(audit).where(*_conditions(chosen)).order_by(audit.c.id.desc()).limit(most)
    with database.reading() as connection:
        return [AuditRow(**row._mapping) for row in connection.execute(query)]


def _conditions(chosen: AuditFilter) -> list[Any]:
    equal = {
        audit.c.who: chosen.who,
        audit.c.token: chosen.token,
        audit.c.action: chosen.action,
        audit.c.result: chosen.result,
    }
    found: list[Any] = [column == value for column, value in equal.items() if value is not None]
    if chosen.object is not None:
        found.append(audit.c.object.startswith(chosen.object, autoescape=True))
    if chosen.since is not None:
        found.append(audit.c.at >= chosen.since)
    if chosen.before is not None:
        found.append(audit.c.id < chosen.before)
    return found


def _end(database: Database, number: int, result: str) -> None:
    with database.transaction() as connection:
        connection.execute(update(audit).where(audit.c.id == number).values(result=result))


def _plain(text: str, most: int) -> str:
    """`text` without what a terminal or PostgreSQL would not take; it may come from outside."""
    return "".join(each if each.isprintable() else "?" for each in text[:most])
