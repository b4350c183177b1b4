"""Code signatures made by hand, for what no linker at hand writes: several hashes, other blobs."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable

Digest = Callable[[bytes], bytes]
REQUIREMENTS = struct.pack(">3I", 0xFADE0C01, 12, 0)
CMS = struct.pack(">2I", 0xFADE0B01, 12) + b"seal"


def sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def sha256_cut(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()[:20]


HASHES: dict[int, Digest] = {1: sha1, 2: sha256, 3: sha256_cut}


def place(data: bytes) -> tuple[int, int, int]:
    """Where LC_CODE_SIGNATURE of a thin 64-bit file is, and the offset and size that it names."""
    at = 32
    for _ in range(struct.unpack_from("<I", data, 16)[0]):
        kind, size = struct.unpack_from("<2I", data, at)
        if kind == 0x1D:
            return at, *struct.unpack_from("<2I", data, at + 8)
        at += size
    raise AssertionError("no LC_CODE_SIGNATURE")


def resigned(
    data: bytes,
    hash_types: tuple[int, ...] = (1, 2),
    blobs: dict[int, bytes] | None = None,
    page_bits: int = 12,
) -> bytes:
    """A signed thin file with one CodeDirectory for each hash type, and further blobs, as codesign
    writes them: the first in slot 0, the others from 0x1000 on."""
    blobs = {2: REQUIREMENTS} if blobs is None else blobs
    at, offset, _ = place(data)
    link = data.index(b"__LINKEDIT")
    size = 4096 + 32 * 4 * (offset >> page_bits)
    content = bytearray(data[:offset])
    struct.pack_into("<I", content, at + 12, size)
    (start,) = struct.unpack_from("<Q", data, link + 32)
    struct.pack_into("<Q", content, link + 40, offset + size - start)
    directories = [_directory(bytes(content), kind, blobs, page_bits) for kind in hash_types]
    slots = {0 if n == 0 else 0xFFF + n: one for n, one in enumerate(directories)} | blobs
    return bytes(content) + _super_blob(slots).ljust(size, b"\0")


def _directory(content: bytes, kind: int, blobs: dict[int, bytes], page_bits: int) -> bytes:
    digest, page = HASHES[kind], 1 << page_bits
    width = len(digest(b""))
    special = max((slot for slot in blobs if slot < 0x1000), default=0)
    hashes = b"".join(
        digest(blobs[slot]) if slot in blobs else bytes(width) for slot in range(special, 0, -1)
    )
    hashes += b"".join(digest(content[n : n + page]) for n in range(0, len(content), page))
    pages = -(-len(content) // page)
    start = 52 + len(b"name\0")
    head = struct.pack(
        ">9I4B3I",
        *(0xFADE0C02, start + len(hashes), 0x20200, 2, start + special * width, 52, special),
        *(pages, len(content), width, kind, 0, page_bits, 0, 0, 0),
    )
    return head + b"name\0" + hashes


def _super_blob(slots: dict[int, bytes]) -> bytes:
    index, body = b"", b""
    start = 12 + 8 * len(slots)
    for slot, blob in sorted(slots.items()):
        index += struct.pack(">2I", slot, start + len(body))
        body += blob
    return struct.pack(">3I", 0xFADE0CC0, start + len(body), len(slots)) + index + body
