"""A backup back into a store, whichever engines it was taken from and goes to.

The blobs come first, each held against its digest; then all rows, in one transaction. So a store
is empty until it is whole, and a restoring that was interrupted is begun again: it copies the
blobs that are not there yet. Rows of an older form go into tables of that form, which are then
migrated like any old catalogue.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Final

from sqlalchemy import Connection, select

from store import postgresql
from store.access import Actor
from store.audit import Deed, record
from store.backup import Backup
from store.database import begin_again, bring_up_to_date, known_revisions
from store.dump import load_table
from store.errors import DamagedBackupError, NotABackupError, NotEmptyError
from store.keyring import KeyRing
from store.publish import Store
from store.schema import HEAD, generation, identity, metadata
from store.selection import in_parts
from store.shelf import Blob

_AT_ONCE: Final = 8
_PART: Final = 128
_OWN: Final = frozenset({identity, generation})
"""Tables with a row in an empty store."""


def check_form(backup: Backup) -> None:
    """Refuse a backup with tables of a form that this code does not know: NotABackupError."""
    if backup.manifest.revision not in known_revisions():
        raise NotABackupError(
            f"the backup in {backup.folder} has a form that this wheelfarm does not know "
            f"({backup.manifest.revision})",
            hint="restore it with the newer wheelfarm that made it",
        )


def restore(backup: Backup, store: Store, keys: KeyRing | None, actor: Actor) -> None:
    """Put everything of `backup` into `store`, which is empty; its keys where `keys` are.

    Raises NotEmptyError when the store holds anything, UsageError when there are other keys;
    DamagedBackupError for what is not as it was written, and no row is there then; StoreError.
    """
    check_form(backup)
    with store.database.reading() as connection:
        _refuse_rows(connection, store)
    _bring_blobs(backup, store)
    if keys is not None and backup.manifest.has_keys:
        backup.keys.copy_to(keys)
    with store.database.writing() as connection:
        _refuse_rows(connection, store)
        _load(connection, backup)
        record(connection, _deed(backup, actor))


def _refuse_rows(connection: Connection, store: Store) -> None:
    for table in metadata.sorted_tables:
        if table not in _OWN and connection.execute(select(table).limit(1)).first():
            raise NotEmptyError(
                f"the store in {store.root} is not empty: it has {table.name}",
                hint="restore into a new one: an empty folder, database and bucket",
            )


def _bring_blobs(backup: Backup, store: Store) -> None:
    lost = set(backup.manifest.lost)
    wanted = (blob for blob in backup.blobs() if blob.sha256 not in lost)

    def bring(blob: Blob) -> None:
        if not store.blobs.has(blob) and not _copied(blob, backup, store):
            raise DamagedBackupError(
                f"the blob {blob.sha256} of the backup in {backup.folder} is missing or damaged",
                hint="take it from another copy of the backup, or from a mirror of the wheel",
            )

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for some in in_parts(wanted, _PART):
            for _ in pool.map(bring, some):
                pass


def _copied(blob: Blob, backup: Backup, store: Store) -> bool:
    return backup.kept.has(blob) and store.blobs.copy(blob, backup.kept)


def _load(connection: Connection, backup: Backup) -> None:
    if connection.dialect.name == "postgresql":
        postgresql.lift_statement_timeout(connection)
    own = connection.execute(select(identity)).mappings().one_or_none()
    if backup.manifest.revision != HEAD:
        begin_again(connection, backup.manifest.revision)
    for file in backup.manifest.tables:
        load_table(connection, backup.state, file)
    bring_up_to_date(connection)
    if own is not None and connection.execute(select(identity)).first() is None:
        connection.execute(identity.insert().values(dict(own)))


def _deed(backup: Backup, actor: Actor) -> Deed:
    taken = backup.manifest.taken_at.isoformat()
    return Deed(actor=actor, action="restore", object="store", detail={"taken_at": taken})
