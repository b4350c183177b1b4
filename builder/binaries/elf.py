"""ELF files: header, segments and sections, and what the dynamic loader would read of them.

The layout is that of the System V gABI, chapters 4 and 5. Where segments and sections differ, the
segments are believed, since the loader never looks at sections.
"""

from __future__ import annotations

from typing import Any, Final

from builder.binaries.cursor import ByteOrder, Region, region_of
from builder.binaries.elf_dynamic import Dynamic, read_dynamic
from builder.binaries.elf_layout import (
    PT_LOAD,
    Layout,
    Section,
    Segment,
    check_sections,
    check_segments,
    read_sections,
    read_segments,
)
from builder.binaries.elf_notes import read_android_api
from builder.binaries.elf_property import read_isa_needed
from builder.binaries.elf_symbols import Symbols, read_dynamic_symbols, read_object_symbols
from builder.binaries.image import ElfFile

ELF_MAGIC: Final = b"\x7fELF"

_ET_REL: Final = 1
_FILETYPES: Final = {0: "ET_NONE", 1: "ET_REL", 2: "ET_EXEC", 3: "ET_DYN", 4: "ET_CORE"}
_EM_ARM: Final = 40
_ARCHES: Final[dict[int, dict[tuple[int, ByteOrder], str]]] = {
    3: {(32, "<"): "i686"},
    21: {(64, "<"): "ppc64le", (64, ">"): "ppc64"},
    22: {(64, ">"): "s390x"},
    62: {(64, "<"): "x86_64"},
    183: {(64, "<"): "aarch64"},
    243: {(64, "<"): "riscv64"},
    258: {(64, "<"): "loongarch64"},
}
"""e_machine -> (class, byte order) -> the word of platform tags."""
_NO_EXECUTABLE_DEFAULT: Final = frozenset({"riscv64", "loongarch64"})
_PT_INTERP: Final = 3
_PT_GNU_STACK: Final = 0x6474E551
_PF_X: Final = 1


def read_elf(data: bytes | memoryview) -> ElfFile:
    """What an ELF file holds. `data` starts with the ELF magic. Raises BinaryError."""
    layout = _read_layout(data)
    segments, sections = read_segments(layout), read_sections(layout)
    check_segments(layout, segments)
    check_sections(layout, sections)
    dynamic = read_dynamic(layout, segments)
    symbols = _read_symbols(layout, sections, dynamic)
    arch = _arch(layout)
    return ElfFile(
        arch=arch,
        machine=layout.machine,
        bits=layout.bits,
        little_endian=layout.file.order == "<",
        filetype=_FILETYPES.get(layout.filetype, f"ET_{layout.filetype}"),
        interpreter=_interpreter(layout, segments),
        soname=dynamic.soname,
        needed=dynamic.needed,
        rpath=dynamic.rpath,
        runpath=dynamic.runpath,
        version_needs=dynamic.version_needs,
        exports=symbols.exports,
        undefined=symbols.undefined,
        weak=symbols.weak,
        isa_needed=read_isa_needed(layout, segments),
        executable_stack=_executable_stack(arch, segments),
        page_size=min((s.align for s in segments if s.kind == PT_LOAD), default=0),
        android_api=read_android_api(layout, segments),
    )


def _read_layout(data: bytes | memoryview) -> Layout:
    file = region_of(data, "<")
    bits, order = _read_ident(file)
    file = Region(view=file.view, base=0, order=order, budget=file.budget)
    fields: tuple[Any, ...] = file.unpack(
        "HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH", 16, "the ELF header"
    )
    filetype, machine, _, _, phoff, shoff, flags, _, phentsize, phnum, shentsize, shnum, _ = fields
    return Layout(
        file=file,
        bits=64 if bits == 64 else 32,
        filetype=filetype,
        machine=machine,
        flags=flags,
        segments_offset=phoff,
        segment_size=phentsize,
        segment_count=phnum,
        sections_offset=shoff,
        section_size=shentsize,
        section_count=shnum,
    )


def _read_ident(file: Region) -> tuple[int, ByteOrder]:
    kind, data, version = file.unpack("BBB", 4, "the ELF identification")
    if kind not in {1, 2} or data not in {1, 2} or version != 1:
        raise file.error(f"an ELF file of class {kind}, byte order {data}, version {version}", 4)
    return 32 * kind, "<" if data == 1 else ">"


def _arch(layout: Layout) -> str:
    if layout.machine == _EM_ARM:
        return _arm_arch(layout)
    known = _ARCHES.get(layout.machine)
    if known is None:
        return f"em-{layout.machine}"
    odd = f"em-{layout.machine}-{layout.bits}{'be' if layout.file.order == '>' else ''}"
    return known.get((layout.bits, layout.file.order), odd)


def _arm_arch(layout: Layout) -> str:
    """By e_flags (ELF for the Arm Architecture, 5.2): EABI 5, and how floats are passed.

    An object file does not say how floats are passed: it is plain ``em-40``.
    """
    if layout.bits != 32 or layout.file.order != "<" or layout.flags >> 24 != 5:
        return "em-40"
    if layout.flags & 0x400:
        return "armv7l"
    return "armv5tel" if layout.flags & 0x200 else "em-40"


def _read_symbols(layout: Layout, sections: tuple[Section, ...], dynamic: Dynamic) -> Symbols:
    if layout.filetype == _ET_REL:
        return read_object_symbols(layout, sections)
    return read_dynamic_symbols(layout, sections, dynamic)


def _interpreter(layout: Layout, segments: tuple[Segment, ...]) -> str | None:
    for segment in segments:
        if segment.kind == _PT_INTERP:
            place = layout.file.part(segment.offset, segment.file_size, "PT_INTERP")
            return place.text(0, "PT_INTERP")
    return None


def _executable_stack(arch: str, segments: tuple[Segment, ...]) -> bool:
    """Whether a loader makes the stack executable for it.

    A file without PT_GNU_STACK gets its ABI's default, and that is executable on most.
    """
    if not segments:
        return False
    flags = [segment.flags for segment in segments if segment.kind == _PT_GNU_STACK]
    if not flags:
        return arch not in _NO_EXECUTABLE_DEFAULT
    return bool(flags[-1] & _PF_X)
