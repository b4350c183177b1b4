"""RECORD lists every file once, with its true hash and size, and nothing else."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.wheel import Member, OpenedWheel, RecordRow, record_hash
from store.digest import JSON
from store.verdict import Finding

CODE: Final = "record"
TITLE: Final = "RECORD is complete and true"
_MOST: Final = 100
_HINT: Final = "the wheel was changed after it was made, or badly made: build it again"
# PEP 427: sha256 or better; what hashlib guarantees and PyPA's installers take.
_OTHER_HASHES: Final = frozenset({"sha384", "sha512"})


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """An error for each file that RECORD does not list truly; at most a hundred."""
    return islice(_problems(wheel), _MOST)


def _problems(wheel: OpenedWheel) -> Iterator[Finding]:
    rows = {row.path: row for row in wheel.record}
    for path, count in Counter(row.path for row in wheel.record).items():
        if count > 1:
            yield _problem(path, "RECORD lists the file more than once", {"rows": count})
    for path in rows.keys() - wheel.members.keys():
        evidence = {"recorded": rows[path].hash[:200]}
        yield _problem(path, "RECORD lists a file that is not in the wheel", evidence)
    for path, member in wheel.members.items():
        if path in rows:
            yield from _row_problems(wheel, member, rows[path])
        elif not _exempt(wheel, path):
            yield _problem(path, "RECORD does not list the file", {"size": member.size})


def _row_problems(wheel: OpenedWheel, member: Member, row: RecordRow) -> Iterator[Finding]:
    if _exempt(wheel, member.path):
        if row.hash and not _true_hash(wheel, member, row.hash):
            yield _problem(member.path, "RECORD's hash of itself or a signature is wrong", {})
        return
    if not _true_hash(wheel, member, row.hash):
        evidence = {"recorded": row.hash[:200], "actual": record_hash(member.sha256)}
        yield _problem(member.path, "the file does not have the hash that RECORD gives", evidence)
    if row.size and row.size != str(member.size):
        sizes: Mapping[str, JSON] = {"recorded": row.size[:40], "actual": member.size}
        yield _problem(member.path, "the file does not have the size that RECORD gives", sizes)


def _exempt(wheel: OpenedWheel, path: str) -> bool:
    """RECORD cannot hold its own hash, nor those of signatures made over it (PEP 427)."""
    return path in {f"{wheel.dist_info}/RECORD{ending}" for ending in ("", ".jws", ".p7s")}


def _true_hash(wheel: OpenedWheel, member: Member, text: str) -> bool:
    algorithm, _, encoded = text.partition("=")
    if algorithm not in _OTHER_HASHES:
        return text.rstrip("=") == record_hash(member.sha256)
    try:
        stated = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except (binascii.Error, ValueError):
        return False
    return hashlib.new(algorithm, wheel.read(member.path, member.size)).digest() == stated


def _problem(path: str, message: str, evidence: Mapping[str, JSON]) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=path,
        message=message,
        evidence=evidence,
        hint=_HINT,
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
