"""Our ad-hoc signer: the bytes that a linker writes, and files that it must not touch."""

from __future__ import annotations

import struct

import lief
import pytest

from builder.binaries.image import MachFile, MachSlice
from builder.binaries.read import read_binary
from builder.binaries.sign import sign_adhoc
from builder.errors import BinaryError
from tests.builder.binaries.signatures import place, resigned
from tests.builder.forge import elf, mach, universal, with_command

_PROGRAM = ("-e", "_PyInit_m")


def slices(data: bytes) -> tuple[MachSlice, ...]:
    file = read_binary(data)
    assert isinstance(file, MachFile)
    return file.slices


def is_right(part: MachSlice) -> bool:
    signature = part.signature
    assert signature is not None
    bad = (one.wrong_pages or one.wrong_slots for one in signature.directories)
    return signature.fault is None and bool(signature.directories) and not any(bad)


@pytest.mark.parametrize("flags", [("-shared",), _PROGRAM])
def test_a_fresh_signature_is_the_linker_s_own(flags: tuple[str, ...]) -> None:
    data = mach("arm64", flags=flags)
    assert sign_adhoc(data, "out") == data


def test_changed_code_is_signed_again() -> None:
    data = bytearray(mach("arm64"))
    data[0x3000] ^= 1
    assert not is_right(slices(bytes(data))[0])
    (part,) = slices(signed := sign_adhoc(bytes(data), "m.so"))
    assert is_right(part)
    assert part.signature is not None
    assert part.signature.directories[0].identifier == "m.so"
    assert signed[0x3000] == data[0x3000]


@pytest.mark.parametrize("system", ["macos", "ios"])
def test_an_unsigned_file_gets_its_load_command(system: str) -> None:
    data = mach("x86_64") if system == "macos" else mach("arm64", "14.0", system="ios")
    (before,), (after,) = slices(data), slices(sign_adhoc(data, "m.so"))
    assert before.signature is None
    assert is_right(after)
    assert (before.exports, before.undefined) == (after.exports, after.undefined)


def test_signing_again_changes_nothing() -> None:
    once = sign_adhoc(mach("x86_64"), "m.so")
    assert sign_adhoc(once, "m.so") == once


def test_pages_are_those_of_the_architecture() -> None:
    pages = [
        part.signature.directories[0].page_size
        for part in slices(sign_adhoc(universal(), "m.so"))
        if part.signature
    ]
    assert pages == [4096, 16384]


def test_both_slices_of_a_fat_file_are_signed() -> None:
    parts = slices(sign_adhoc(universal(), "m.so"))
    assert [part.arch for part in parts] == ["x86_64", "arm64"]
    assert all(is_right(part) for part in parts)


def test_a_signature_with_several_directories_gives_way() -> None:
    data = resigned(mach("arm64"), (1, 2))
    assert len(slices(data)[0].signature.directories) == 2  # type: ignore[union-attr]
    (part,) = slices(sign_adhoc(data, "out"))
    assert part.signature is not None
    assert [one.hash for one in part.signature.directories] == ["sha256"]


@pytest.mark.parametrize("data", [mach("x86_64"), mach("arm64"), universal()])
def test_lief_agrees(data: bytes) -> None:
    fat = lief.MachO.parse(list(sign_adhoc(data, "module.so")))
    assert fat is not None
    for part in (fat.at(number) for number in range(fat.size)):
        assert part is not None
        signature, linkedit = part.code_signature, part.get_segment("__LINKEDIT")
        assert signature is not None
        assert linkedit is not None
        end = linkedit.file_offset + linkedit.file_size
        assert signature.data_offset + signature.data_size == end
        assert linkedit.virtual_size >= linkedit.file_size
        assert lief.MachO.check_layout(part) == (True, "")


def test_what_no_loader_takes_is_not_signed() -> None:
    with pytest.raises(BinaryError, match="MH_OBJECT"):
        sign_adhoc(mach("arm64", flags=("-c",)), "m.o")
    with pytest.raises(BinaryError, match="Mach-O"):
        sign_adhoc(elf(), "m.so")


def test_no_room_for_the_load_command_is_an_error() -> None:
    data = bytearray(mach("x86_64"))
    end = 32 + struct.unpack_from("<I", data, 20)[0]
    data[end + 4] = 1
    with pytest.raises(BinaryError, match="no room"):
        sign_adhoc(bytes(data), "m.so")


def test_bytes_behind_the_link_edit_data_are_an_error() -> None:
    for data in (mach("arm64"), mach("x86_64")):
        with pytest.raises(BinaryError, match=r"last thing|behind"):
            sign_adhoc(data + bytes(16), "m.so")


def test_a_signature_in_the_middle_is_an_error() -> None:
    data = bytearray(mach("arm64"))
    command, offset, size = place(bytes(data))
    struct.pack_into("<2I", data, command + 8, offset, size - 16)
    with pytest.raises(BinaryError, match="last thing"):
        sign_adhoc(bytes(data), "m.so")


def test_a_file_without_link_edit_data_is_an_error() -> None:
    data = mach("arm64").replace(b"__LINKEDIT", b"__LINKFADE")
    with pytest.raises(BinaryError, match="__LINKEDIT"):
        sign_adhoc(data, "m.so")


@pytest.mark.parametrize("identifier", ["", "a\0b", "ümlaut", "a\nb"])
def test_an_identifier_is_plain_text(identifier: str) -> None:
    with pytest.raises(ValueError, match="identifier"):
        sign_adhoc(mach("arm64"), identifier)


def test_a_signature_that_was_taken_away_comes_back() -> None:
    stripped = with_command(mach("arm64"), 0x1D, 0x2B)
    assert is_right(slices(sign_adhoc(stripped, "m.so"))[0])
