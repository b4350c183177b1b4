"""Mach-O slices: every field from a real linker's file, every lie from patched bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest

from builder.binaries.image import Dependency, MachSlice
from builder.binaries.macho import read_macho
from builder.errors import BinaryError

LC_SEGMENT_64, LC_SYMTAB, LC_LOAD_DYLIB, LC_ID_DYLIB = 0x19, 0x2, 0xC, 0xD
LC_CODE_SIGNATURE, LC_BUILD_VERSION, LC_RPATH = 0x1D, 0x32, 0x8000001C
LC_EXPORTS_TRIE, LC_DYLD_INFO_ONLY = 0x80000033, 0x80000022
X86_64, ARM64, PPC = (0x01000007, 3), (0x0100000C, 0), (18, 0)


def read(data: bytes) -> MachSlice:
    file = read_macho(data)
    assert file is not None
    assert not file.fat
    (slice_,) = file.slices
    return slice_


def commands(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(kind, offset, size) of each load command of a thin 64-bit little-endian file."""
    (count,) = struct.unpack_from("<I", data, 16)
    offset = 32
    for _ in range(count):
        kind, size = struct.unpack_from("<II", data, offset)
        yield kind, offset, size
        offset += size


def place_of(data: bytes, wanted: int) -> int:
    return next(offset for kind, offset, _ in commands(data) if kind == wanted)


def patched(data: bytes, offset: int, *words: int) -> bytes:
    changed = bytearray(data)
    struct.pack_into(f"<{len(words)}I", changed, offset, *words)
    return bytes(changed)


def thin(
    *load_commands: bytes,
    tail: bytes = b"",
    cpu: tuple[int, int] = ARM64,
    order: str = "<",
    filetype: int = 6,
) -> bytes:
    """A file of these load commands and what follows them; 64-bit when its CPU is."""
    wide = bool(cpu[0] & 0x01000000)
    magic = 0xFEEDFACF if wide else 0xFEEDFACE
    body = b"".join(load_commands)
    fields = (magic, *cpu, filetype, len(load_commands), len(body), 0)
    return struct.pack(order + "7I", *fields) + bytes(4 * wide) + body + tail


def command(kind: int, *words: int, text: bytes = b"", order: str = "<") -> bytes:
    size = -(-(8 + 4 * len(words) + len(text)) // 8) * 8
    return (struct.pack(f"{order}{2 + len(words)}I", kind, size, *words) + text).ljust(size, b"\0")


def test_a_dylib_for_arm64(mach_arm64: bytes) -> None:
    assert read(mach_arm64) == MachSlice(
        arch="arm64",
        offset=0,
        size=len(mach_arm64),
        filetype="MH_DYLIB",
        platform="macos",
        minimum_os=(11, 0, 0),
        install_name="@rpath/spam.so",
        dependencies=(Dependency(name="/usr/lib/libSystem.B.dylib", kind="load"),),
        rpaths=("@loader_path/lib",),
        exports=read(mach_arm64).exports,
        undefined=frozenset({"PyModule_Create2", "helper", "perhaps", "dyld_stub_binder"}),
        weak=frozenset({"perhaps"}),
        signed=True,
        signature=read(mach_arm64).signature,
    )
    assert {"PyInit_spam", "exported_data", "common_data"} <= read(mach_arm64).exports
    assert not {"hidden", "local", "helper"} & read(mach_arm64).exports


def test_a_dylib_for_x86_64_is_unsigned(mach_x86_64: bytes) -> None:
    slice_ = read(mach_x86_64)
    assert (slice_.arch, slice_.minimum_os, slice_.signed) == ("x86_64", (10, 13, 0), False)
    assert slice_.rpaths == ("/opt/lib",)


@pytest.mark.parametrize(
    ("target", "platform"),
    [
        ("aarch64-ios-simulator", "iossimulator"),
        ("aarch64-maccatalyst", "maccatalyst"),
        ("aarch64-macos.26.0", "macos"),
    ],
)
def test_platforms_of_a_real_linker(
    compile_for: Callable[..., bytes], target: str, platform: str
) -> None:
    assert read(compile_for(target)).platform == platform


def test_an_object_file_has_its_symbols_from_the_symbol_table(mach_object: bytes) -> None:
    slice_ = read(mach_object)
    assert slice_.filetype == "MH_OBJECT"
    assert slice_.exports == {"PyInit_spam", "exported_data", "common_data"}
    assert slice_.undefined == {"PyModule_Create2", "helper", "perhaps"}
    assert slice_.weak == {"perhaps"}


@pytest.mark.parametrize(
    ("cpu", "arch"),
    [
        (X86_64, "x86_64"),
        ((X86_64[0], 0x80000003), "x86_64"),
        ((X86_64[0], 8), "x86_64h"),
        ((ARM64[0], 2), "arm64e"),
        ((ARM64[0], 0x80000002), "arm64e"),
        ((ARM64[0], 1), "cpu-16777228-1"),
        ((7, 3), "i386"),
        ((0x0100001F, 5), "cpu-16777247-5"),
    ],
)
def test_names_of_architectures(cpu: tuple[int, int], arch: str) -> None:
    assert read(thin(cpu=cpu)).arch == arch


def test_big_endian_files_are_read() -> None:
    rpath = command(LC_RPATH, 12, text=b"/opt\0", order=">")
    for cpu, arch in ((PPC, "ppc"), ((PPC[0] | 0x01000000, 0), "ppc64")):
        slice_ = read(thin(rpath, cpu=cpu, order=">"))
        assert (slice_.arch, slice_.rpaths) == (arch, ("/opt",))


@pytest.mark.parametrize(("cpu", "order"), [(X86_64, ">"), (ARM64, ">"), (PPC, "<")])
def test_a_byte_order_that_the_cpu_does_not_have_is_refused(
    cpu: tuple[int, int], order: str
) -> None:
    with pytest.raises(BinaryError, match="does not fit the CPU"):
        read_macho(thin(cpu=cpu, order=order))


def test_a_32_bit_magic_over_a_64_bit_cpu_is_refused(mach_arm64: bytes) -> None:
    with pytest.raises(BinaryError, match="does not fit the CPU"):
        read_macho(patched(mach_arm64, 0, 0xFEEDFACE))


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (0x80000018, "weak"),
        (0x8000001F, "reexport"),
        (0x20, "lazy"),
        (0x80000023, "upward"),
        (LC_LOAD_DYLIB, "load"),
    ],
)
def test_each_kind_of_dependency(mach_x86_64: bytes, kind: int, word: str) -> None:
    changed = patched(mach_x86_64, place_of(mach_x86_64, LC_LOAD_DYLIB), kind)
    (dependency,) = read(changed).dependencies
    assert (dependency.name, dependency.kind) == ("/usr/lib/libSystem.B.dylib", word)


