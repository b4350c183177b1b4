"""Digests: SHA-256 over bytes, and over the canonical JSON form of a record.

Canonical JSON here is: sorted keys, no white space, UTF-8 without escapes, no floats (their
text differs between writers), no NaN. Two equal records have one form, so one digest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, NewType, Protocol, TypeAlias

from store.errors import MalformedError

Sha256 = NewType("Sha256", str)
"""64 lower-case hexadecimal digits that passed `parse_sha256` or came out of hashlib."""

JSON: TypeAlias = "bool | int | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A value that canonical JSON can hold."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_CHUNK: Final = 1 << 20
_PLAIN: Final = frozenset({str, int, bool, type(None)})


def parse_sha256(text: str) -> Sha256:
    """The digest that `text` names, with or without ``sha256:`` (or ``sha256=``) before it.

    Raises MalformedError when it is not 64 hexadecimal digits.
    """
    bare = re.sub(r"^sha256[:=]", "", text.strip().lower())
    if not _HEX.fullmatch(bare):
        raise MalformedError(f"not a SHA-256 digest: {text[:80]!r}", hint="give 64 hex digits")
    return Sha256(bare)


def sha256_of(data: bytes | bytearray | memoryview) -> Sha256:
    """SHA-256 of `data`."""
    return Sha256(hashlib.sha256(data).hexdigest())


def sha256_of_file(path: Path) -> Sha256:
    """SHA-256 of the bytes of the file at `path`, read in pieces. Raises OSError."""
    with path.open("rb") as file:
        return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


class Readable(Protocol):
    """What is read to its end, piece by piece."""

    def read(self, size: int, /) -> bytes:
        """The next bytes, about `size` of them; empty at the end only."""
        ...


def copy_hashing(source: Readable, target: BinaryIO) -> tuple[Sha256, int]:
    """Copy `source` to `target`; give the SHA-256 and the size in bytes of what was copied.

    Hashing while copying means that what was hashed is what was written.
    """
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        target.write(chunk)
    return Sha256(digest.hexdigest()), size


def canonical_json(value: JSON) -> bytes:
    """`value` in the one form that digests are taken of. Raises TypeError for a float."""
    _refuse_floats(value)
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8")


def digest_of(value: JSON) -> Sha256:
    """SHA-256 of the canonical JSON form of `value`."""
    return sha256_of(canonical_json(value))


def digest_of_tree(root: Path) -> Sha256:
    """SHA-256 of a folder: the names, modes (executable or not) and bytes of all its files.

    Times, owners and the order of the file system do not count. Raises OSError.
    """
    files = sorted(path for path in root.rglob("*") if path.is_file())
    rows: Iterable[JSON] = (
        [
            path.relative_to(root).as_posix(),
            bool(path.stat().st_mode & 0o100),
            sha256_of_file(path),
        ]
        for path in files
    )
    return digest_of(list(rows))


def _refuse_floats(value: JSON) -> None:
    if type(value) in _PLAIN:  # nearly all there is, and the question is asked of every value
        return
    if isinstance(value, float):
        raise TypeError("canonical JSON holds no floats")
    if isinstance(value, Mapping):
        for inner in value.values():
            _refuse_floats(inner)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for inner in value:
            _refuse_floats(inner)
