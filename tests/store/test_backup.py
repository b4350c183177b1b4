"""Backups: a store comes back whole from one, over whichever engines, whatever went on."""

from __future__ import annotations

import base64
import gzip
import json
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    select,
)

import store.backup as store_backup
from store.access import Actor
from store.backup import Backup, back_up, read_backup
from store.digest import sha256_of
from store.dump import LEFT_OUT, TableFile, write_tables
from store.errors import (
    DamagedBackupError,
    KeyTroubleError,
    NotABackupError,
    NotEmptyError,
    StoreError,
    UsageError,
)
from store.fsck import check
from store.garbage import collect
from store.invalidate import Invalidation
from store.keyring import KeyRing
from store.publish import Store
from store.restore import restore
from store.retention import Policy, Rule
from store.schema import CanonicalJson, UtcTime, audit, blobs, metadata
from store.selection import Selection
from tests.store.buckets import Bucket
from tests.store.test_trampled import ROLES, start
from tests.store.wheelshop import OTHER_LINUX, make_wheel, publish, read_wheel

ME = Actor(who="ada")
in_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
DOCUMENT = Path(__file__).parents[2] / "docs" / "backup.md"


def one_row(connection: Connection, table: Table) -> dict[str, Any]:
    """A row that the table takes: what it refers to is there, what it lists as right it has."""
    listed = [str(each.sqltext) for each in table.constraints if isinstance(each, CheckConstraint)]
    row = {each.name: _value(connection, each) for each in table.columns}
    for text in listed:
        if found := re.match(r"(\w+) IN \('([a-z0-9-]+)'", text):
            row[found[1]] = found[2]
    return row


def _value(connection: Connection, column: Column[Any]) -> Any:
    for key in column.foreign_keys:
        return connection.execute(select(key.column).limit(1)).scalar()
    kinds: tuple[tuple[type[Any], Any], ...] = (
        (UtcTime, datetime(2026, 3, 4, 5, 6, 7, 89, UTC)),
        (CanonicalJson, {"é": [1, None, True, "\u2028"], "wanted": []}),
        (LargeBinary, b"\x00\xff\n"),
        (Boolean, True),
        (Integer, 1_000_003),
    )
    for kind, value in kinds:
        if isinstance(column.type, kind):
            return value
    return "a" * 64 if "sha256" in column.name or "key" in column.name else "wörd"[:4]


@pytest.fixture
def full(store: Store, tmp_path: Path) -> Store:
    """A store with releases of all kinds, and a row at least in every table."""
    old = publish(store, make_wheel(tmp_path))
    store.widen(old, store.catalogue.remember_target(OTHER_LINUX), "linkage-free")
    publish(store, make_wheel(tmp_path, version="2.0", members={"big": b"0123456789" * 300_000}))
    publish(store, make_wheel(tmp_path, name="corny"))
    Invalidation(store.database).disown(Selection(package="corny"), reason="bad", by="ada")
    with store.database.writing() as connection:
        for table in metadata.sorted_tables:
            held = connection.execute(select(table).limit(1)).first() or table.name in LEFT_OUT
            if not held:
                connection.execute(table.insert().values(one_row(connection, table)))
    return store


Make = Callable[[str], Store]


@pytest.fixture
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """What makes an empty store of its own: in ``sqlite`` or ``postgresql``, or in a ``bucket``."""
    made: list[Store] = []

    def one(kind: str) -> Store:
        blobs, database = None, None
        if kind == "postgresql":
            database = request.getfixturevalue("new_database")
        if kind == "bucket":
            bucket: Bucket = request.getfixturevalue("bucket")
            blobs = bucket.url
        place = tmp_path / f"made-{len(made)}"
        made.append(Store.open(place, database=database, blobs=blobs, verifier=read_wheel))
        return made[-1]

    yield one
    for each in made:
        each.close()


