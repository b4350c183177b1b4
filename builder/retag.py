"""A wheel written afresh under the tags that hold: byte for byte the same for the same content.

File name, WHEEL and RECORD are made anew; every other member is copied as it is. The order of the
members, their times and modes, and the compression are fixed (with one version of zlib: another
may pack the same content into other bytes). Signatures over RECORD (PEP 427) are left out, because
RECORD changes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from packaging.tags import Tag

from builder.checks.root_is_purelib import root_is_purelib
from builder.wheel import OpenedWheel, RecordRow, record_hash
from builder.wheel_file import reopened
from builder.wheel_zip import Entry, read_archive, unpacked
from store.digest import JSON, Sha256, digest_of, sha256_of
from store.disk import sync_folder
from store.tags import tag_set_text

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_UNIX: Final = 3
_REWRITTEN: Final = frozenset({"tag", "build", "root-is-purelib"})
_SIGNATURES: Final = ("RECORD.jws", "RECORD.p7s")
_BUILD_DIGITS: Final = 12


def write_retagged(
    wheel: OpenedWheel, tags: frozenset[Tag], folder: Path, build: str | None
) -> Path:
    """Write `wheel` under `tags` and the build tag `build` into `folder`; give the new file's path.

    It appears under its name only when it is whole and synced. Raises OSError; MalformedError when
    no one file name says exactly `tags`; RefusedWheelError when the wheel has changed since.
    """
    path = folder / filename_for(wheel, tags, build)
    descriptor, temporary = tempfile.mkstemp(prefix=".retag-", suffix=".part", dir=folder)
    try:
        with os.fdopen(descriptor, "w+b") as target:
            _write(wheel, target, _wheel_text(wheel, tags, build))
            target.flush()
            os.fsync(target.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
    sync_folder(folder)
    return path


def filename_for(wheel: OpenedWheel, tags: frozenset[Tag], build: str | None) -> str:
    """The file name of `wheel` under `tags`, normalised (PEP 427, PEP 503, PEP 440)."""
    parts = [wheel.name.replace("-", "_"), wheel.version, build, tag_set_text(tags)]
    return "-".join(part for part in parts if part) + ".whl"


def build_of(wheel: OpenedWheel) -> str | None:
    """The wheel's own build tag, as its file name has it."""
    return "".join(map(str, wheel.build)) or None


def content_build(wheel: OpenedWheel) -> str:
    """The build tag of a published wheel: ``1_`` and twelve digits of its content's digest."""
    return f"1_{content_digest(wheel)[:_BUILD_DIGITS]}"


def content_digest(wheel: OpenedWheel) -> Sha256:
    """SHA-256 over what a wheel installs, whatever it is called.

    It covers path, executable bit and bytes of every member except RECORD and its signatures, and
    WHEEL without its Tag, Build and Root-Is-Purelib lines: the same content, the same digest.
    """
    made = set(_made_afresh(wheel))
    members: list[JSON] = [
        [member.path, member.executable, member.sha256]
        for path, member in sorted(wheel.members.items())
        if path not in made
    ]
    return digest_of({"members": members, "wheel": [list(pair) for pair in _kept_headers(wheel)]})


def _made_afresh(wheel: OpenedWheel) -> Iterator[str]:
    for name in ("RECORD", "WHEEL", *_SIGNATURES):
        yield f"{wheel.dist_info}/{name}"


def _kept_headers(wheel: OpenedWheel) -> Iterator[tuple[str, str]]:
    """The headers of WHEEL that stay, each on one line."""
    for key, value in wheel.wheel_headers:
        if key.lower() not in _REWRITTEN:
            yield key, " ".join(value.split())


def _wheel_text(wheel: OpenedWheel, tags: frozenset[Tag], build: str | None) -> bytes:
    lines = [f"{key}: {value}" for key, value in _kept_headers(wheel)]
    lines.append(f"Root-Is-Purelib: {root_is_purelib(wheel, tags)}")
    lines += [f"Tag: {tag}" for tag in sorted(map(str, tags))]
    lines += [f"Build: {build}"] if build else []
    return ("\n".join(lines) + "\n").encode("utf-8")


def _write(wheel: OpenedWheel, target: BinaryIO, wheel_text: bytes) -> None:
    record = f"{wheel.dist_info}/RECORD"
    with (
        reopened(wheel.path, wheel.state) as source,
        zipfile.ZipFile(target, "w") as archive,
    ):
        rows = list(_copy_members(wheel, source, archive))
        rows.append(_write_text(archive, f"{wheel.dist_info}/WHEEL", wheel_text))
        rows.append(RecordRow(path=record, hash="", size=""))
        _write_text(archive, record, _record_text(rows))


def _copy_members(
    wheel: OpenedWheel, source: BinaryIO, archive: zipfile.ZipFile
) -> Iterator[RecordRow]:
    """Copy every member that stays, .dist-info after the rest; give their RECORD rows."""
    made = set(_made_afresh(wheel))
    inside = f"{wheel.dist_info}/"
    entries = [pair for pair in read_archive(source).files() if pair[0].path not in made]
    entries.sort(key=lambda pair: (pair[0].path.startswith(inside), pair[0].path))
    for entry, offset in entries:
        yield _copy(source, entry, offset, archive)


def _copy(source: BinaryIO, entry: Entry, offset: int, archive: zipfile.ZipFile) -> RecordRow:
    digest = hashlib.sha256()
    info = _info(entry.path, executable=bool(entry.mode & 0o111))
    info.file_size = entry.size  # lets zipfile choose zip64 before the bytes come
    with archive.open(info, "w") as target:
        for piece in unpacked(source, entry, offset):
            digest.update(piece)
            target.write(piece)
    return RecordRow(path=entry.path, hash=record_hash(digest.hexdigest()), size=str(entry.size))


def _write_text(archive: zipfile.ZipFile, path: str, data: bytes) -> RecordRow:
    archive.writestr(_info(path, executable=False), data)
    return RecordRow(path=path, hash=record_hash(sha256_of(data)), size=str(len(data)))


def _info(path: str, *, executable: bool) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(path, date_time=_EPOCH)
    info.create_system = _UNIX
    info.compress_type = zipfile.ZIP_DEFLATED  # at zlib's default level, which is 6
    info.external_attr = (0o100755 if executable else 0o100644) << 16
    return info


def _record_text(rows: list[RecordRow]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows((row.path, row.hash, row.size) for row in rows)
    return text.getvalue().encode("utf-8")
