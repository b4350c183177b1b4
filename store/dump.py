"""The rows of a catalogue as files that either engine reads, one for each table.

    TABLE.jsonl.gz    a line that names the columns and their kinds, then one for each row

Which tables there are is asked of the schema, so that a new one is never forgotten. A file says
itself what its columns are: one of an older form is loaded into tables of that form. Rows go
through memory some hundreds at a time.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Final, cast

import sqlalchemy
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    TableClause,
    Text,
    column,
    func,
    select,
)
from sqlalchemy.types import TypeEngine

from store.digest import JSON, Sha256, parse_sha256, sha256_of_file
from store.disk import disk_trouble
from store.errors import DamagedBackupError, MalformedError
from store.fields import Fields
from store.schema import CanonicalJson, UtcTime, metadata
from store.selection import in_parts

LEFT_OUT: Final[Mapping[str, str]] = {
    "identity": "which folder, database and bucket are one store; a restored store is another",
    "generation": "whether pages that a server keeps are still right; the new rows change it",
    "farm_workers": "who works at this moment; a worker says so again when it starts",
    "farm_toolchains": "what those workers have",
    "log_pieces": "what builds that run at this moment have printed; they are run again",
}
"""Tables whose rows are true of one moment or one place only, and why."""

_AT_ONCE: Final = 500
_LONGEST_LINE: Final = 64 << 20
_MOST_COLUMNS: Final = 200
_MOST_ROWS: Final = 1 << 40
_QUICK: Final = 5
_WORD: Final = "[a-z][a-z_]{0,62}"
_TYPES: Final[Mapping[str, TypeEngine[Any]]] = {
    "bytes": LargeBinary(),
    "flag": Boolean(),
    "moment": UtcTime(),
    "number": BigInteger(),
    "text": Text(),
}
_WRITTEN: Final[Mapping[str, Callable[[Any], JSON]]] = {
    "bytes": lambda value: base64.b64encode(value).decode(),
    "moment": lambda value: cast("datetime", value).isoformat(),
}
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "bytes": lambda value: base64.b64decode(value, validate=True),
    "moment": datetime.fromisoformat,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFile:
    """The file of one table: its name without its ending, its rows, the digest of its bytes."""

    table: str
    rows: int
    sha256: Sha256

    @property
    def filename(self) -> str:
        """The name of the file in the folder of the dump."""
        return f"{self.table}.jsonl.gz"

    def to_json(self) -> dict[str, JSON]:
        """The three as plain JSON."""
        return {"table": self.table, "rows": self.rows, "sha256": self.sha256}


def parse_table_file(fields: Fields) -> TableFile:
    """What `TableFile.to_json` wrote. Raises MalformedError."""
    found = TableFile(
        table=fields.text("table", _WORD),
        rows=fields.number("rows", range(_MOST_ROWS)),
        sha256=fields.parsed("sha256", parse_sha256),
    )
    fields.done()
    return found


def write_tables(connection: Connection, folder: Path) -> tuple[TableFile, ...]:
    """Write every table but those left out into `folder`, each after those that it refers to.

    All of them as the connection's transaction sees them. Raises StoreError.
    """
    tables = [table for table in metadata.sorted_tables if table.name not in LEFT_OUT]
    return tuple(_write(connection, table, folder) for table in tables)


def check_file(folder: Path, file: TableFile) -> None:
    """Hold the file against its digest. Raises DamagedBackupError."""
    path = folder / file.filename
    with disk_trouble("read", path):
        right = path.is_file() and sha256_of_file(path) == file.sha256
    if not right:
        raise _damaged(path, "it is missing, or was changed")


def load_table(connection: Connection, folder: Path, file: TableFile) -> None:
    """Insert the rows of the file into its table, which is empty, and count on from them.

    Raises DamagedBackupError for what is no such file, or has other columns than the table.
    """
    with _reading(folder, file) as (table, rows):
        _check_columns(connection, table)
        for some in in_parts(rows):
            connection.execute(table.insert(), some)
    if connection.dialect.name == "postgresql":
        _count_on(connection, table)


def column_of(folder: Path, file: TableFile, *names: str) -> Iterator[tuple[Any, ...]]:
    """The values of these columns, row after row, in the order of the primary key."""
    with _reading(folder, file) as (_, rows):
        for row in rows:
            yield tuple(row[name] for name in names)


def kind_of(one: Column[Any]) -> str:
    """How the values of a column are written. Raises TypeError for one that nobody thought of."""
    kinds: tuple[tuple[type[Any] | tuple[type[Any], ...], str], ...] = (
        (UtcTime, "moment"),
        (LargeBinary, "bytes"),
        (Boolean, "flag"),
        (Integer, "number"),
        ((CanonicalJson, String), "text"),
    )
    for types, kind in kinds:
        if isinstance(one.type, types):
            return kind
    raise TypeError(f"a dump does not know how to write {one}")


def _write(connection: Connection, table: sqlalchemy.Table, folder: Path) -> TableFile:
    kinds = {one.name: kind_of(one) for one in table.columns}
    plain = _clause(table.name, kinds)
    ordered = select(plain).order_by(*(plain.c[key.name] for key in table.primary_key))
    found = connection.execution_options(yield_per=_AT_ONCE).execute(ordered)
    rows = 0
    with _compressed(folder / f"{table.name}.jsonl.gz") as (write, digest):
        write(_line([table.name, list(kinds.items())]))
        for row in found:
            write(
                _line(
                    [_written(kind, value) for kind, value in zip(kinds.values(), row, strict=True)]
                )
            )
            rows += 1
    return TableFile(table=table.name, rows=rows, sha256=digest())


def _clause(name: str, kinds: Mapping[str, str]) -> TableClause:
    """The table by its columns' plain types: JSON stays the text that it is."""
    return sqlalchemy.table(name, *(column(each, _TYPES[kind]) for each, kind in kinds.items()))