def rows(store: Store, *, but: frozenset[str] = frozenset()) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table that a backup has."""
    with store.database.reading() as connection:
        return {
            table.name: sorted(map(tuple, connection.execute(select(table))), key=repr)
            for table in metadata.sorted_tables
            if table.name not in {*LEFT_OUT, *but}
        }


def faults(store: Store) -> list[tuple[str, str]]:
    return [(each.code, each.subject) for each in check(store) if not each.harmless]


@pytest.mark.parametrize("kind", ["sqlite", "postgresql", "bucket"])
def test_a_store_comes_back_whole_over_any_engines(
    full: Store, make: Make, tmp_path: Path, kind: str
) -> None:
    before = faults(full)
    done = back_up(full, tmp_path / "backup", None)
    assert set(done.backup.manifest.lost) == {"a" * 64} & set(done.backup.manifest.lost)
    new = make(kind)
    restore(read_backup(tmp_path / "backup"), new, None, ME)
    log = frozenset({"audit"})
    assert rows(new, but=log) == rows(full, but=log)
    assert faults(new) == before
    with new.database.reading() as connection:
        logged = connection.execute(select(audit).order_by(audit.c.id.desc())).first()
        assert logged is not None
        assert (logged.action, logged.who, logged.result) == ("restore", "ada", "done")
    for kept in full.blobs.each():
        assert new.blobs.read(kept.blob.sha256) == full.blobs.read(kept.blob.sha256)
    assert publish(new, make_wheel(tmp_path, version="3.0")).version == "3.0"
    with new.database.writing() as connection:
        for table in metadata.sorted_tables:
            if table.name not in LEFT_OUT and len(table.primary_key.columns) == 1:
                _insert_after(connection, table)


def _insert_after(connection: Connection, table: Table) -> None:
    """A new row gets a number of its own, though those before came with theirs."""
    (key,) = table.primary_key.columns
    if isinstance(key.type, Integer) and table.autoincrement_column is key:
        row = {**one_row(connection, table), "sha256": "f" * 64, "work_key": "f" * 64}
        known = {name: value for name, value in row.items() if name in table.c}
        del known[key.name]
        if "filename" in known and not table.c.filename.foreign_keys:
            known["filename"] = "other"
        if table.name == "releases":
            known["build_key"] = "e" * 64
        if table.name == "widenings":
            return  # one for each release and target, and the next release has none yet
        connection.execute(table.insert().values(known))


def test_a_bucket_comes_back_into_a_folder(make: Make, tmp_path: Path) -> None:
    old = make("bucket")
    release = publish(old, make_wheel(tmp_path, members={"big": bytes(20 << 20)}))
    back_up(old, tmp_path / "backup", None)
    new = make("sqlite")
    restore(read_backup(tmp_path / "backup"), new, None, ME)
    assert new.blobs.path(release.sha256).stat().st_size == release.size
    assert list(check(new)) == []


def test_a_second_backup_copies_what_is_new_and_mends_what_is_damaged(
    store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    publish(store, make_wheel(tmp_path))
    assert (back_up(store, folder, None).copied, len(_blobs_of(folder))) == (3, 3)
    release = publish(store, make_wheel(tmp_path, version="2.0"))
    second = back_up(store, folder, None)
    assert (second.copied, second.there) == (3, 3)
    assert len(list(folder.glob("state-*"))) == 1
    copy = folder / "blobs" / release.sha256[:2] / release.sha256
    copy.chmod(0o644)
    copy.write_bytes(bytes(release.size))
    assert back_up(store, folder, None).copied == 0, "what is there is not read"
    assert back_up(store, folder, None, reread=True).copied == 1
    assert sha256_of(copy.read_bytes()) == release.sha256


def _blobs_of(folder: Path) -> set[str]:
    return {path.name for path in (folder / "blobs").glob("*/*")}


@in_sqlite
def test_blobs_of_earlier_backups_go_when_they_are_told_to(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    old = publish(store, make_wheel(tmp_path))
    back_up(store, folder, None)
    new = publish(store, make_wheel(tmp_path, version="2.0"))
    _collect_all_but_newest(store)
    assert back_up(store, folder, None).removed == 0
    assert old.sha256 in _blobs_of(folder)
    assert back_up(store, folder, None, prune=True).removed == 3
    assert _blobs_of(folder) == {kept.blob.sha256 for kept in store.blobs.each()}
    assert new.sha256 in _blobs_of(folder)


def _collect_all_but_newest(store: Store) -> None:
    everything = Policy(rule=lambda _: Rule(versions=1), grace=timedelta(0))
    collect(store, everything)
    collect(store, everything)


def test_blobs_that_are_swept_between_the_rows_and_their_turn_are_in_neither(
    store: Store, make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = publish(store, make_wheel(tmp_path))
    written: list[Path] = []

    def then_collect(connection: Connection, folder: Path) -> tuple[TableFile, ...]:
        found = write_tables(connection, folder)
        if not written:
            written.append(folder)
            publish(store, make_wheel(tmp_path, version="2.0"))
            _collect_all_but_newest(store)
        return found

    monkeypatch.setattr(store_backup, "write_tables", then_collect)
    done = back_up(store, tmp_path / "backup", None)
    assert done.backup.manifest.lost == ()
    assert old.sha256 not in {blob.sha256 for blob in done.backup.blobs()}
    new = make("sqlite")
    restore(done.backup, new, None, ME)
    assert list(check(new)) == []


@pytest.mark.slow
def test_backups_beside_publications_and_collections_are_sound(
    store: Store, make: Make, tmp_path: Path, database_url: str | None
) -> None:
    places = [database_url] if database_url else []
    running = [
        start(role, f"{number}", tmp_path / "store", *places) for number, role in enumerate(ROLES)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
        for _ in range(3):
            back_up(store, tmp_path / "backup", None)
    finally:
        for process in running:
            process.kill()
            process.communicate()
    backup = read_backup(tmp_path / "backup")
    assert backup.manifest.lost == ()
    new = make("sqlite")
    restore(backup, new, None, ME)
    assert faults(new) == []


def test_lost_and_damaged_blobs_are_told_and_the_rest_is_saved(
    store: Store, make: Make, tmp_path: Path
) -> None:
    lost = publish(store, make_wheel(tmp_path))
    damaged = publish(store, make_wheel(tmp_path, version="2.0"))
    store.blobs.remove(lost.sha256)
    path = store.blobs.path(damaged.sha256)
    path.chmod(0o644)
    path.write_bytes(bytes(damaged.size))
    done = back_up(store, tmp_path / "backup", None)
    assert set(done.backup.manifest.lost) == {lost.sha256, damaged.sha256}
    new = make("sqlite")
    restore(read_backup(tmp_path / "backup"), new, None, ME)
    told = [("missing-blob", digest) for digest in sorted([lost.sha256, damaged.sha256])]
    assert sorted(faults(new)) == told
    publish(store, tmp_path / lost.filename)
    done = back_up(store, tmp_path / "backup", None)
    assert done.backup.manifest.lost == (damaged.sha256,)


@pytest.fixture
def backup(migrated: Path, tmp_path: Path) -> Backup:
    """A backup of a store with a release."""
    shutil.copytree(migrated, tmp_path / "old")
    with closing(Store.open(tmp_path / "old", verifier=read_wheel)) as old:
        KeyRing(folder=tmp_path / "old" / "keys").create("0" * 32)
        publish(old, make_wheel(tmp_path))
        back_up(old, tmp_path / "backup", KeyRing(folder=tmp_path / "old" / "keys"))
    return read_backup(tmp_path / "backup")


def empty(store: Store) -> bool:
    return not any(rows(store).values())


@in_sqlite
@pytest.mark.parametrize("damage", ["changed", "shorter", "missing"])
def test_a_damaged_blob_leaves_the_store_empty(store: Store, backup: Backup, damage: str) -> None:
    blob = next(backup.blobs())
    path = backup.folder / "blobs" / blob.sha256[:2] / blob.sha256
    path.chmod(0o644)
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(bytes(blob.size - (damage == "shorter")))
    with pytest.raises(DamagedBackupError, match=blob.sha256):
        restore(backup, store, None, ME)
    assert empty(store)


def file_of(backup: Backup, table: str) -> Path:
    return backup.state / f"{table}.jsonl.gz"


def test_a_changed_table_is_found_by_its_digest(backup: Backup) -> None:
    path = file_of(backup, "releases")
    data = path.read_bytes()
    for changed in (data[:-1], data + b"\0", gzip.compress(gzip.decompress(data)[:-1]), b""):
        path.write_bytes(changed)
        with pytest.raises(DamagedBackupError, match=r"releases\.jsonl\.gz"):
            read_backup(backup.folder)
    path.unlink()
    with pytest.raises(DamagedBackupError):
        read_backup(backup.folder)


def forge(backup: Backup, table: str, lines: bytes, *, packed: bool = True) -> Backup:
    """The backup with another table, whose digest its manifest has."""
    data = gzip.compress(lines) if packed else lines
    file_of(backup, table).write_bytes(data)
    path = backup.folder / "backup.json"
    manifest = json.loads(path.read_text())
    for each in manifest["tables"]:
        if each["table"] == table:
            each["sha256"] = sha256_of(data)
    path.write_text(json.dumps(manifest))
    return read_backup(backup.folder)


PINS = b'["pins",[["subject","text"],["reason","text"],["by","text"],["at","moment"]]]\n'


@in_sqlite
@pytest.mark.parametrize(
    "lines",
    [
        b"",
        b"\n",
        b"[]\n",
        b'["jobs",[["subject","text"]]]\n',
        b'["pins",[]]\n',
        b'["pins",[["subject","pickle"]]]\n',
        b'["pins",[["subject; --","text"]]]\n',
        b'["pins",[["colour","text"]]]\n',
        PINS + b'["a","b","c","2026-01-01T00:00:00+00:00"]\n',  # a row more than is said
        PINS + b'["a","b","c"]\n',
        PINS + b'["a","b","c",7]\n',
        PINS + b'["a","b","c","yesterday"]\n',
        PINS + b'["a","b","c","2026-01-01T00:00:00+00:00"]',
        PINS + b"{}\n",
        PINS + b"[[[[\n",
        PINS + b"\xff\n",
    ],
)
def test_a_forged_table_leaves_the_store_empty(store: Store, backup: Backup, lines: bytes) -> None:
    forged = forge(backup, "pins", lines)
    with pytest.raises(DamagedBackupError, match=r"pins\.jsonl\.gz"):
        restore(forged, store, None, ME)
    assert empty(store)


def test_rows_that_break_a_rule_of_the_catalogue_leave_the_store_empty(
    store: Store, backup: Backup
) -> None:
    names = b'["widenings",[["id","number"],["release_id","number"],["fingerprint","text"],'
    names += b'["reason","text"],["evidence","text"],["recorded_at","moment"],'
    names += b'["disowned","number"],["project","text"]]]\n'
    row = b'[1,77,"there","abi3","1","2026-01-01T00:00:00+00:00",null,"wheaty"]\n'
    forged = forge(backup, "widenings", names + row)
    path = forged.folder / "backup.json"
    path.write_text(path.read_text().replace('"widenings", "rows": 0', '"widenings", "rows": 1'))
    with pytest.raises(StoreError, match=r"(?i)foreign key"):
        restore(read_backup(forged.folder), store, None, ME)
    assert empty(store)


@in_sqlite
def test_what_is_no_compressed_file_is_told(store: Store, backup: Backup) -> None:
    for data in (b"pins", gzip.compress(PINS)[:-6]):
        with pytest.raises(DamagedBackupError, match=r"pins\.jsonl\.gz"):
            restore(forge(backup, "pins", data, packed=False), store, None, ME)
    assert empty(store)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"state": "../../etc"},
        {"state": 5},
        {"tables": []},
        {"tables": [{"table": "../x", "rows": 1, "sha256": "a" * 64}]},
        {"tables": [{"table": "blobs", "rows": -1, "sha256": "a" * 64}]},
        {"tables": {"blobs": 1}},
        {"lost": ["x"]},
        {"lost": "x"},
        {"taken_at": "yesterday"},
        {"has_keys": 1},
        {"more": 1},
    ],
)
def test_a_manifest_that_says_nonsense_is_refused(
    backup: Backup, change: Mapping[str, Any]
) -> None:
    path = backup.folder / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(NotABackupError, match="manifest"):
        read_backup(backup.folder)


def test_a_folder_without_a_whole_backup_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotABackupError, match="no whole backup"):
        read_backup(tmp_path / "nowhere")
    back_up(store, tmp_path / "backup", None)
    (tmp_path / "backup" / "backup.json").unlink()
    with pytest.raises(NotABackupError) as caught:
        read_backup(tmp_path / "backup")
    assert caught.value.hint is not None
    assert "interrupted" in caught.value.hint


def test_a_store_that_holds_anything_is_left_alone(
    store: Store, backup: Backup, tmp_path: Path
) -> None:
    publish(store, make_wheel(tmp_path, name="corny"))
    before = rows(store)
    with pytest.raises(NotEmptyError, match="not empty"):
        restore(backup, store, None, ME)
    assert rows(store) == before


@in_sqlite
def test_other_folders_are_refused_and_nothing_is_written_there(
    store: Store, backup: Backup, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("unfinished")
    with pytest.raises(NotABackupError, match="other files"):
        back_up(store, foreign, None)
    assert [path.name for path in foreign.iterdir()] == ["thesis.txt"]
    with pytest.raises(NotABackupError, match="another store"):
        back_up(store, backup.folder, None)
    with pytest.raises(UsageError, match="store itself"):
        back_up(store, tmp_path / "store" / "backup", None)
    with pytest.raises(StoreError, match="cannot"):
        back_up(store, tmp_path / "foreign" / "thesis.txt", None)


@in_sqlite
def test_the_keys_come_back_to_their_owner_alone(
    store: Store, backup: Backup, tmp_path: Path
) -> None:
    (private,) = backup.keys.folder.glob("*.pem")
    assert private.stat().st_mode & 0o777 == 0o600
    ring, old = KeyRing(folder=tmp_path / "new-keys"), KeyRing(folder=tmp_path / "old" / "keys")
    restore(backup, store, ring, ME)
    assert ring.public() == old.public()
    assert ring.signer().key.private_bytes_raw() == old.signer().key.private_bytes_raw()
    (private,) = ring.folder.glob("*.pem")
    assert private.stat().st_mode & 0o777 == 0o600


@in_sqlite
def test_other_keys_are_not_overwritten(store: Store, backup: Backup, tmp_path: Path) -> None:
    ring = KeyRing(folder=tmp_path / "new-keys")
    key = ring.create("1" * 32)
    with pytest.raises(UsageError, match="keys of its own"):
        restore(backup, store, ring, ME)
    assert empty(store)
    assert ring.public().keys == (key,)


@in_sqlite
def test_keys_that_others_could_read_in_the_backup_are_not_taken(
    store: Store, backup: Backup, tmp_path: Path
) -> None:
    (private,) = backup.keys.folder.glob("*.pem")
    private.chmod(0o644)
    with pytest.raises(KeyTroubleError):
        restore(backup, store, KeyRing(folder=tmp_path / "new-keys"), ME)
    assert empty(store)


@in_sqlite
def test_a_backup_without_keys_has_none(store: Store, tmp_path: Path) -> None:
    ring = KeyRing(folder=tmp_path / "keys")
    assert not back_up(store, tmp_path / "backup", ring).backup.manifest.has_keys
    ring.create("0" * 32)
    assert not back_up(store, tmp_path / "backup", None).backup.manifest.has_keys
    assert list((tmp_path / "backup").glob("state-*/keys")) == []


# Older and newer forms.

_OLD: Mapping[str, tuple[Mapping[str, str], list[list[Any]]]] = {
    "blobs": ({"sha256": "text", "size": "number"}, []),
    "sources": (
        {
            "id": "number", "sha256": "text", "name": "text", "version": "text",
            "filename": "text", "origin_kind": "text", "origin_location": "text",
            "origin_pinned": "flag",
        },
        [[7, "b" * 64, "a", "1", "a.tar.gz", "local", "/", False]],
    ),
    "targets": (
        {"fingerprint": "text", "identity": "text"}, [["here", "1"], ["there", "2"]]
    ),
    "files": (
        {
            "filename": "text", "sha256": "text", "name": "text", "version": "text",
            "tags": "text", "requires_python": "text", "metadata_sha256": "text",
            "content_sha256": "text", "extension_modules": "text", "interpreter_bound": "text",
        },
        [["a.whl", "BLOB", "a", "1", "[]", None, "BLOB", "b" * 64, "[]", "[]"]],
    ),
    "releases": (
        {
            "id": "number", "channel": "text", "fingerprint": "text", "build_key": "text",
            "filename": "text", "source_id": "number", "log_sha256": "text",
            "provenance": "text", "proof": "text", "published_at": "moment", "yanked": "text",
        },
        [[41, "release", "here", "b" * 64, "a.whl", 7, "BLOB",
          '{"inputs":{"build_requirements":[]}}', "x", "2026-01-01T00:00:00+00:00", None]],
    ),
}  # fmt: skip
"""Tables as the third form had them."""


def of_form(folder: Path, revision: str) -> Backup:
    """A backup with a blob and a release, as a wheelfarm of that time would have written it."""
    digest, state = sha256_of(b"wheel"), "state-0123456789ab"
    blob = folder / "blobs" / digest[:2] / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"wheel")
    (folder / state).mkdir()
    tables = []
    for name, (kinds, lines) in _OLD.items():
        values = [[digest, 5]] if name == "blobs" else lines
        text = json.dumps([[name, list(kinds.items())], *values])[1:-1]
        whole = "\n".join(json.dumps(each) for each in json.loads(f"[{text}]")) + "\n"
        data = gzip.compress(whole.replace('"BLOB"', f'"{digest}"').encode())
        (folder / state / f"{name}.jsonl.gz").write_bytes(data)
        tables.append({"table": name, "rows": len(values), "sha256": sha256_of(data)})
    manifest = {
        "format": 1, "store": "0" * 32, "taken_at": "2026-01-02T00:00:00+00:00",
        "revision": revision, "state": state, "tables": tables, "has_keys": False, "lost": [],
    }  # fmt: skip
    (folder / "backup.json").write_text(json.dumps(manifest))
    return read_backup(folder)


def test_rows_of_an_older_form_are_migrated(store: Store, tmp_path: Path) -> None:
    restore(of_form(tmp_path / "backup", "0003"), store, None, ME)
    with store.database.writing() as connection:
        seen = MetaData()
        seen.reflect(connection)
        assert set(seen.tables) == {*metadata.tables, "alembic_version"}
        (row,) = connection.execute(select(metadata.tables["releases"])).mappings()
        assert (row["id"], row["source_id"], row["disowned"]) == (41, 7, None)
        (target,) = connection.execute(
            select(metadata.tables["targets"]).where(
                metadata.tables["targets"].c.fingerprint == "there"
            )
        ).mappings()
        assert target["identity"] == 2
    new = publish(store, make_wheel(tmp_path))
    assert store.catalogue.releases_of(new.filename)
    store.database.migrate()


def test_a_store_with_an_older_form_restored_is_opened_again(
    tmp_path: Path, migrated: Path
) -> None:
    shutil.copytree(migrated, tmp_path / "store")
    with closing(Store.open(tmp_path / "store")) as opened:
        restore(of_form(tmp_path / "backup", "0003"), opened, None, ME)
    Store.open(tmp_path / "store", create=False).close()


@pytest.mark.parametrize("revision", ["9999", "0000"])
def test_rows_of_a_newer_form_are_left_to_the_newer_wheelfarm(
    store: Store, tmp_path: Path, revision: str
) -> None:
    with pytest.raises(NotABackupError, match=revision) as caught:
        restore(of_form(tmp_path / "backup", revision), store, None, ME)
    assert caught.value.hint is not None
    assert "newer wheelfarm" in caught.value.hint
    assert empty(store)


# Killed in the middle.

_RUN = """
import sys; from pathlib import Path; from store.publish import Store
from store.backup import back_up, read_backup; from store.restore import restore
from store.access import Actor; from tests.store.wheelshop import read_wheel
verb, folder, place, *database = sys.argv[1:]
store = Store.open(Path(place), database=(database or [None])[0], verifier=read_wheel)
print("begun", flush=True)
if verb == "back_up": back_up(store, Path(folder), None)
else: restore(read_backup(Path(folder)), store, None, Actor(who="ada"))
"""


def killed(verb: str, folder: Path, place: Path, seen: Path, *more: str) -> None:
    """Run it in a process of its own, and kill that when `seen` has something in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", _RUN, verb, str(folder), str(place), *more],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    ends = time.monotonic() + 60
    while not list(seen.glob("??/*")) and time.monotonic() < ends and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.communicate()
    assert process.returncode == -9, "it was done before it was killed"


