"""Code signatures: their pages, their other slots, and what dyld would not take."""

from __future__ import annotations

import struct

import pytest

from builder.binaries.image import CodeSignature, MachFile
from builder.binaries.read import read_binary
from tests.builder.binaries.signatures import CMS, REQUIREMENTS, place, resigned
from tests.builder.forge import mach

_PAGE_BITS = 39  # offsets in a CodeDirectory
_PAGES = 28
_LIMIT = 32
_HASH_TYPE = 37


def signature_of(data: bytes) -> CodeSignature:
    file = read_binary(data)
    assert isinstance(file, MachFile)
    (part,) = file.slices
    assert part.signature is not None
    assert part.signed
    return part.signature


def with_word(data: bytes, at: int, value: int, layout: str = ">I") -> bytes:
    patched = bytearray(data)
    struct.pack_into(layout, patched, at, value)
    return bytes(patched)


def directory_at(data: bytes) -> int:
    """Where the first CodeDirectory is in the file."""
    offset = place(data)[1]
    return int(offset + struct.unpack_from(">I", data, offset + 16)[0])


def test_what_the_linker_signed_is_right() -> None:
    signature = signature_of(mach("arm64"))
    (directory,) = signature.directories
    assert (signature.fault, signature.by_key) == (None, False)
    assert (directory.hash, directory.identifier, directory.flags) == ("sha256", "out", 0x20002)
    assert (directory.page_size, directory.pages) == (16384, 4)
    assert (directory.wrong_pages, directory.wrong_slots) == ((), ())


def test_an_unsigned_slice_has_no_signature() -> None:
    file = read_binary(mach("x86_64"))
    assert isinstance(file, MachFile)
    assert (file.slices[0].signed, file.slices[0].signature) == (False, None)


@pytest.mark.parametrize(("at", "page"), [(0x3000, 0), (0x4002, 1), (0xC010, 3)])
def test_a_changed_byte_is_found_in_its_page(at: int, page: int) -> None:
    data = bytearray(mach("arm64"))
    data[at] ^= 1
    assert signature_of(bytes(data)).directories[0].wrong_pages == (page,)


def test_the_last_page_ends_where_the_signature_begins() -> None:
    data = mach("arm64")
    assert place(data)[1] % 16384
    assert signature_of(data).directories[0].wrong_pages == ()


def test_several_directories_are_given_as_the_kernel_ranks_them() -> None:
    signature = signature_of(resigned(mach("arm64"), (1, 3, 2)))
    assert [one.hash for one in signature.directories] == ["sha256", "sha256-truncated", "sha1"]
    assert all(not (one.wrong_pages or one.wrong_slots) for one in signature.directories)
    assert {one.page_size for one in signature.directories} == {4096}


def test_one_wrong_hash_in_one_directory_is_found_there() -> None:
    data = resigned(mach("arm64"), (1, 2))
    first = directory_at(data)
    (hashes,) = struct.unpack_from(">I", data, first + 16)
    changed = with_word(data, first + hashes + 2 * 20, 0)
    strong, weak = signature_of(changed).directories
    assert (strong.hash, strong.wrong_pages) == ("sha256", ())
    assert (weak.hash, weak.wrong_pages) == ("sha1", (2,))


def test_another_blob_than_the_signed_one_is_found() -> None:
    data = resigned(mach("arm64"), (2,), {2: REQUIREMENTS, 5: b"\xfa\xde\x71\x71\0\0\0\x0cabcd"})
    assert signature_of(data).directories[0].wrong_slots == ()
    changed = data.replace(b"\0\x0cabcd", b"\0\x0cabcX")
    assert signature_of(changed).directories[0].wrong_slots == ("entitlements",)


def test_a_blob_that_no_slot_covers_is_wrong() -> None:
    data = resigned(mach("arm64"), (2,), {2: REQUIREMENTS})
    uncovered = with_word(data, place(data)[1] + 12 + 8, 7)
    assert signature_of(uncovered).directories[0].wrong_slots == ("DER entitlements",)


def test_a_signature_by_a_key_is_told_from_an_ad_hoc_one() -> None:
    assert signature_of(resigned(mach("arm64"), (2,), {0x10000: CMS})).by_key
    empty = {0x10000: struct.pack(">2I", 0xFADE0B01, 8)}
    assert not signature_of(resigned(mach("arm64"), (2,), empty)).by_key


@pytest.mark.parametrize(
    ("inside", "value", "layout", "fault"),
    [
        (_LIMIT, 0x100, ">I", "covers 256 bytes"),
        (_LIMIT, 0x0FFFFFFF, ">I", "covers 268435455 bytes"),
        (_PAGES, 1, ">I", "covers"),
        (_PAGES, 0x00FFFFFF, ">I", "beyond its end"),
        (_PAGE_BITS, 0, "B", "pages of 2\\^0"),
        (_PAGE_BITS, 200, "B", "pages of 2\\^200"),
        (_HASH_TYPE, 9, "B", "hash type 9"),
        (16, 0xFFFFFFF0, ">I", "beyond its end"),
        (20, 0xFFFFFFF0, ">I", "identifier has no end"),
        (24, 0x00FFFFFF, ">I", "hashes"),
        (44, 8, ">I", "scatter"),
        (0, 0xFADE0C01, ">I", "magic"),
        (4, 20, ">I", "beyond the end"),
    ],
)
def test_a_directory_that_breaks_the_format_is_a_fault(
    inside: int, value: int, layout: str, fault: str
) -> None:
    data = mach("arm64")
    signature = signature_of(with_word(data, directory_at(data) + inside, value, layout))
    assert signature.directories == ()
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(signature.fault)


@pytest.mark.parametrize(
    ("inside", "value", "fault"),
    [
        (0, 0, "magic"),
        (4, 0x0FFFFFFF, "beyond its end"),
        (8, 0, "missing or there twice"),
        (8, 0x0FFFFFFF, "blobs"),
        (12, 5, "missing or there twice"),
        (16, 0x0FFFFFFF, "beyond the end"),
    ],
)
def test_a_super_blob_that_breaks_the_format_is_a_fault(
    inside: int, value: int, fault: str
) -> None:
    data = mach("arm64")
    signature = signature_of(with_word(data, place(data)[1] + inside, value))
    assert fault in (signature.fault or "")


def test_no_more_than_a_hundred_wrong_pages_are_named() -> None:
    data = bytearray(mach("arm64", flags=("-shared", "-Wl,-headerpad,0x100000")))
    if place(bytes(data))[1] < 0x100000:
        pytest.fail("the linker left out the room that was asked for")
    data = bytearray(resigned(bytes(data), (2,)))
    for at in range(0x2000, 0x2000 + 150 * 4096, 4096):
        data[at] ^= 1
    assert len(signature_of(bytes(data)).directories[0].wrong_pages) == 100
