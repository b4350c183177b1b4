"""ELF files: every field from a real linker's file, every lie from patched bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import pytest

from builder.binaries.elf import read_elf
from builder.errors import BinaryError

PT_LOAD, PT_DYNAMIC, PT_NOTE, PT_GNU_STACK = 1, 2, 4, 0x6474E551
DT_NEEDED, DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ = 1, 4, 5, 6, 10
DT_GNU_HASH, DT_VERNEED, DT_VERNEEDNUM = 0x6FFFFEF5, 0x6FFFFFFE, 0x6FFFFFFF
BASE = 0x10000


def patched(data: bytes, offset: int, layout: str, *values: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, *values)
    return bytes(changed)


def without_sections(data: bytes) -> bytes:
    """A 64-bit little-endian file whose header no longer names a section table."""
    return patched(patched(data, 40, "<Q", 0), 58, "<HHH", 0, 0, 0)


def segments(data: bytes) -> list[int]:
    """Where the program headers of a 64-bit little-endian file lie."""
    (start,), (count,) = struct.unpack_from("<Q", data, 32), struct.unpack_from("<H", data, 56)
    return [start + 56 * place for place in range(count)]


def segment_at(data: bytes, kind: int) -> int:
    return next(at for at in segments(data) if struct.unpack_from("<I", data, at)[0] == kind)


Segment = tuple[int, int, int, int]


def elf(
    *rows: Segment, tail: bytes = b"", machine: int = 62, head: Sequence[int] = (2, 1, 1)
) -> bytes:
    """A 64-bit file of segments (kind, flags, offset, size) mapped at BASE, and their bytes."""
    order = "<" if head[1] == 1 else ">"
    ident = b"\x7fELF" + bytes(head) + bytes(9)
    counts = (64, 56, len(rows), 64, 0, 0)
    fields = struct.pack(order + "HHIQQQI6H", 3, machine, 1, 0, 64, 0, 0, *counts)
    table = b"".join(
        struct.pack(order + "IIQQQQQQ", kind, flags, at, BASE + at, 0, size, size, 8)
        for kind, flags, at, size in rows
    )
    return ident + fields + table + tail


def dynamic_elf(*pairs: tuple[int, int], tail: bytes = b"", machine: int = 62) -> bytes:
    """A file of one loaded segment whose dynamic table holds `pairs`, with `tail` behind it.

    The tail starts at 4096.
    """
    table = b"".join(struct.pack("<QQ", *pair) for pair in pairs)
    body = bytes(1024 - 64 - 112) + table
    whole = 4096 + len(tail)
    rows = ((PT_LOAD, 4, 0, whole), (PT_DYNAMIC, 4, 1024, len(table)))
    return elf(*rows, tail=body, machine=machine).ljust(4096, b"\0") + tail


TAIL = BASE + 4096


def test_a_shared_library(elf_x86_64: bytes) -> None:
    file = read_elf(elf_x86_64)
    assert (file.arch, file.machine, file.bits, file.little_endian) == ("x86_64", 62, 64, True)
    assert (file.filetype, file.interpreter, file.soname) == ("ET_DYN", None, "libspam.so.1")
    assert (file.rpath, file.runpath) == ((), ("$ORIGIN/a", "/b"))
    assert file.exports == {"PyInit_spam", "exported_data", "common_data"}
    assert file.undefined == {"PyModule_Create2", "helper", "perhaps"}
    assert file.weak == {"perhaps"}
    assert not file.executable_stack


def test_an_old_style_search_path(compile_for: Callable[..., bytes]) -> None:
    options = ("-Wl,-rpath,/opt/lib", "-Wl,--disable-new-dtags")
    assert read_elf(compile_for("x86_64-linux-gnu", *options)).rpath == ("/opt/lib",)


def test_a_program_needs_an_interpreter_and_versions_of_libc(elf_versioned: bytes) -> None:
    file = read_elf(elf_versioned)
    assert file.interpreter is not None
    assert file.interpreter.startswith("/lib")
    assert any(name.startswith("libc.") for name in file.needed)
    assert "puts" in file.undefined
    versions = {version for needs in file.version_needs.values() for version in needs}
    assert any(version.startswith("GLIBC_2.") for version in versions)
    assert set(file.version_needs) <= set(file.needed)


@pytest.mark.parametrize(
    ("target", "arch"),
    [
        ("x86_64-linux-musl", "x86_64"),
        ("x86-linux-gnu", "i686"),
        ("x86_64-linux-gnux32", "em-62-32"),
        ("aarch64-linux-gnu", "aarch64"),
        ("aarch64_be-linux-gnu", "em-183-64be"),
        ("arm-linux-gnueabihf", "armv7l"),
        ("arm-linux-gnueabi", "armv5tel"),
        ("armeb-linux-gnueabi", "em-40"),
        ("powerpc64le-linux-gnu", "ppc64le"),
        ("powerpc64-linux-musl", "ppc64"),
        ("s390x-linux-gnu", "s390x"),
        ("riscv64-linux-gnu", "riscv64"),
        ("loongarch64-linux-gnu", "loongarch64"),
        ("mips-linux-gnueabi", "em-8"),
    ],
)
def test_names_of_architectures(compile_for: Callable[..., bytes], target: str, arch: str) -> None:
    file = read_elf(compile_for(target))
    assert file.arch == arch
    assert file.exports == {"PyInit_spam", "exported_data", "common_data"}
    assert {"PyModule_Create2", "helper"} <= file.undefined


def test_a_file_for_no_machine_says_so(elf_x86_64: bytes) -> None:
    assert read_elf(patched(elf_x86_64, 18, "<H", 0)).arch == "em-0"


@pytest.mark.parametrize("target", ["x86_64-linux-gnu", "s390x-linux-gnu", "arm-linux-gnueabihf"])
def test_an_object_file_has_its_symbols_from_its_sections(
    compile_for: Callable[..., bytes], target: str
) -> None:
    file = read_elf(compile_for(target, "-c"))
    assert file.filetype == "ET_REL"
    assert file.exports == {"PyInit_spam", "exported_data", "common_data"}
    assert {"PyModule_Create2", "helper"} <= file.undefined


@pytest.mark.parametrize("style", ["sysv", "gnu", "both"])
def test_a_file_without_sections_says_the_same(
    compile_for: Callable[..., bytes], style: str
) -> None:
    data = compile_for("x86_64-linux-gnu", f"-Wl,--hash-style={style}")
    assert read_elf(without_sections(data)) == read_elf(data)


def test_a_program_without_sections_says_the_same(elf_versioned: bytes) -> None:
    """It exports next to nothing, so that its DT_GNU_HASH does not cover what it asks for."""
    assert read_elf(without_sections(elf_versioned)) == read_elf(elf_versioned)


@pytest.mark.parametrize(("flags", "expected"), [(7, True), (6, False)])
def test_an_executable_stack(elf_x86_64: bytes, flags: int, expected: bool) -> None:
    at = segment_at(elf_x86_64, PT_GNU_STACK)
    assert read_elf(patched(elf_x86_64, at + 4, "<I", flags)).executable_stack is expected


@pytest.mark.parametrize(("machine", "expected"), [(62, True), (183, True), (243, False)])
def test_without_a_stack_segment_the_default_of_the_abi_counts(
    machine: int, expected: bool
) -> None:
    assert read_elf(elf((PT_LOAD, 4, 0, 120), machine=machine)).executable_stack is expected


# --- lies about the file ---


@pytest.mark.parametrize("head", [(0, 1, 1), (3, 1, 1), (2, 0, 1), (2, 3, 1), (2, 1, 0)])
def test_an_identification_that_is_none_is_refused(head: tuple[int, int, int]) -> None:
    data = b"\x7fELF" + bytes(head) + bytes(200)
    with pytest.raises(BinaryError, match="an ELF file of class"):
        read_elf(data)


def test_a_truncated_file_is_refused_whatever_is_missing(elf_x86_64: bytes) -> None:
    for data in (elf_x86_64, without_sections(elf_x86_64)):
        loads = [struct.unpack_from("<QQQQ", data, at + 8) for at in segments(data)]
        end = max(offset + size for offset, _, _, size in loads)
        for length in (5, 16, 63, 64, 120, 1000, end // 2, end - 1):
            with pytest.raises(BinaryError):
                read_elf(data[:length])
    with pytest.raises(BinaryError, match="the section header table reaches 1 bytes"):
        read_elf(elf_x86_64[:-1])


@pytest.mark.parametrize("kind", [PT_LOAD, PT_DYNAMIC, PT_NOTE])
def test_a_segment_beyond_the_end_is_refused(kind: int) -> None:
    with pytest.raises(BinaryError, match="a segment reaches 1 bytes"):
        read_elf(elf((kind, 4, 0, 121)))


def test_segments_that_overlap_or_are_out_of_order_are_refused() -> None:
    tail = bytes(512)
    assert read_elf(elf((PT_LOAD, 4, 0, 200), (PT_LOAD, 4, 200, 100), tail=tail)).arch == "x86_64"
    for second in (199, 0):
        with pytest.raises(BinaryError, match="overlap or are out of order"):
            read_elf(elf((PT_LOAD, 4, 0, 200), (PT_LOAD, 4, second, 100), tail=tail))


def test_a_section_beyond_the_end_is_refused(elf_object: bytes) -> None:
    (start,), (count,) = (
        struct.unpack_from(f, elf_object, at) for f, at in (("<Q", 40), ("<H", 60))
    )
    headers = [start + 64 * place for place in range(count)]
    texts = next(at for at in headers if struct.unpack_from("<I", elf_object, at + 4) == (3,))
    with pytest.raises(BinaryError, match="a section reaches"):
        read_elf(patched(elf_object, texts + 32, "<Q", 1 << 40))


@pytest.mark.parametrize(("at", "layout"), [(54, "<H"), (58, "<H")])
def test_table_rows_of_another_size_are_refused(elf_x86_64: bytes, at: int, layout: str) -> None:
    for size in (0, 1, 0xFFFF):
        with pytest.raises(BinaryError, match="headers of"):
            read_elf(patched(elf_x86_64, at, layout, size))


def test_giant_counts_of_headers_are_refused(elf_x86_64: bytes) -> None:
    for at in (56, 60):
        with pytest.raises(BinaryError):
            read_elf(patched(elf_x86_64, at, "<H", 0xFFFF))
    (start,) = struct.unpack_from("<Q", elf_x86_64, 40)
    extended = patched(patched(elf_x86_64, 60, "<H", 0), start + 32, "<Q", 1 << 50)
    with pytest.raises(BinaryError, match="section headers"):
        read_elf(extended)


def test_a_count_of_sections_may_be_kept_in_the_first_one(elf_x86_64: bytes) -> None:
    (start,), (count,) = (
        struct.unpack_from(f, elf_x86_64, at) for f, at in (("<Q", 40), ("<H", 60))
    )
    extended = patched(patched(elf_x86_64, 60, "<H", 0), start + 32, "<Q", count)
    assert read_elf(extended) == read_elf(elf_x86_64)


# --- lies about what the loader reads ---


def test_the_dynamic_table_is_where_its_address_says(elf_x86_64: bytes) -> None:
    at = segment_at(elf_x86_64, PT_DYNAMIC)
    (offset,) = struct.unpack_from("<Q", elf_x86_64, at + 8)
    with pytest.raises(BinaryError, match="not where its address is"):
        read_elf(patched(elf_x86_64, at + 8, "<Q", offset - 16))
    with pytest.raises(BinaryError, match="no segment maps"):
        read_elf(patched(elf_x86_64, at + 16, "<Q", 1 << 50))


def test_a_dynamic_table_without_an_end_is_refused() -> None:
    with pytest.raises(BinaryError, match="has no end"):
        read_elf(dynamic_elf((DT_STRSZ, 1)))


def test_two_dynamic_tables_are_refused() -> None:
    twice = elf((PT_LOAD, 4, 0, 300), *[(PT_DYNAMIC, 4, 240, 16)] * 2, tail=bytes(100))
    with pytest.raises(BinaryError, match="two dynamic"):
        read_elf(twice)


def test_of_a_tag_that_stands_twice_the_last_counts() -> None:
    names = b"\0first\0last\0"
    table = ((DT_STRTAB, TAIL), (DT_STRSZ, len(names)), (14, 1), (14, 7), (0, 0))
    assert read_elf(dynamic_elf(*table, tail=names)).soname == "last"


def test_a_needed_name_outside_the_string_table_is_refused() -> None:
    names = b"\0libm.so\0beyond\0"
    table = ((DT_NEEDED, 9), (DT_STRTAB, TAIL), (DT_STRSZ, 9), (0, 0))
    with pytest.raises(BinaryError, match="DT_NEEDED has no end"):
        read_elf(dynamic_elf(*table, tail=names))
    with pytest.raises(BinaryError, match="without a dynamic string table"):
        read_elf(dynamic_elf((DT_NEEDED, 1), (0, 0)))
    with pytest.raises(BinaryError, match="string table reaches"):
        read_elf(dynamic_elf((DT_STRTAB, TAIL), (DT_STRSZ, 99), (0, 0), tail=names))


def symbols_elf(hash_tag: int, table: bytes, machine: int = 62) -> bytes:
    """A file with two symbols, the null one and an undefined one, and a hash table."""
    names = b"\0asked\0".ljust(16, b"\0")
    entries = bytes(24) + struct.pack("<IBBHQQ", 1, 0x12, 0, 0, 0, 0)
    pairs = (
        (DT_STRTAB, TAIL),
        (DT_STRSZ, 16),
        (DT_SYMTAB, TAIL + 16),
        (hash_tag, TAIL + 64),
        (0, 0),
    )
    return dynamic_elf(*pairs, tail=names + entries + table, machine=machine)


def test_a_hash_table_tells_how_many_symbols_there_are() -> None:
    assert read_elf(symbols_elf(DT_HASH, struct.pack("<II", 0, 2))).undefined == {"asked"}
    assert not read_elf(symbols_elf(DT_HASH, struct.pack("<II", 0, 1))).undefined
    gnu = struct.pack("<4IQI", 1, 2, 1, 0, 0, 0)
    assert read_elf(symbols_elf(DT_GNU_HASH, gnu)).undefined == {"asked"}


@pytest.mark.parametrize("layout", ["<QQ", "<II"])
def test_the_hash_table_of_s390_has_words_of_either_size(layout: str) -> None:
    """64 bits by its ABI and from GNU ld, 32 bits from lld."""
    table = struct.pack(layout, 1, 2) + bytes(64)
    assert read_elf(symbols_elf(DT_HASH, table, machine=22)).undefined == {"asked"}


def test_a_segment_that_takes_nothing_of_the_file_may_stand_beyond_it() -> None:
    """A linker leaves the offset of a lone .bss where its page would be."""
    file = elf((PT_LOAD, 4, 0, 176), (PT_LOAD, 6, 1 << 20, 0))
    assert read_elf(file).arch == "x86_64"


@pytest.mark.parametrize("count", [3, 1 << 20, 0xFFFFFFFF])
def test_a_giant_symbol_count_is_refused_before_it_costs_anything(count: int) -> None:
    with pytest.raises(BinaryError, match="symbols reaches"):
        read_elf(symbols_elf(DT_HASH, struct.pack("<II", 0, count)) + bytes(64))
    with pytest.raises(BinaryError, match="symbols reaches"):
        read_elf(symbols_elf(DT_GNU_HASH, struct.pack("<4IQI", 1, max(count, 9), 1, 0, 0, 0)))


@pytest.mark.parametrize(
    "table",
    [
        struct.pack("<4I", 0xFFFFFFFF, 1, 1, 0),
        struct.pack("<4I", 1, 1, 0xFFFFFFFF, 0),
        struct.pack("<4IQI", 1, 1, 1, 0, 0, 0xFFFFFFFF),
        struct.pack("<4IQI4I", 1, 1, 1, 0, 0, 1, 2, 2, 2, 2),
        b"\1\0",
    ],
    ids=["buckets", "bloom", "chain-outside", "chain-open", "short"],
)
def test_a_gnu_hash_table_that_leaves_its_segment_is_refused(table: bytes) -> None:
    with pytest.raises(BinaryError):
        read_elf(symbols_elf(DT_GNU_HASH, table))


def version_need(*needs: tuple[int, int, int], count: int | None = None) -> bytes:
    """A file of DT_VERNEED records (versions, place of the first, step to the next)."""
    names = b"\0libc.so.6\0GLIBC_2.17\0".ljust(32, b"\0")
    records = b"".join(struct.pack("<HHIII", 1, n, 1, first, step) for n, first, step in needs)
    version = struct.pack("<IHHII", 0, 0, 0, 11, 0)
    pairs = (
        (DT_STRTAB, TAIL),
        (DT_STRSZ, 32),
        (DT_VERNEED, TAIL + 32),
        (DT_VERNEEDNUM, len(needs) if count is None else count),
        (0, 0),
    )
    return dynamic_elf(*pairs, tail=names + records + version)


def test_version_needs_of_one_library_in_two_records_are_joined() -> None:
    file = read_elf(version_need((1, 32, 16), (1, 16, 0)))
    assert file.version_needs == {"libc.so.6": {"GLIBC_2.17"}}


@pytest.mark.parametrize(
    ("needs", "count"),
    [
        (((1, 32, 16), (1, 16, 0)), 1),
        (((1, 16, 0),), 2),
        (((1, 16, 8),), 2),
        (((2, 16, 0),), 1),
        (((1, 0xFFFFFFFF, 0),), 1),
        (((1, 16, 0xFFFFFFF0),), 2),
    ],
    ids=["hidden-record", "missing-record", "inside-itself", "missing-version", "far", "far-step"],
)
def test_version_needs_whose_links_and_counts_disagree_are_refused(
    needs: tuple[tuple[int, int, int], ...], count: int
) -> None:
    with pytest.raises(BinaryError):
        read_elf(version_need(*needs, count=count))


def test_version_records_that_share_one_long_chain_cost_too_much() -> None:
    """400 records, each of which points at the same chain of 2,000 versions."""
    names = b"\0n\0".ljust(16, b"\0")
    chain = b"".join(struct.pack("<IHHII", 0, 0, 0, 1, 16) for _ in range(1999))
    chain += struct.pack("<IHHII", 0, 0, 0, 1, 0)
    records = b"".join(
        struct.pack("<HHIII", 1, 2000, 1, 16 * (400 - place), 16 * (place < 399))
        for place in range(400)
    )
    pairs = (
        (DT_STRTAB, TAIL),
        (DT_STRSZ, 16),
        (DT_VERNEED, TAIL + 16),
        (DT_VERNEEDNUM, 400),
        (0, 0),
    )
    with pytest.raises(BinaryError, match="more work"):
        read_elf(dynamic_elf(*pairs, tail=names + records + chain))