@pytest.fixture
def many(store: Store, tmp_path: Path) -> Store:
    """A store with two hundred blobs."""
    publish(store, make_wheel(tmp_path))
    with store.database.writing() as connection:
        for number in range(200):
            blob = store.blobs.put_bytes(f"blob {number}".encode() * 1000)
            connection.execute(blobs.insert().values(sha256=blob.sha256, size=blob.size))
    return store


def test_a_backup_that_is_killed_is_recognised_and_goes_on(
    many: Store, make: Make, tmp_path: Path, database_url: str | None
) -> None:
    folder, more = tmp_path / "backup", [database_url] if database_url else []
    killed("back_up", folder, tmp_path / "store", folder / "blobs", *more)
    with pytest.raises(NotABackupError, match="no whole backup"):
        read_backup(folder)
    done = back_up(many, folder, None)
    assert done.there > 0
    assert done.there + done.copied == 203
    assert len(list(folder.glob("state-*"))) == 1
    new = make("sqlite")
    restore(read_backup(folder), new, None, ME)
    assert faults(new) == []


def test_the_backup_before_is_whole_until_the_next_one_is(
    many: Store, tmp_path: Path, database_url: str | None
) -> None:
    folder, more = tmp_path / "backup", [database_url] if database_url else []
    first = back_up(many, folder, None).backup
    for blob in list((folder / "blobs").glob("*/*"))[:-1]:
        blob.unlink()  # so that the next one has something to do
    (left,) = (folder / "blobs").glob("*/*")
    left.unlink()
    killed("back_up", folder, tmp_path / "store", folder / "blobs", *more)
    assert read_backup(folder) == first
    assert back_up(many, folder, None).backup.manifest.state != first.manifest.state
    assert not first.state.exists()


