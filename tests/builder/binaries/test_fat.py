"""Fat files: what is written is what lipo writes, and what lies is refused."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder.binaries.fat import merge_slices
from builder.binaries.image import MachFile
from builder.binaries.macho import read_macho
from builder.errors import BinaryError

ARM64 = (0x0100000C, 0)
X86_64 = (0x01000007, 3)
_LIPO = next(
    (p for n in ("llvm-lipo", "llvm-lipo-14", "lipo") if (p := shutil.which(n))),
    next((str(p) for p in Path("/usr/lib").glob("llvm-*/bin/llvm-lipo")), None),
)

Row = tuple[tuple[int, int], int, int]


def fat(rows: Sequence[tuple[tuple[int, int], int, int]], body: bytes, *, align: int = 0) -> bytes:
    """A fat file with these rows (CPU, offset, size), whose slices lie in `body` at 4096."""
    table = b"".join(struct.pack(">5I", *cpu, at, size, align) for cpu, at, size in rows)
    head = struct.pack(">II", 0xCAFEBABE, len(rows)) + table
    return head.ljust(4096, b"\0") + body


def read(data: bytes) -> MachFile:
    file = read_macho(data)
    assert file is not None
    return file


@pytest.mark.skipif(_LIPO is None, reason="no lipo on this machine")
def test_a_merged_file_is_byte_for_byte_what_lipo_writes(
    mach_arm64: bytes, mach_x86_64: bytes, mach_object: bytes, tmp_path: Path
) -> None:
    for name, thin in {"a": mach_arm64, "b": mach_x86_64, "c": mach_object}.items():
        (tmp_path / name).write_bytes(thin)
    for names in (["a", "b"], ["b", "c"], ["a"]):
        command = [_LIPO, "-create", *names, "-output", "fat"]
        subprocess.run([str(word) for word in command], cwd=tmp_path, check=True, timeout=60)
        ours = merge_slices([(tmp_path / name).read_bytes() for name in names])
        assert ours == (tmp_path / "fat").read_bytes()


def test_a_merged_file_holds_its_slices_at_the_page_of_each(
    mach_arm64: bytes, mach_x86_64: bytes
) -> None:
    merged = merge_slices([mach_arm64, mach_x86_64])
    assert merged == merge_slices([mach_x86_64, mach_arm64])
    x86_64, arm64 = read(merged).slices
    assert (x86_64.arch, arm64.arch) == ("x86_64", "arm64")
    assert merged[arm64.offset : arm64.offset + arm64.size] == mach_arm64
    assert merged[x86_64.offset : x86_64.offset + x86_64.size] == mach_x86_64
    assert (x86_64.offset % (1 << 12), arm64.offset % (1 << 14)) == (0, 0)


def test_slices_say_the_same_as_the_thin_files(mach_arm64: bytes, mach_x86_64: bytes) -> None:
    merged = read(merge_slices([mach_arm64, mach_x86_64]))
    thin = {s.arch: s for data in (mach_arm64, mach_x86_64) for s in read(data).slices}
    assert merged.fat
    for slice_ in merged.slices:
        assert slice_.exports == thin[slice_.arch].exports
        assert slice_.minimum_os == thin[slice_.arch].minimum_os
        assert slice_.signed == thin[slice_.arch].signed


def test_merging_refuses_what_makes_no_sound_file(mach_arm64: bytes, elf_x86_64: bytes) -> None:
    with pytest.raises(BinaryError, match="two fat slices of arm64"):
        merge_slices([mach_arm64, mach_arm64])
    with pytest.raises(BinaryError, match="no Mach-O header"):
        merge_slices([mach_arm64, elf_x86_64])
    with pytest.raises(BinaryError, match="no Mach-O header"):
        merge_slices([merge_slices([mach_arm64])])
    with pytest.raises(BinaryError, match="of 0 slices"):
        merge_slices([])


def test_one_slice_is_legal(mach_arm64: bytes) -> None:
    file = read(merge_slices([mach_arm64]))
    assert file.fat
    assert [slice_.arch for slice_ in file.slices] == ["arm64"]


def test_a_table_with_64_bit_offsets_is_read(mach_arm64: bytes) -> None:
    row = struct.pack(">IIQQII", *ARM64, 4096, len(mach_arm64), 12, 0)
    data = (struct.pack(">II", 0xCAFEBABF, 1) + row).ljust(4096, b"\0") + mach_arm64
    assert read(data).slices[0].offset == 4096


def test_an_entry_that_lies_about_its_slice_is_refused(mach_arm64: bytes) -> None:
    for claimed in (X86_64, (ARM64[0], 2)):
        with pytest.raises(BinaryError, match="the slice says arm64"):
            read_macho(fat([(claimed, 4096, len(mach_arm64))], mach_arm64))


def test_capability_bits_are_no_lie(mach_arm64: bytes) -> None:
    cpu = (ARM64[0], ARM64[1] | 0x80000000)
    assert read(fat([(cpu, 4096, len(mach_arm64))], mach_arm64)).slices[0].arch == "arm64"


def test_overlapping_entries_are_refused(mach_arm64: bytes, mach_x86_64: bytes) -> None:
    body = mach_arm64 + mach_x86_64
    second = 4096 + len(mach_arm64) - 1
    rows = [(ARM64, 4096, len(mach_arm64)), (X86_64, second, len(mach_x86_64))]
    with pytest.raises(BinaryError, match="overlap"):
        read_macho(fat(rows, body))


def test_two_entries_of_one_architecture_are_refused(mach_arm64: bytes) -> None:
    size = len(mach_arm64)
    with pytest.raises(BinaryError, match="two fat slices of arm64"):
        read_macho(fat([(ARM64, 4096, size), (ARM64, 4096 + size, size)], mach_arm64 * 2))


def test_an_entry_over_the_table_or_off_its_alignment_is_refused(mach_arm64: bytes) -> None:
    with pytest.raises(BinaryError, match="over the fat table"):
        read_macho(fat([(ARM64, 8, 64)], mach_arm64))
    for align in (13, 16, 0xFFFFFFFF):
        with pytest.raises(BinaryError, match="not aligned"):
            read_macho(fat([(ARM64, 4096, len(mach_arm64))], mach_arm64, align=align))


@pytest.mark.parametrize("missing", [1, 100, 40_000])
def test_a_truncated_fat_file_is_refused(mach_arm64: bytes, missing: int) -> None:
    with pytest.raises(BinaryError, match=f"a fat slice reaches {missing} bytes"):
        read_macho(fat([(ARM64, 4096, len(mach_arm64))], mach_arm64)[:-missing])


def test_a_slice_shorter_than_its_segments_is_refused(mach_arm64: bytes) -> None:
    with pytest.raises(BinaryError, match="a segment reaches"):
        read_macho(fat([(ARM64, 4096, len(mach_arm64) - 1)], mach_arm64))


@pytest.mark.parametrize("magic", [0xCAFEBABE, 0xCAFEBABF])
def test_a_table_of_no_or_too_many_slices_is_refused(magic: int) -> None:
    for count in (0, 43, 0xFFFFFFFF):
        with pytest.raises(BinaryError, match="slices"):
            read_macho(struct.pack(">II", magic, count) + bytes(4096))


def test_a_fat_archive_is_a_library_that_nothing_loads(mach_arm64: bytes) -> None:
    archive = b"!<arch>\n" + bytes(56)
    assert read_macho(fat([(ARM64, 4096, 64)], archive)) is None
    with pytest.raises(BinaryError, match="no Mach-O header"):
        read_macho(fat([(X86_64, 4096, 64), (ARM64, 4160, len(mach_arm64))], archive + mach_arm64))