@pytest.mark.parametrize(
    ("kind", "cpu", "platform"),
    [
        (0x24, X86_64, "macos"),
        (0x25, ARM64, "ios"),
        (0x25, X86_64, "iossimulator"),
        (0x2F, ARM64, "tvos"),
        (0x30, ARM64, "watchos"),
    ],
)
def test_an_old_minimum_os_command(kind: int, cpu: tuple[int, int], platform: str) -> None:
    slice_ = read(thin(command(kind, 10 << 16 | 9 << 8 | 2, 0), cpu=cpu))
    assert (slice_.platform, slice_.minimum_os) == (platform, (10, 9, 2))


def build_version(platform: int, major: int) -> bytes:
    return command(LC_BUILD_VERSION, platform, major << 16, 0, 0)


def test_build_version_wins_over_the_old_command() -> None:
    slice_ = read(thin(command(0x24, 10 << 16 | 9 << 8, 0), build_version(1, 12)))
    assert (slice_.platform, slice_.minimum_os) == ("macos", (12, 0, 0))


@pytest.mark.parametrize(
    ("number", "platform"),
    [(2, "ios"), (6, "maccatalyst"), (7, "iossimulator"), (99, "platform-99")],
)
def test_names_of_platforms(number: int, platform: str) -> None:
    assert read(thin(build_version(number, 14))).platform == platform


def test_of_a_zippered_library_macos_counts() -> None:
    for both in (
        (build_version(6, 14), build_version(1, 11)),
        (build_version(1, 11), build_version(6, 14)),
    ):
        assert read(thin(*both)).minimum_os == (11, 0, 0)


def test_two_minimum_versions_of_one_platform_are_refused() -> None:
    assert read(thin(build_version(1, 11), build_version(1, 11))).minimum_os == (11, 0, 0)
    with pytest.raises(BinaryError, match="two minimum versions of macos"):
        read_macho(thin(build_version(1, 11), build_version(1, 12)))


def test_a_file_without_a_minimum_says_so() -> None:
    assert (read(thin()).platform, read(thin()).minimum_os) == (None, None)


# --- lies about the load commands ---


@pytest.mark.parametrize("size", [0, 4, 12, 0xFFFFFFF8])
def test_a_load_command_of_a_wrong_size_is_refused(mach_arm64: bytes, size: int) -> None:
    for _, offset, _ in commands(mach_arm64):
        with pytest.raises(BinaryError):
            read_macho(patched(mach_arm64, offset + 4, size))


