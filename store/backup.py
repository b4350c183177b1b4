"""Backups: a folder that holds what a store is made of, whichever engines keep it.

    FOLDER/owner.json           whose backups these are
    FOLDER/backup.json          the manifest of the last whole one, written last
    FOLDER/blobs/3f/3f9a…       the blobs, once each, whichever backup brought them
    FOLDER/state-XXXX/          the rows (`store.dump`) as one snapshot of the catalogue shows them
    FOLDER/state-XXXX/keys/     the store's keys (`store.keyring`)

The rows come first, then the blobs that they list: a blob has its bytes before it has a row. Only a
garbage collection may take bytes meanwhile. It takes their row first, so a blob that is gone is
asked after in the catalogue as it is then: where it has no row any more, the rows are written
anew once the other blobs are there, and the few new ones follow. So no lock is held, and everything
else goes on.

Until the new manifest takes the place of the old, that one is whole; what an interrupted
backup leaves is a state without a manifest, removed by the next, and blobs that it need not copy.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from sqlalchemy import select

from store import postgresql
from store.blobs import Blobs
from store.database import clock
from store.digest import JSON, Sha256, parse_sha256
from store.disk import disk_trouble, locked, sync_folder, write_synced
from store.dump import TableFile, check_file, column_of, parse_table_file, write_tables
from store.errors import MalformedError, NoSigningKeyError, NotABackupError, StoreError, UsageError
from store.fields import Fields, read_object
from store.folder import identify
from store.folder_shelf import FolderShelf, own_shelf
from store.keyring import FOLDER as KEYS
from store.keyring import KeyRing, parse_moment
from store.marker import LARGEST, marker_naming
from store.publish import Store
from store.schema import HEAD, blobs
from store.selection import in_parts
from store.shelf import Blob

FORMAT: Final = 1
"""Of the manifest and of the files that it names."""
_OWNER: Final = "owner.json"
_MANIFEST: Final = "backup.json"
_STATE: Final = "state-"
_LARGEST: Final = 4 << 20
_MOST_TABLES: Final = 200
_ID: Final = "[0-9a-f]{32}"
_PREFIXES: Final = tuple(f"{number:02x}" for number in range(256))
_Came = Literal["there", "copied", "swept", "lost"]
_TRIES: Final = 5
_AT_ONCE: Final = 8
_PART: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What makes a backup whole.

    `revision` is the form of its tables; `state` the folder that has them; `lost` the blobs that
    had no bytes, or wrong ones, when they were to be copied.
    """

    store: str
    taken_at: datetime
    revision: str
    state: str
    tables: tuple[TableFile, ...]
    has_keys: bool
    lost: tuple[Sha256, ...]

    def to_json(self) -> dict[str, JSON]:
        """The manifest as plain JSON."""
        return {
            "format": FORMAT,
            "store": self.store,
            "taken_at": self.taken_at.isoformat(),
            "revision": self.revision,
            "state": self.state,
            "tables": [each.to_json() for each in self.tables],
            "has_keys": self.has_keys,
            "lost": list(self.lost),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A whole backup, and the folder that holds it."""

    folder: Path
    manifest: Manifest

    @property
    def state(self) -> Path:
        """The folder of its rows and keys."""
        return self.folder / self.manifest.state

    @property
    def kept(self) -> Blobs:
        """Its blobs, and those of others."""
        return Blobs(self.folder)

    @property
    def keys(self) -> KeyRing:
        """Its keys, if it has any."""
        return KeyRing(folder=self.state / KEYS)

    def blobs(self) -> Iterator[Blob]:
        """The blobs that its rows list, in the order of their digests."""
        (file,) = (each for each in self.manifest.tables if each.table == blobs.name)
        for sha256, size in column_of(self.state, file, "sha256", "size"):
            yield Blob(sha256=sha256, size=size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What a backup did: so many blobs and bytes were new to the folder, so many others there."""

    backup: Backup
    copied: int
    bytes: int
    there: int
    removed: int = 0


def back_up(
    store: Store, folder: Path, keys: KeyRing | None, *, reread: bool = False, prune: bool = False
) -> Done:
    """Back the store up into `folder`, which is new, empty, or has earlier backups of it.

    `reread`: hash the blobs that are there already, too; a damaged one is set aside and copied
    again. `prune`: remove afterwards the blobs that only earlier backups had. Raises
    NotABackupError for a folder of something else, StoreError for trouble with either side.
    """
    _refuse_inside(store, folder)
    owner = identify(store.root, store.database)
    _take(folder, owner)
    with locked(folder):
        _remove_states(folder, but=_state_named_by(folder))
        copying = _Copying(store, Blobs(folder), reread)
        copying.target.prepare()
        backup = _whole(copying, owner, folder)
        if keys is not None:
            backup = _with_keys(backup, keys)
        _write_manifest(backup)
        _remove_states(folder, but=backup.manifest.state)
        removed = _prune(backup) if prune else 0
    return Done(
        backup=backup,
        copied=copying.copied,
        bytes=copying.bytes,
        there=copying.there,
        removed=removed,
    )


def read_backup(folder: Path) -> Backup:
    """The whole backup in `folder`, every file of its rows held against its digest.

    Raises NotABackupError when there is none, DamagedBackupError for a file that was changed.
    """
    manifest = _manifest_in(folder)
    if manifest is None:
        raise NotABackupError(
            f"there is no whole backup in {folder}",
            hint="run the `wheelfarm backup` that was interrupted once more"
            if (folder / _OWNER).is_file()
            else "give the folder that was given to `wheelfarm backup`",
        )
    for each in manifest.tables:
        check_file(folder / manifest.state, each)
    return Backup(folder=folder, manifest=manifest)


@dataclass(slots=True)
class _Copying:
    """The way of a store's blobs into a folder, and how many went it."""

    store: Store
    target: Blobs
    reread: bool
    copied: int = 0
    bytes: int = 0
    there: int = 0

    def all_of(self, backup: Backup) -> set[Sha256] | None:
        """Copy what is new of the backup's blobs; the lost ones, None when others were swept."""
        lost: set[Sha256] = set()
        swept, self.there = False, 0
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for some in in_parts(backup.blobs(), _PART):
                for blob, came in zip(some, pool.map(self._bring, some), strict=True):
                    self._count(blob, came)
                    swept = swept or came == "swept"
                    if came == "lost":
                        lost.add(blob.sha256)
        self.reread = False  # one look at each is enough
        return None if swept else lost

    def _count(self, blob: Blob, came: _Came) -> None:
        if came == "copied":
            self.copied += 1
            self.bytes += blob.size
        self.there += came == "there"

    def _bring(self, blob: Blob) -> _Came:
        if self._is_there(blob):
            return "there"
        for _ in range(_TRIES):
            try:
                return "copied" if self.target.copy(blob, self.store.blobs) else "lost"
            except StoreError:
                if self.store.blobs.has(blob):
                    raise
            if not self._is_listed(blob):
                return "swept"
            # It is listed: put back since, between the two looks, or lost.
        return "lost"

    def _is_there(self, blob: Blob) -> bool:
        if not self.target.has(blob):
            return False
        if not self.reread:
            return True
        seen = hashlib.sha256()
        for piece in self.target.part(blob.sha256, 0, blob.size - 1):
            seen.update(piece)
        if seen.hexdigest() != blob.sha256:
            self.target.set_aside(blob.sha256)
            return False
        return True

    def _is_listed(self, blob: Blob) -> bool:
        query = select(blobs.c.sha256).where(blobs.c.sha256 == blob.sha256)
        with self.store.database.reading() as connection:
            return connection.execute(query).first() is not None


def _refuse_inside(store: Store, folder: Path) -> None:
    if folder.resolve().is_relative_to(store.root.resolve()):
        raise UsageError(
            f"{folder} is in the folder of the store itself",
            hint="give a folder elsewhere, on another disk best",
        )


def _take(folder: Path, owner: str) -> None:
    """Make the folder one for backups of that store, unless it is one already."""
    marker = folder / _OWNER
    with disk_trouble("write to", folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not marker.exists():
            if any(not entry.name.startswith(f".{_OWNER}") for entry in folder.iterdir()):
                raise NotABackupError(
                    f"{folder} holds other files and no backup", hint="give an empty folder"
                )
            write_synced(marker, marker_naming(owner))
        with marker.open("rb") as file:
            said = file.read(LARGEST + 1)
    if said != marker_naming(owner):
        raise NotABackupError(
            f"{folder} holds the backups of another store",
            hint="give each store, a restored one also, a folder of its own",
        )


def _state_named_by(folder: Path) -> str | None:
    manifest = _manifest_in(folder)
    return manifest.state if manifest else None


def _remove_states(folder: Path, *, but: str | None) -> None:
    """Remove the rows of interrupted backups, and of those that another has replaced."""
    with disk_trouble("write to", folder):
        for state in folder.glob(f"{_STATE}*"):
            if state.name != but:
                shutil.rmtree(state)


def _whole(copying: _Copying, owner: str, folder: Path) -> Backup:
    """A snapshot of the rows, and every blob that they list."""
    for _ in range(_TRIES):
        backup = _snapshot(copying.store, owner, folder)
        lost = copying.all_of(backup)
        if lost is not None:
            manifest = replace(backup.manifest, lost=tuple(sorted(lost)))
            return replace(backup, manifest=manifest)
    raise StoreError(
        "blobs are swept as fast as they are copied",
        hint="run the backup again, at another hour than `wheelfarm gc`",
    )


def _snapshot(store: Store, owner: str, folder: Path) -> Backup:
    state = f"{_STATE}{secrets.token_hex(6)}"
    with disk_trouble("write to", folder):
        (folder / state).mkdir(mode=0o700)
    with store.database.reading() as connection:
        if store.database.in_postgresql:
            postgresql.lift_statement_timeout(connection)
        taken_at = clock(connection)
        tables = write_tables(connection, folder / state)
    with disk_trouble("write to", folder):
        sync_folder(folder / state)
        sync_folder(folder)
    manifest = Manifest(
        store=owner,
        taken_at=taken_at,
        revision=HEAD,
        state=state,
        tables=tables,
        has_keys=False,
        lost=(),
    )
    return Backup(folder=folder, manifest=manifest)


def _with_keys(backup: Backup, keys: KeyRing) -> Backup:
    """With the store's keys, if it has any."""
    try:
        keys.public()
    except NoSigningKeyError:
        return backup
    keys.copy_to(backup.keys)
    return replace(backup, manifest=replace(backup.manifest, has_keys=True))


def _write_manifest(backup: Backup) -> None:
    text = json.dumps(backup.manifest.to_json(), indent=1)
    with disk_trouble("write to", backup.folder):
        write_synced(backup.folder / _MANIFEST, text.encode() + b"\n")


def _prune(backup: Backup) -> int:
    """Remove the blobs that the backup does not list; how many there were."""
    shelf, removed, rest = own_shelf(backup.folder), 0, set(_PREFIXES)
    # In the order of their digests, so those of one prefix come together.
    for prefix, some in itertools.groupby(backup.blobs(), lambda blob: blob.sha256[:2]):
        removed += _remove_but(shelf, prefix, {blob.sha256 for blob in some})
        rest.discard(prefix)
    return removed + sum(_remove_but(shelf, prefix, set()) for prefix in rest)


def _remove_but(shelf: FolderShelf, prefix: str, listed: set[Sha256]) -> int:
    old = [kept.blob.sha256 for kept in shelf.each(prefix) if kept.blob.sha256 not in listed]
    for digest in old:
        shelf.remove(digest)
    return len(old)


def _manifest_in(folder: Path) -> Manifest | None:
    """The manifest in the folder; None when there is none."""
    path = folder / _MANIFEST
    with disk_trouble("read", path):
        if not path.is_file():
            return None
        with path.open("rb") as file:
            held = file.read(_LARGEST + 1)
    try:
        return _parse(Fields(read_object(held, limit=_LARGEST)))
    except MalformedError as error:
        raise NotABackupError(
            f"{path} is no manifest that this wheelfarm reads: {error.message}",
            hint="take another copy of the backup, or the newer wheelfarm that made it",
        ) from error


def _parse(fields: Fields) -> Manifest:
    fields.number("format", {FORMAT})
    found = Manifest(
        store=fields.text("store", _ID),
        taken_at=fields.parsed("taken_at", parse_moment),
        revision=fields.text("revision", "[0-9a-z]{1,32}"),
        state=fields.text("state", f"{_STATE}[0-9a-f]{{12}}"),
        tables=fields.parsed_object("tables", _parse_tables),
        has_keys=fields.flag("has_keys"),
        lost=fields.parsed_object("lost", _parse_lost),
    )
    fields.done()
    return found


def _parse_tables(value: object) -> tuple[TableFile, ...]:
    found = tuple(parse_table_file(fields) for fields in _each(value))
    names = [each.table for each in found]
    if blobs.name not in names or len(set(names)) != len(names):
        raise MalformedError("a table is missing, or there twice")
    return found


def _each(value: object) -> Iterator[Fields]:
    if not isinstance(value, list) or len(value) > _MOST_TABLES:
        raise MalformedError(f"not an array of at most {_MOST_TABLES} tables")
    return (Fields(each, str(place)) for place, each in enumerate(value))


def _parse_lost(value: object) -> tuple[Sha256, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise MalformedError("not an array of digests")
    return tuple(parse_sha256(each) for each in value)
