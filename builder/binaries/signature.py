"""Code signatures of Mach-O slices: what they cover, and whether the bytes are still those.

The layout is that of <kern/cs_blobs.h>: a SuperBlob, big-endian whatever the slice is, which holds
CodeDirectories (hashes of the slice's pages, and of the other blobs) and, when a key signed, a CMS
signature over them. The hashes can be checked on any machine; the key's chain of trust is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from builder.binaries.cursor import STEP, Region
from builder.binaries.image import CodeDirectory, CodeSignature
from builder.errors import BinaryError

SUPER_BLOB: Final = 0xFADE0CC0
CODE_DIRECTORY: Final = 0xFADE0C02
ADHOC: Final = 0x2
LINKER_SIGNED: Final = 0x20000

_Digest: TypeAlias = Callable[[memoryview], bytes]
_MOST_BLOBS: Final = 64
_ALTERNATES: Final = range(0x1000, 0x1005)
"""Slots of further CodeDirectories; the first is in slot 0."""
_CMS: Final = 0x10000
_CMS_HEAD: Final = 8  # an ad-hoc signature may hold an empty one
_PAGES: Final = range(12, 15)  # 4 to 16 KiB; the kernel refuses others
_HAS_SCATTER: Final = 0x20100
_HAS_LIMIT_64: Final = 0x20300
_MOST_NAMED: Final = 100
_SPECIAL: Final = {
    1: "Info.plist",
    2: "requirements",
    3: "resources",
    5: "entitlements",
    7: "DER entitlements",
}


class _Hash(NamedTuple):
    """A hash type of CodeDirectories; the kernel goes by the one of the highest rank."""

    name: str
    size: int
    rank: int
    digest: _Digest


def _sha1(data: memoryview) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _sha256(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()


def _sha256_cut(data: memoryview) -> bytes:
    return hashlib.sha256(data).digest()[:20]


def _sha384(data: memoryview) -> bytes:
    return hashlib.sha384(data).digest()


_HASHES: Final = {
    1: _Hash("sha1", 20, 1, _sha1),
    2: _Hash("sha256", 32, 3, _sha256),
    3: _Hash("sha256-truncated", 20, 2, _sha256_cut),
    4: _Hash("sha384", 48, 4, _sha384),
}
_RANKS: Final = {one.name: one.rank for one in _HASHES.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fields:
    """The fixed fields of a CodeDirectory; offsets count from its own start, `limit` in bytes."""

    flags: int
    hash_offset: int
    name_offset: int
    special_slots: int
    pages: int
    limit: int
    hash: _Hash
    page_bits: int


def read_signature(whole: Region, offset: int, size: int) -> CodeSignature:
    """The signature at `offset` of the slice `whole`, held against the slice's own bytes.

    A signature that breaks its format is given with its `fault`.
    """
    try:
        blobs = _read_blobs(whole.part(offset, size, "the code signature").ordered(">"))
        directories = [
            _read_directory(whole, blob, blobs, offset)
            for slot, blob in blobs.items()
            if slot == 0 or slot in _ALTERNATES
        ]
    except BinaryError as error:
        return CodeSignature(directories=(), by_key=False, fault=error.message)
    ordered = sorted(directories, key=lambda one: -_RANKS[one.hash])
    by_key = _CMS in blobs and blobs[_CMS].size > _CMS_HEAD
    return CodeSignature(directories=tuple(ordered), by_key=by_key, fault=None)


def _read_blobs(signature: Region) -> Mapping[int, Region]:
    """The blobs of a SuperBlob by their slots; slot 0 is there."""
    magic, length, count = signature.unpack("III", 0, "the code signature")
    if magic != SUPER_BLOB:
        raise signature.error(f"a code signature with the magic {magic:#x}", 0)
    if count > _MOST_BLOBS:
        raise signature.error(f"a code signature of {count} blobs", 8)
    inside = signature.part(0, length, "the code signature")
    rows = list(inside.rows("II", 12, count, "the index of the code signature"))
    blobs = {slot: _blob(inside, place) for slot, place in rows}
    if len(blobs) != count or 0 not in blobs:
        raise signature.error("a slot of the code signature is missing or there twice", 12)
    return blobs


def _blob(signature: Region, offset: int) -> Region:
    (size,) = signature.unpack("I", offset + 4, "a blob of the code signature")
    return signature.part(offset, size, "a blob of the code signature")


def _read_directory(
    whole: Region, blob: Region, blobs: Mapping[int, Region], end: int
) -> CodeDirectory:
    """One CodeDirectory, each of its hashes compared with the bytes before `end`."""
    fields = _read_fields(blob)
    _check_covers(blob, fields, end)
    return CodeDirectory(
        hash=fields.hash.name,
        identifier=blob.text(fields.name_offset, "the identifier"),
        flags=fields.flags,
        page_size=1 << fields.page_bits,
        pages=fields.pages,
        wrong_pages=tuple(_wrong_pages(whole, blob, fields)),
        wrong_slots=tuple(_wrong_slots(blob, fields, blobs)),
    )


def _read_fields(blob: Region) -> _Fields:
    what = "a CodeDirectory"
    values: tuple[Any, ...] = blob.unpack("9I4BI", 0, what)
    magic, _, version, flags, hash_offset, name_offset, special, pages, limit = values[:9]
    hash_size, hash_type, _, page_bits = values[9:13]
    if magic != CODE_DIRECTORY:
        raise blob.error(f"a CodeDirectory with the magic {magic:#x}", 0)
    kind = _HASHES.get(hash_type)
    if kind is None or kind.size != hash_size or page_bits not in _PAGES:
        raise blob.error(f"hash type {hash_type}, {hash_size} bytes, pages of 2^{page_bits}", 36)
    if version >= _HAS_SCATTER and blob.unpack("I", 44, what)[0]:
        raise blob.error("a CodeDirectory with a scatter table", 44)
    if version >= _HAS_LIMIT_64:
        limit = blob.unpack("Q", 56, what)[0] or limit
    _check_hashes(blob, hash_offset, special, pages, hash_size)
    return _Fields(
        flags=flags,
        hash_offset=hash_offset,
        name_offset=name_offset,
        special_slots=special,
        pages=pages,
        limit=limit,
        hash=kind,
        page_bits=page_bits,
    )


def _check_hashes(blob: Region, offset: int, special: int, pages: int, size: int) -> None:
    """Refuse hashes that are not inside the directory; those of special slots stand first."""
    blob.need(offset - special * size, (special + pages) * size, "the hashes of a CodeDirectory")


def _check_covers(blob: Region, fields: _Fields, end: int) -> None:
    """Refuse a signature that does not cover the slice up to itself: dyld does, on any machine."""
    if fields.limit > end:
        raise blob.error(f"the signature covers {fields.limit} bytes, and stands at {end}", 32)
    page = 1 << fields.page_bits
    covered = -(-fields.limit // page) * page
    if covered < end or fields.pages << fields.page_bits < covered:
        raise blob.error(f"the signature covers {fields.limit} bytes of {end}", 32)


def _wrong_pages(whole: Region, blob: Region, fields: _Fields) -> Iterator[int]:
    """The numbers of the pages whose hash is another one, the first hundred of them."""
    whole.spend(STEP * fields.pages, 0)
    page, size, digest = 1 << fields.page_bits, fields.hash.size, fields.hash.digest
    hashes = bytes(blob.view[fields.hash_offset : fields.hash_offset + fields.pages * size])
    found = 0
    for number in range(fields.pages):
        start = number << fields.page_bits
        data = whole.view[start : min(start + page, fields.limit)]
        if digest(data) != hashes[number * size : (number + 1) * size]:
            yield number
            found += 1
            if found == _MOST_NAMED:
                return


def _wrong_slots(blob: Region, fields: _Fields, blobs: Mapping[int, Region]) -> Iterator[str]:
    """The special slots whose blob is in the signature and has another hash, or none."""
    for slot, signed in sorted(blobs.items()):
        special = 0 < slot < _ALTERNATES.start
        if special and _special_hash(blob, fields, slot) != fields.hash.digest(signed.view):
            yield _SPECIAL.get(slot, f"slot {slot}")


def _special_hash(blob: Region, fields: _Fields, slot: int) -> bytes:
    """The hash of a special slot, which stands before the hashes of the pages; empty if none."""
    if slot > fields.special_slots:
        return b""
    start = fields.hash_offset - slot * fields.hash.size
    return bytes(blob.view[start : start + fields.hash.size])