def test_the_load_commands_must_fill_their_table(mach_arm64: bytes) -> None:
    count, size = struct.unpack_from("<II", mach_arm64, 16)
    for changed in ((count - 1, size), (count, size + 8), (count + 1, size), (0xFFFFFFFF, size)):
        with pytest.raises(BinaryError):
            read_macho(patched(mach_arm64, 16, *changed))


@pytest.mark.parametrize("kind", [LC_SYMTAB, LC_ID_DYLIB, LC_CODE_SIGNATURE])
def test_a_command_that_may_stand_once_is_refused_twice(kind: int) -> None:
    one = command(kind, 24, 0, 0, 0, text=b"name\0")
    with pytest.raises(BinaryError, match="stands twice"):
        read_macho(thin(one, one, tail=bytes(64)))


@pytest.mark.parametrize("offset", [0, 8, 23, 200, 0xFFFFFFFF])
def test_a_name_outside_its_command_is_refused(offset: int) -> None:
    lie = command(LC_LOAD_DYLIB, offset, 0, 0, 0, text=b"/usr/lib/libz.dylib\0")
    with pytest.raises(BinaryError):
        read_macho(thin(lie, tail=bytes(4096)))


def test_a_name_without_its_end_is_refused() -> None:
    with pytest.raises(BinaryError, match="no end"):
        read_macho(thin(command(LC_RPATH, 12, text=b"/opt")[:16], tail=b"abc\0"))


