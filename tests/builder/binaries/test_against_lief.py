"""Our readers against lief, field by field, over every binary at hand.

lief is the judge, with a table of names of its own here; it is never the engine.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lief
import pytest

from builder.binaries.image import ElfFile, MachFile, MachSlice, PeFile
from builder.binaries.read import looks_like_binary, read_binary

# Unknown CPUs and damaged side tables are told on stderr, file after file.
lief.logging.disable()

LARGEST = 12_000_000
"""Bytes of a file that lief is asked about; it takes a second for 10 MB of symbols."""
MOST_OF_A_FOLDER = 150

MACH_ARCHES = {
    (7, 3): "i386",
    (16777223, 3): "x86_64",
    (16777223, 8): "x86_64h",
    (16777228, 0): "arm64",
    (16777228, 2): "arm64e",
}
MACH_FILETYPES = {"OBJECT": "MH_OBJECT", "DYLIB": "MH_DYLIB", "BUNDLE": "MH_BUNDLE"}
MACH_FILETYPES["EXECUTE"] = "MH_EXECUTE"
MACH_PLATFORMS = {"MACOS": "macos", "IOS": "ios", "MAC_CATALYST": "maccatalyst"}
MACH_PLATFORMS |= {"IOS_SIMULATOR": "iossimulator"}
DYLIB_KINDS = {
    "LOAD_DYLIB": "load",
    "LOAD_WEAK_DYLIB": "weak",
    "REEXPORT_DYLIB": "reexport",
    "LOAD_UPWARD_DYLIB": "upward",
    "LAZY_LOAD_DYLIB": "lazy",
}
ELF_ARCHES = {
    (3, 32): "i686",
    (21, 64): "ppc64le",
    (22, 64): "s390x",
    (40, 32): "armv7l",
    (62, 64): "x86_64",
    (183, 64): "aarch64",
    (243, 64): "riscv64",
}
EM_X86_64 = 62
EM_RISCV = 243
PE_ARCHES = {"I386": "x86", "AMD64": "amd64", "ARM64": "arm64", "ARMNT": "arm"}
PE_DLL = lief.PE.Header.CHARACTERISTICS.DLL
PE_CLR = lief.PE.DataDirectory.TYPES.CLR_RUNTIME_HEADER
ISA_LEVELS = ["BASELINE", "V2", "V3", "V4"]


def enum_name(value: object) -> str:
    return str(value).rpartition(".")[2]


def lief_slice(binary: Any) -> dict[str, object]:
    header = binary.header
    cpu = (int(header.cpu_type.value), header.cpu_subtype & 0xFFFFFF)
    names = [(enum_name(library.command), library.name) for library in binary.libraries]
    return {
        "arch": MACH_ARCHES[cpu],
        "offset": binary.fat_offset,
        "filetype": MACH_FILETYPES[enum_name(header.file_type)],
        "minimum": lief_minimum(binary),
        "install_name": next((name for kind, name in names if kind == "ID_DYLIB"), None),
        "dependencies": [(name, DYLIB_KINDS[kind]) for kind, name in names if kind in DYLIB_KINDS],
        "rpaths": [str(command.path) for command in binary.rpaths],
        "exports": lief_exports(binary),
        "undefined": {
            str(symbol.name).removeprefix("_")
            for symbol in binary.symbols
            if symbol.origin == lief.MachO.Symbol.ORIGIN.SYMTAB
            and symbol.raw_type == 1
            and not (symbol.value and enum_name(header.file_type) == "OBJECT")
        },
        "weak": {
            str(symbol.name).removeprefix("_")
            for symbol in binary.symbols
            if symbol.origin == lief.MachO.Symbol.ORIGIN.SYMTAB
            and symbol.raw_type == 1
            and symbol.description & 0x40  # N_WEAK_REF
        },
        "signed": binary.has_code_signature and binary.code_signature.data_size > 0,
    }


def lief_minimum(binary: Any) -> tuple[str | None, tuple[int, ...] | None]:
    if binary.has_build_version:
        build = binary.build_version
        return MACH_PLATFORMS[enum_name(build.platform)], tuple(build.minos)
    if binary.has_version_min:
        return "macos", tuple(binary.version_min.version)
    return None, None


def lief_exports(binary: Any) -> set[str]:
    if binary.has_dyld_exports_trie:
        names = {str(export.symbol.name) for export in binary.dyld_exports_trie.exports}
    elif binary.has_dyld_info and binary.dyld_info.export_info[0]:
        names = {str(export.symbol.name) for export in binary.dyld_info.exports}
    else:
        defined = (s for s in binary.symbols if s.raw_type == 15 or (s.raw_type == 1 and s.value))
        names = {str(symbol.name) for symbol in defined}
    return {name[1:] for name in names if name.startswith("_")}


def our_slice(slice_: MachSlice) -> dict[str, object]:
    return {
        "arch": slice_.arch,
        "offset": slice_.offset,
        "filetype": slice_.filetype,
        "minimum": (slice_.platform, slice_.minimum_os),
        "install_name": slice_.install_name,
        "dependencies": [(one.name, one.kind) for one in slice_.dependencies],
        "rpaths": list(slice_.rpaths),
        "exports": slice_.exports,
        "undefined": slice_.undefined,
        "weak": slice_.weak,
        "signed": slice_.signed,
    }


def lief_elf(binary: Any) -> dict[str, object]:
    header = binary.header
    bits = 64 if header.identity_class == lief.ELF.Header.CLASS.ELF64 else 32
    machine = int(header.machine_type.value) & 0xFFFF
    texts = lief_dynamic_texts(binary)
    is_object = enum_name(header.file_type) == "REL"
    symbols = list(binary.symtab_symbols if is_object else binary.dynamic_symbols)
    loaded = bool(list(binary.segments))
    return {
        "arch": ELF_ARCHES[machine, bits],
        "little_endian": enum_name(header.identity_data) == "LSB",
        "filetype": f"ET_{enum_name(header.file_type)}",
        "interpreter": binary.interpreter if binary.has_interpreter else None,
        "soname": next(iter(texts["SONAME"]), None),
        "needed": texts["NEEDED"],
        "rpath": [part for text in texts["RPATH"] for part in text.split(":")],
        "runpath": [part for text in texts["RUNPATH"] for part in text.split(":")],
        "version_needs": {
            need.name: {version.name for version in need.get_auxiliary_symbols()}
            for need in binary.symbols_version_requirement
        },
        "exports": {s.name for s in symbols if is_visible(s) and s.shndx},
        "undefined": {s.name for s in symbols if is_global(s) and not s.shndx},
        "weak": {s.name for s in symbols if is_weak(s) and not s.shndx},
        "isa_needed": lief_isa_needed(binary) if machine == EM_X86_64 else None,
        "executable_stack": loaded and not binary.has_nx and machine != EM_RISCV,
    }


def lief_dynamic_texts(binary: Any) -> dict[str, list[str]]:
    texts: dict[str, list[str]] = {"NEEDED": [], "SONAME": [], "RPATH": [], "RUNPATH": []}
    for entry in binary.dynamic_entries:
        if (tag := enum_name(entry.tag)) in texts:
            texts[tag].append(
                entry.name if tag in {"NEEDED", "SONAME"} else getattr(entry, tag.lower())
            )
    return texts


def is_global(symbol: Any) -> bool:
    kinds = {"SECTION", "FILE"}
    local = enum_name(symbol.binding) == "LOCAL"
    return bool(symbol.name) and not local and enum_name(symbol.type) not in kinds


def is_weak(symbol: Any) -> bool:
    return is_global(symbol) and enum_name(symbol.binding) == "WEAK"


def lief_isa_needed(binary: Any) -> str | None:
    found: list[str] = []
    for note in binary.notes:
        for prop in getattr(note, "properties", []):
            if enum_name(prop.type) == "X86_ISA":
                found += [
                    enum_name(isa) for flag, isa in prop.values if enum_name(flag) == "NEEDED"
                ]
    level = max(found, key=ISA_LEVELS.index, default=None)
    return level and f"x86-64-{level.lower()}"


def is_visible(symbol: Any) -> bool:
    return is_global(symbol) and symbol.other & 3 in {0, 3}  # STV_DEFAULT, STV_PROTECTED


def our_elf(file: ElfFile) -> dict[str, object]:
    same = ("arch", "little_endian", "filetype", "interpreter", "soname", "version_needs")
    return {name: getattr(file, name) for name in same} | {
        "needed": list(file.needed),
        "rpath": list(file.rpath),
        "runpath": list(file.runpath),
        "exports": file.exports,
        "undefined": file.undefined,
        "weak": file.weak,
        "isa_needed": file.isa_needed,
        "executable_stack": file.executable_stack,
    }


def lief_pe(binary: Any) -> dict[str, object]:
    delayed = list(binary.delay_imports)
    names = binary.get_export().entries if binary.has_exports else []
    return {
        "arch": PE_ARCHES[enum_name(binary.header.machine)],
        "filetype": "DLL" if binary.header.has_characteristic(PE_DLL) else "EXE",
        "dependencies": [one.name for one in binary.imports],
        "delayed": [one.name for one in delayed],
        "exports": {entry.name for entry in names if entry.name},
        "undefined": {
            f"{one.name}#{entry.ordinal}" if entry.is_ordinal else entry.name
            for one in [*binary.imports, *delayed]
            for entry in one.entries
        },
        "managed": binary.data_directory(PE_CLR).size > 0,
    }


def our_pe(file: PeFile) -> dict[str, object]:
    same = ("arch", "filetype", "exports", "undefined", "managed")
    return {name: getattr(file, name) for name in same} | {
        "dependencies": list(file.dependencies),
        "delayed": list(file.delayed),
    }


def compare(name: str, data: bytes) -> None:
    """Fail on the first field in which the two readers differ."""
    ours = read_binary(data)
    if isinstance(ours, MachFile):
        fat = lief.MachO.parse(list(data))
        assert fat is not None, name
        theirs = [lief_slice(fat.at(place)) for place in range(fat.size)]
        assert len(theirs) == len(ours.slices), name
        pairs = [(our_slice(s), t) for s, t in zip(ours.slices, theirs, strict=True)]
    elif isinstance(ours, PeFile):
        pairs = [(our_pe(ours), lief_pe(lief.PE.parse(list(data))))]
    else:
        assert isinstance(ours, ElfFile), name
        pairs = [(our_elf(ours), lief_elf(lief.ELF.parse(list(data))))]
    for mine, judged in pairs:
        for field, value in judged.items():
            assert mine[field] == value, f"{name}: {field}"


def binaries_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < LARGEST:
            with path.open("rb") as file:
                if looks_like_binary(file.read(8)):
                    yield path


def test_everything_that_a_linker_made_for_these_tests(binaries: dict[str, bytes]) -> None:
    for name, data in binaries.items():
        compare(name, data)


def test_the_running_interpreter_and_its_extension_modules() -> None:
    compare(sys.executable, Path(sys.executable).resolve().read_bytes())
    modules = list(binaries_in(Path(sysconfig.get_path("stdlib")) / "lib-dynload"))
    assert modules
    for path in modules:
        compare(str(path), path.read_bytes())


@pytest.mark.slow
def test_the_extension_modules_of_site_packages() -> None:
    paths = list(binaries_in(Path(sysconfig.get_path("platlib"))))
    assert paths
    every = max(1, len(paths) // MOST_OF_A_FOLDER)
    for path in paths[::every]:
        compare(str(path), path.read_bytes())


WHEELS = {
    "charset-normalizer==3.5.2 macosx_10_9_universal2": (
        "3d21b8b13c7592db2ac5e544a6d83187b995257472b0c9e8351b6d507ae37ed6"
    ),
    "markupsafe==3.0.4 macosx_11_0_arm64": (
        "7d3391b2188d18737cb2fa147028b1096236eaa7e156446c650a489fa2cadc91"
    ),
    "markupsafe==3.0.4 manylinux2014_ppc64le": (
        "71f88e749ea29f67f21f3b36433c1dc54c7729ed2a6d9e2da2e0d9e0d7b224eb"
    ),
    "markupsafe==3.0.4 musllinux_1_2_aarch64": (
        "4a7cdc2a420ca01058182da4253329764d4bfa055564d1eced90e6ba1e8b1d3d"
    ),
    "markupsafe==3.0.4 musllinux_1_2_armv7l": (
        "83b3944fea42a8400edf92fd1770fb8d0d4f7de651353bd2d8525a92dba69a21"
    ),
    "pyyaml==6.0.3 manylinux2014_s390x": (
        "850774a7879607d3a6f50d36d04f00ee69e7fc816450e5f7e58d7f17f1ae5c00"
    ),
    "cryptography==48.0.1 macosx_10_9_universal2": (
        "3e4a1a3232eef2e6c732827d5722db29a0cc8b27af2a4d865b094cf954be9ca1"
    ),
    "pillow==13.0.0 macosx_10_13_x86_64": (
        "67c8d44ad89fa7eb88de5d6ef6199b1e03dd24974f85a67639fc8badb801fe79"
    ),
}
"""Requirement and platform -> SHA-256 of a real wheel."""


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("wanted", WHEELS)
def test_real_wheels_of_other_machines(wanted: str, tmp_path: Path) -> None:
    requirement, platform = wanted.split()
    (tmp_path / "wanted.txt").write_text(f"{requirement} --hash=sha256:{WHEELS[wanted]}\n")
    python = "312" if requirement.startswith("pillow") else "311"
    options = ["--no-deps", "--only-binary=:all:", "--platform", platform, "--python-version"]
    command = [sys.executable, "-m", "pip", "download", "-q", *options, python, "-r", "wanted.txt"]
    subprocess.run([*command, "--require-hashes"], cwd=tmp_path, check=True, timeout=300)
    compared = 0
    for path in tmp_path.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            for name in wheel.namelist():
                data = wheel.read(name)
                if looks_like_binary(data[:8]):
                    compare(name, data)
                    compared += 1
    assert compared
