"""What counts as a binary, by its first bytes."""

from __future__ import annotations

import struct

import pytest

from builder.binaries.image import ElfFile, MachFile, PeFile
from builder.binaries.read import looks_like_binary, read_binary


def java_class(major: int) -> bytes:
    """The head of a class file (JVM specification, 4.1): magic, minor, major version."""
    return struct.pack(">IHH", 0xCAFEBABE, 0, major) + b"\0\x1d" * 40


@pytest.mark.parametrize("major", [45, 52, 65, 69])
def test_a_java_class_is_no_binary(major: int) -> None:
    assert not looks_like_binary(java_class(major)[:8])
    assert read_binary(java_class(major)) is None


@pytest.mark.parametrize("data", [b"", b"\x7fEL", b"PK\3\4" + bytes(60)])
def test_other_files_are_none(data: bytes) -> None:
    assert not looks_like_binary(data[:8])
    assert read_binary(data) is None


def test_every_binary_is_known_by_its_first_eight_bytes(binaries: dict[str, bytes]) -> None:
    for name, data in binaries.items():
        assert looks_like_binary(data[:8]), name
        kinds = {"mach": MachFile, "elf": ElfFile, "pe": PeFile}
        assert isinstance(read_binary(data), kinds[name.partition("_")[0]])


def test_bytes_and_views_read_alike(elf_x86_64: bytes) -> None:
    shifted = memoryview(b"xxx" + elf_x86_64)[3:]
    assert read_binary(shifted) == read_binary(elf_x86_64)


def test_a_name_that_many_files_ask_for_is_in_memory_once(
    elf_x86_64: bytes, mach_arm64: bytes
) -> None:
    asked = [_asked(data) for data in (elf_x86_64, elf_x86_64, mach_arm64, mach_arm64)]
    copies = [name for names in asked for name in names if name == "PyModule_Create2"]
    assert len(copies) == len(asked)
    assert len(set(map(id, copies))) == 1


def _asked(data: bytes) -> frozenset[str]:
    binary = read_binary(data)
    assert isinstance(binary, ElfFile | MachFile)
    return binary.undefined if isinstance(binary, ElfFile) else binary.slices[0].undefined
