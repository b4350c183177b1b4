"""The form of an upload (multipart/form-data, RFC 7578), read piece by piece.

The file goes to the disk as it comes in, hashed on its way; the fields are bounded in number and
size. What the fields say of the file's digests is held against it here, the rest in `workers.door`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

from multipart import (
    MultipartError,
    MultipartSegment,
    PushMultipartParser,
    parse_options_header,
)
from starlette.concurrency import run_in_threadpool

from store.digest import Sha256
from store.disk import disk_trouble
from store.errors import BodyTooLargeError, MalformedError, NotProvenError
from workers.door import Upload

_WRITE_AT: Final = 1 << 20
_MOST_FIELDS: Final = 1_000
_LARGEST_FIELDS: Final = 8 << 20
"""Bytes of all fields together; a description is the largest of them."""
_FILE: Final = "content"
_ACTION: Final = "file_upload"
_KINDS: Final = frozenset({"bdist_wheel", "sdist"})
_DIGESTS: Final = {
    "md5_digest": "md5",
    "sha256_digest": "sha256",
    "blake2_256_digest": "blake2",
}
_FILENAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+!-]{0,199}")


@dataclass(slots=True)
class _Form:
    folder: Path
    fields: dict[str, list[str]] = field(default_factory=dict)
    size: int = 0
    path: Path | None = None
    hashes: Mapping[str, Any] = field(
        default_factory=lambda: {
            "md5": hashlib.md5(usedforsecurity=False),
            "sha256": hashlib.sha256(),
            "blake2": hashlib.blake2b(digest_size=32),
        }
    )


async def receive_form(content_type: str, body: AsyncIterator[bytes], folder: Path) -> Upload:
    """The upload whose form is `body`, its file in `folder`.

    Raises MalformedError for what is no such form, BodyTooLargeError, NotProvenError when a digest
    is another, StoreError when the disk does not take the file.
    """
    form = _Form(folder)
    try:
        with PushMultipartParser(
            _boundary(content_type), max_segment_count=_MOST_FIELDS, strict=True
        ) as parser:
            await _read(parser, body, form)
    except (MultipartError, UnicodeDecodeError) as error:
        raise MalformedError(f"no whole form of an upload: {error!s:.200}") from error
    return _upload(form)


def _boundary(content_type: str) -> str:
    kind, options = parse_options_header(content_type)  # type: ignore[no-untyped-call]
    if kind != "multipart/form-data" or not options.get("boundary"):
        raise MalformedError(
            "an upload is a form, multipart/form-data", hint="twine and `uv publish` send one"
        )
    return str(options["boundary"])


class _Part:
    """The part of the form that is being read: a field in memory, or the file on the disk."""

    def __init__(self, form: _Form, segment: MultipartSegment) -> None:
        self._form = form
        self._name = segment.name or ""
        self._pending = bytearray()
        self._file: IO[bytes] | None = None
        if self._name == _FILE:
            self._file = _new_file(form, segment.filename or "")

    async def take(self, data: bytes) -> None:
        self._pending += data
        if self._file is None:
            self._form.size += len(data)
            if self._form.size > _LARGEST_FIELDS:
                raise BodyTooLargeError(f"the fields are longer than {_LARGEST_FIELDS} bytes")
        elif len(self._pending) >= _WRITE_AT:
            await run_in_threadpool(self._flush)

    async def end(self) -> None:
        if self._file is None:
            text = self._pending.decode("utf-8")
            self._form.fields.setdefault(self._name, []).append(text)
            return
        await run_in_threadpool(self._flush)
        self.close()

    def close(self) -> None:
        if self._file is not None:
            with disk_trouble("write to", self._form.folder):
                self._file.close()

    def _flush(self) -> None:
        assert self._file is not None
        for each in self._form.hashes.values():
            each.update(self._pending)
        with disk_trouble("write to", self._form.folder):
            self._file.write(self._pending)
            self._file.flush()
        self._pending.clear()


async def _read(parser: PushMultipartParser, body: AsyncIterator[bytes], form: _Form) -> None:
    part: _Part | None = None
    try:
        async for chunk in body:
            for event in parser.parse(chunk) if chunk else ():
                if isinstance(event, MultipartSegment):
                    part = _Part(form, event)
                elif event is None and part is not None:
                    await part.end()
                    part = None
                elif part is not None:
                    await part.take(bytes(event or b""))
    finally:
        if part is not None:
            part.close()


def _new_file(form: _Form, filename: str) -> IO[bytes]:
    if form.path is not None:
        raise MalformedError("two files in one upload")
    if not _FILENAME.fullmatch(filename):
        raise MalformedError(
            f"not a file name that the store can keep: {filename[:80]!a}",
            hint="letters, digits and . _ + ! -, 200 at most",
        )
    form.path = form.folder / filename
    with disk_trouble("write to", form.folder):
        return form.path.open("xb")


def _upload(form: _Form) -> Upload:
    if _one(form, ":action") != _ACTION or form.fields.get("protocol_version", ["1"]) != ["1"]:
        raise MalformedError("the form asks for something else than file_upload, protocol 1")
    kind = _one(form, "filetype")
    if kind not in _KINDS:
        raise MalformedError(f"not a kind of file that is taken: {kind[:80]!a}", path="filetype")
    if form.path is None:
        raise MalformedError("is missing: the file", path=_FILE)
    _check_digests(form)
    return Upload(
        path=form.path,
        sha256=Sha256(form.hashes["sha256"].hexdigest()),
        kind=kind,
        name=_one(form, "name"),
        version=_one(form, "version"),
        said=form.fields,
    )


def _check_digests(form: _Form) -> None:
    for name, algorithm in _DIGESTS.items():
        for told in form.fields.get(name, ()):
            seen = form.hashes[algorithm].hexdigest()
            if told and told.lower() != seen:
                raise NotProvenError(
                    f"{name} is {seen[:12]}…, not {told[:12]!a}… as was said",
                    hint="the file changed meanwhile, or was cut on the way: send it again",
                )


def _one(form: _Form, name: str) -> str:
    values = form.fields.get(name, [])
    if len(values) != 1 or not values[0] or len(values[0]) > 200:
        raise MalformedError("must be there, once", path=name)
    return values[0]