def test_a_truncated_thin_file_is_refused_whatever_is_missing(mach_arm64: bytes) -> None:
    boundaries = {offset for _, offset, _ in commands(mach_arm64)}
    lengths = boundaries | {8, 31, len(mach_arm64) // 2, len(mach_arm64) - 1}
    for length in lengths:
        with pytest.raises(BinaryError):
            read_macho(mach_arm64[:length])


def test_a_segment_beyond_the_end_is_refused(mach_arm64: bytes) -> None:
    at = place_of(mach_arm64, LC_SEGMENT_64)
    with pytest.raises(BinaryError, match="a segment reaches"):
        read_macho(patched(mach_arm64, at + 48, len(mach_arm64) + 1))
    with pytest.raises(BinaryError, match="section table"):
        read_macho(patched(mach_arm64, at + 64, 0xFFFFFFF))


def test_link_edit_data_beyond_the_end_is_refused() -> None:
    for kind in (LC_CODE_SIGNATURE, 0x26, LC_EXPORTS_TRIE, 0x80000034):
        with pytest.raises(BinaryError):
            read_macho(thin(command(kind, 48, 17), tail=bytes(16)))
    with pytest.raises(BinaryError, match="dyld info"):
        read_macho(thin(command(LC_DYLD_INFO_ONLY, *[0] * 9, 1 << 20)))


def test_a_signature_of_no_bytes_is_none() -> None:
    assert not read(thin(command(LC_CODE_SIGNATURE, 48, 0))).signed
    assert read(thin(command(LC_CODE_SIGNATURE, 48, 16), tail=bytes(16))).signed


# --- symbols ---


def symtab(*symbols: tuple[int, int, int], names: bytes) -> bytes:
    """A file whose symbol table has these entries: (place of the name, n_type, value)."""
    entries = b"".join(struct.pack("<IBBHQ", n, kind, 1, 0, value) for n, kind, value in symbols)
    start = 32 + 24
    table = command(LC_SYMTAB, start, len(symbols), start + len(entries), len(names))
    return thin(table, tail=entries + names)


def test_only_external_symbols_are_seen() -> None:
    names = b"\0_ext\0_private\0_local\0_stab\0_abs\0_alias\0_asked\0bare\0"
    at = {name: names.index(name) for name in names.split(b"\0")[1:-1]}
    kinds = {b"_ext": 0x0F, b"_private": 0x1F, b"_local": 0x0E, b"_stab": 0x2F, b"_abs": 0x03}
    kinds |= {b"_alias": 0x0B, b"_asked": 0x01, b"bare": 0x0F}
    slice_ = read(symtab(*((at[name], kind, 64) for name, kind in kinds.items()), names=names))
    assert slice_.exports == {"ext", "abs", "alias"}
    assert slice_.undefined == {"asked"}


def test_a_giant_symbol_count_is_refused_before_it_costs_anything() -> None:
    for count, size in ((0xFFFFFFFF, 8), (1 << 20, 8), (0, 0xFFFFFFFF)):
        with pytest.raises(BinaryError, match="table reaches"):
            read_macho(thin(command(LC_SYMTAB, 56, count, 56, size), tail=bytes(4096)))


def test_a_name_beyond_the_string_table_is_refused() -> None:
    with pytest.raises(BinaryError, match="name of a symbol"):
        read_macho(symtab((900, 0x0F, 0), names=b"\0_a\0"))


def test_ten_thousand_symbols_that_share_a_long_name_cost_too_much() -> None:
    shared = [(1, 0x01, 0)] * 10_000
    with pytest.raises(BinaryError, match="more work"):
        read_macho(symtab(*shared, names=b"\0_" + b"n" * 60_000 + b"\0"))


def node(*edges: tuple[bytes, int], terminal: bytes = b"") -> bytes:
    """A node of an export trie; a child's offset is always written as two bytes."""
    children = b"".join(name + b"\0" + bytes([0x80 | at & 0x7F, at >> 7]) for name, at in edges)
    return bytes([len(terminal)]) + terminal + bytes([len(edges)]) + children


def exporting(trie: bytes, *, kind: int = LC_EXPORTS_TRIE, size: int | None = None) -> bytes:
    size = len(trie) if size is None else size
    if kind == LC_EXPORTS_TRIE:
        return thin(command(kind, 48, size), tail=trie)
    return thin(command(kind, *[0] * 8, 80, size), tail=trie)


LEAF = node(terminal=b"\0\x10")


@pytest.mark.parametrize("kind", [LC_EXPORTS_TRIE, LC_DYLD_INFO_ONLY])
def test_names_in_a_trie_are_put_together_from_its_edges(kind: int) -> None:
    root = node((b"_Py", 32), (b"bare", 48))
    inner = node((b"Init_a", 52), (b"Init_b", 56), terminal=b"\0\x10")
    trie = root.ljust(32, b"\0") + inner
    trie = trie.ljust(60, b"\0") + LEAF
    offsets = {52: 60, 56: 64, 48: 68}
    inner = node((b"Init_a", offsets[52]), (b"Init_b", offsets[56]), terminal=b"\0\x10")
    root = node((b"_Py", 32), (b"bare", offsets[48]))
    trie = root.ljust(32, b"\0") + inner.ljust(28, b"\0") + LEAF + LEAF + LEAF
    assert read(exporting(trie, kind=kind)).exports == {"Py", "PyInit_a", "PyInit_b"}


def test_dyld_looks_in_the_trie_and_so_do_we() -> None:
    """A symbol table that promises an entry point does not help a slice whose trie is empty."""
    names = b"\0_PyInit_spam\0"
    entry = struct.pack("<IBBHQ", 1, 0x0F, 1, 0, 64)
    start = 32 + 24 + 16
    table = command(LC_SYMTAB, start + 2, 1, start + 18, len(names))
    empty = command(LC_EXPORTS_TRIE, start, 2)
    assert not read(thin(table, empty, tail=b"\0\0" + entry + names)).exports
    none = command(LC_EXPORTS_TRIE, 0, 0)
    assert read(thin(table, none, tail=b"\0\0" + entry + names)).exports == {"PyInit_spam"}


def test_two_tries_are_refused() -> None:
    both = command(LC_EXPORTS_TRIE, 96, 2), command(LC_DYLD_INFO_ONLY, *[0] * 8, 96, 2)
    with pytest.raises(BinaryError, match="two export tries"):
        read_macho(thin(*both, tail=bytes(16)))


@pytest.mark.parametrize(
    "trie",
    [
        node((b"a", 0)),
        node((b"", 0)),
        node((b"a", 8)).ljust(8, b"\0") + node((b"b", 0)),
        node((b"a", 16), (b"b", 16)).ljust(16, b"\0") + LEAF,
    ],
    ids=["self", "self-by-an-empty-edge", "cycle", "two-parents"],
)
def test_a_trie_that_comes_back_is_refused(trie: bytes) -> None:
    with pytest.raises(BinaryError, match="reached twice"):
        read_macho(exporting(trie))


@pytest.mark.parametrize(
    "trie",
    [
        node((b"a", 4000)),
        b"\x05\0\0",
        b"\0\x02a\0\x08",
        b"\0\x01abc",
        b"\xff\xff",
        b"\0",
    ],
    ids=["child-outside", "terminal-outside", "edge-missing", "name-open", "open-number", "short"],
)
def test_a_trie_that_leaves_its_bytes_is_refused(trie: bytes) -> None:
    with pytest.raises(BinaryError):
        read_macho(exporting(trie) + bytes(8192))


def test_a_trie_whose_names_grow_without_end_costs_too_much() -> None:
    """A chain of nodes, each with a long edge: the names together are the square of the file."""
    length, trie = 250, b""
    for place in range(1, 60):
        trie += node((b"n" * length, place * 260), terminal=b"\0\x10").ljust(260, b"\0")
    assert len(trie) < 16_383
    wide = exporting(trie + LEAF)
    with pytest.raises(BinaryError, match="more work"):
        read_macho(wide)
