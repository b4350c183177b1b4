"""The reader of PE files, on what a real linker writes and on what no linker would."""

from __future__ import annotations

import struct

import pytest

from builder.binaries.image import PeFile
from builder.binaries.read import looks_like_binary, read_binary
from builder.errors import BinaryError
from tests.builder.forge import pe

_LOAD_CONFIG = 10
_CLR = 14


def read(data: bytes) -> PeFile:
    file = read_binary(data)
    assert isinstance(file, PeFile)
    return file


def directory_at(data: bytes | bytearray, index: int) -> int:
    """Where row `index` of a 64-bit file's data directories is."""
    (start,) = struct.unpack_from("<I", data, 60)
    return int(start) + 24 + 112 + 8 * index


def padding_of_text(data: bytes) -> tuple[int, int]:
    """Offset and address of the unused end of the first section, some 300 bytes."""
    (start,) = struct.unpack_from("<I", data, 60)
    (optional,) = struct.unpack_from("<H", data, start + 20)
    _, _, address, size, offset = struct.unpack_from("<8s4I", data, start + 24 + optional)
    return offset + size - 300, address + size - 300


def read_only_section(data: bytes | bytearray) -> tuple[int, int]:
    """Address and offset of the second section, .rdata."""
    (start,) = struct.unpack_from("<I", data, 60)
    (optional,) = struct.unpack_from("<H", data, start + 20)
    address, _, offset = struct.unpack_from("<3I", data, start + 24 + optional + 40 + 12)
    return address, offset


def with_hybrid_map(data: bytes) -> bytes:
    """A 64-bit file whose load configuration names a map of ARM code (ARM64EC)."""
    patched = bytearray(data)
    offset, address = padding_of_text(data)
    struct.pack_into("<I", patched, offset, 208)
    struct.pack_into("<Q", patched, offset + 200, 0x180001000)
    struct.pack_into("<II", patched, directory_at(data, _LOAD_CONFIG), address, 208)
    return bytes(patched)


@pytest.mark.parametrize(("arch", "machine", "bits"), [
    ("amd64", 0x8664, 64), ("arm64", 0xAA64, 64), ("x86", 0x14C, 32),
])  # fmt: skip
def test_each_architecture(arch: str, machine: int, bits: int) -> None:
    file = read(pe(arch, ("PyInit_m", "also"), ("python311.dll", "KERNEL32.dll")))
    assert (file.arch, file.machine, file.bits, file.filetype) == (arch, machine, bits, "DLL")
    assert file.dependencies == ("python311.dll", "KERNEL32.dll")
    assert file.exports == {"PyInit_m", "also"}
    assert file.undefined == {"PyErr_Clear", "PyErr_Occurred"}
    assert (file.delayed, file.managed) == ((), False)


@pytest.mark.parametrize("arch", ["amd64", "x86"])
def test_a_dll_that_is_loaded_on_demand(arch: str) -> None:
    file = read(pe(arch, delayed=("late.dll",)))
    assert (file.dependencies, file.delayed) == (("python311.dll",), ("late.dll",))
    assert file.undefined == {"PyErr_Clear", "PyErr_Occurred"}


def test_a_program() -> None:
    assert read(pe("amd64", (), (), ("/entry:use", "/subsystem:console"))).filetype == "EXE"


def test_a_symbol_that_is_asked_for_by_number() -> None:
    data = bytearray(pe())
    address, offset = read_only_section(data)
    hint = data.index(b"PyErr_Clear\0") - 2
    table = data.index(struct.pack("<Q", hint - offset + address))
    struct.pack_into("<Q", data, table, 1 << 63 | 77)
    assert read(bytes(data)).undefined == {"python311.dll#77"}


def test_an_assembly_of_net() -> None:
    data = bytearray(pe())
    struct.pack_into("<II", data, directory_at(data, _CLR), 0x1000, 72)
    assert read(bytes(data)).managed


def test_arm_code_behind_an_amd64_header() -> None:
    assert read(with_hybrid_map(pe())).arch == "arm64ec"


def test_an_unknown_machine_has_a_name() -> None:
    data = bytearray(pe())
    (start,) = struct.unpack_from("<I", data, 60)
    struct.pack_into("<H", data, start + 4, 0x5064)
    assert read(bytes(data)).arch == "machine-0x5064"


@pytest.mark.parametrize("data", [
    b"MZ is how this text begins, and it goes on for more than sixty-four bytes, easily",
    b"MZ",
    b"MZ\x90\0" + bytes(range(1, 200)),
])  # fmt: skip
def test_two_letters_make_no_pe_file(data: bytes) -> None:
    assert looks_like_binary(data[:8])
    assert read_binary(data) is None


@pytest.mark.parametrize("word", [b"NE", b"LE", b"LX"])
def test_a_program_for_older_systems_is_none(word: bytes) -> None:
    data = pe()
    (start,) = struct.unpack_from("<I", data, 60)
    assert read_binary(data[:start] + word + data[start + 2 :]) is None


def test_a_file_that_ends_before_its_header_was_cut_off() -> None:
    for size in (10, 25, 30, 63, 64, 100):
        with pytest.raises(BinaryError, match="cut off"):
            read_binary(pe()[:size])


def test_sections_that_overlap_are_refused() -> None:
    data = bytearray(pe())
    (start,) = struct.unpack_from("<I", data, 60)
    (optional,) = struct.unpack_from("<H", data, start + 20)
    second = start + 24 + optional + 40
    struct.pack_into("<I", data, second + 12, 0x1000)
    with pytest.raises(BinaryError, match="overlap"):
        read_binary(bytes(data))


def test_an_exported_name_that_leads_to_no_function_is_refused() -> None:
    data = bytearray(pe())
    struct.pack_into("<I", data, _exports(data) + 20, 0)
    with pytest.raises(BinaryError, match="no function"):
        read_binary(bytes(data))


def test_more_exports_than_the_file_has_bytes_for_are_refused() -> None:
    data = bytearray(pe())
    struct.pack_into("<I", data, _exports(data) + 24, 0x40000000)
    with pytest.raises(BinaryError):
        read_binary(bytes(data))


def _exports(data: bytes | bytearray) -> int:
    """The offset of the export table."""
    (table,) = struct.unpack_from("<I", data, directory_at(data, 0))
    address, offset = read_only_section(data)
    return int(table - address + offset)