def _written(kind: str, value: Any) -> JSON:
    if value is None or kind not in _WRITTEN:
        return cast("JSON", value)
    return _WRITTEN[kind](value)


def _line(values: Any) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


class _Hashing:
    """A file that is written, and hashed on the way."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def _compressed(path: Path) -> Iterator[tuple[Callable[[bytes], int], Callable[[], Sha256]]]:
    """What writes into the new file, and, after the ``with`` block, what says its digest."""
    with disk_trouble("write to", path.parent), path.open("xb") as file:
        hashing = _Hashing(file)
        packed = gzip.GzipFile("", "wb", _QUICK, cast("IO[bytes]", hashing), mtime=0)
        with packed:
            yield packed.write, lambda: Sha256(hashing.digest.hexdigest())
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _reading(
    folder: Path, file: TableFile
) -> Iterator[tuple[TableClause, Iterator[dict[str, Any]]]]:
    """The table that a file is of, and its rows by column; whatever is wrong with it is ours."""
    path = folder / file.filename
    try:
        with gzip.open(path, "rb") as lines:
            kinds = _head(next(_lines(lines), None), file.table)
            yield _clause(file.table, kinds), _rows(lines, kinds, file)
    except (EOFError, gzip.BadGzipFile, ValueError, MalformedError) as error:
        raise _damaged(path, str(error)[:200]) from error
    except OSError as error:
        raise _damaged(path, error.strerror or "it cannot be read") from error


def _lines(file: gzip.GzipFile) -> Iterator[Any]:
    while line := file.readline(_LONGEST_LINE):
        if not line.endswith(b"\n"):
            raise MalformedError("a line is too long, or not whole")
        yield json.loads(line)


def _head(line: Any, table: str) -> dict[str, str]:
    """Column -> kind, of the first line."""
    match line:
        case [str(name), [*pairs]] if name == table and 0 < len(pairs) <= _MOST_COLUMNS:
            if all(_is_pair(pair) for pair in pairs):
                return {str(name): str(kind) for name, kind in pairs}
    raise MalformedError("its first line does not say what its columns are")


def _is_pair(pair: Any) -> bool:
    match pair:
        case [str(name), str(kind)]:
            return kind in _TYPES and name.isidentifier()
    return False


def _rows(
    file: gzip.GzipFile, kinds: Mapping[str, str], said: TableFile
) -> Iterator[dict[str, Any]]:
    count = 0
    for values in _lines(file):
        if not isinstance(values, list) or len(values) != len(kinds):
            raise MalformedError(f"row {count} has not {len(kinds)} values")
        pairs = zip(kinds.items(), values, strict=True)
        yield {name: _read(kind, value) for (name, kind), value in pairs}
        count += 1
    if count != said.rows:
        raise MalformedError(f"it has {count} rows, not {said.rows}")


def _read(kind: str, value: Any) -> Any:
    if value is None or kind not in _READ:
        return value
    if not isinstance(value, str):
        raise MalformedError(f"a value is no {kind}")
    return _READ[kind](value)


def _check_columns(connection: Connection, table: TableClause) -> None:
    there = {each["name"] for each in sqlalchemy.inspect(connection).get_columns(table.name)}
    if unknown := {each.name for each in table.columns} - there:
        raise MalformedError(f"the table {table.name} has no {min(unknown)!r}")


def _count_on(connection: Connection, table: TableClause) -> None:
    """Have PostgreSQL number new rows after those that came with their numbers."""
    for one in table.columns:
        if isinstance(one.type, BigInteger):
            query = select(func.pg_get_serial_sequence(table.name, one.name))
            if sequence := connection.execute(query).scalar():
                last = select(func.max(one)).select_from(table).scalar_subquery()
                value = func.setval(sequence, func.coalesce(last, 1), last.is_not(None))
                connection.execute(select(value))


def _damaged(path: Path, why: str) -> DamagedBackupError:
    return DamagedBackupError(
        f"{path} is not as it was written: {why}", hint="take another backup, or another copy of it"
    )