@pytest.mark.slow
def test_a_restoring_that_is_killed_leaves_an_empty_store_and_goes_on(
    many: Store, new_database: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    back_up(many, folder, None)
    killed("restore", folder, tmp_path / "new", tmp_path / "new" / "blobs", new_database)
    with closing(Store.open(tmp_path / "new", database=new_database)) as new:
        assert empty(new)
        assert next(new.blobs.each(), None) is not None
        restore(read_backup(folder), new, None, ME)
        assert rows(new, but=frozenset({"audit"})) == rows(many, but=frozenset({"audit"}))
        assert faults(new) == []


@pytest.mark.slow
def test_rows_go_through_memory_some_at_a_time(store: Store, make: Make, tmp_path: Path) -> None:
    text = base64.b64encode(bytes(15_000)).decode()
    detail = {"detail": {"text": text}}
    with store.database.writing() as connection:
        template = {**one_row(connection, audit), **detail}
        for first in range(1, 6_001, 500):
            rows = [{**template, "id": number} for number in range(first, first + 500)]
            connection.execute(audit.insert(), rows)
    new = make("sqlite")
    tracemalloc.start()
    back_up(store, tmp_path / "backup", None)
    restore(read_backup(tmp_path / "backup"), new, None, ME)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60 << 20, "120 MB of rows went through"


def test_what_is_left_out_is_documented() -> None:
    text = DOCUMENT.read_text()
    assert set(LEFT_OUT) <= set(metadata.tables)
    assert [name for name, why in LEFT_OUT.items() if f"| `{name}` | {why} |" not in text] == []
