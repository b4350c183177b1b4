"""What the readers give: records of a Mach-O file and its slices, of an ELF file, of a PE file.

Symbols are given as C sees them: a Mach-O name without its leading underscore.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

DependencyKind = Literal["load", "weak", "reexport", "upward", "lazy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependency:
    """One LC_LOAD_DYLIB (or weak, reexport, upward, lazy) command."""

    name: str
    kind: DependencyKind


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDirectory:
    """One CodeDirectory of a code signature, compared with the bytes that it is about.

    `hash` is ``sha1``, ``sha256``, ``sha256-truncated`` or ``sha384``, `page_size` in bytes.
    `wrong_pages` are numbers of pages (at most a hundred), `wrong_slots` names of other signed
    parts, whose hash is not the one that is stated.
    """

    hash: str
    identifier: str
    flags: int
    page_size: int
    pages: int
    wrong_pages: tuple[int, ...]
    wrong_slots: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeSignature:
    """The code signature of a slice; the CodeDirectory that the kernel goes by comes first.

    `by_key` tells one made with a key from an ad-hoc one. `fault` says why it is none that dyld
    would take, None for a well-formed one.
    """

    directories: tuple[CodeDirectory, ...]
    by_key: bool
    fault: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachSlice:
    """One architecture of a Mach-O file.

    `arch` is ``x86_64``, ``x86_64h``, ``arm64``, ``arm64e``, ``i386``, ``ppc``, ``ppc64``, or
    ``cpu-TYPE-SUBTYPE``. `filetype` is ``MH_BUNDLE``, ``MH_DYLIB`` … `platform` is ``macos``,
    ``ios``, ``maccatalyst``, ``iossimulator`` … or None where no load command says so, and then
    `minimum_os` (major, minor, patch) is None too. `offset` and `size` are bytes in the file.
    `weak` are the undefined symbols that may be missing, as the symbol table says.
    """

    arch: str
    offset: int
    size: int
    filetype: str
    platform: str | None
    minimum_os: tuple[int, int, int] | None
    install_name: str | None
    dependencies: tuple[Dependency, ...]
    rpaths: tuple[str, ...]
    exports: frozenset[str]
    undefined: frozenset[str]
    weak: frozenset[str]
    signed: bool
    signature: CodeSignature | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MachFile:
    """A Mach-O file: one slice when thin, one or more when fat."""

    fat: bool
    slices: tuple[MachSlice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ElfFile:
    """An ELF file.

    `arch` is in the words of platform tags: ``x86_64``, ``i686``, ``aarch64``, ``armv7l``,
    ``ppc64le``, ``s390x``, ``riscv64``, ``loongarch64``, or ``em-NUMBER``. `filetype` is
    ``ET_DYN``, ``ET_EXEC``, ``ET_REL`` … `version_needs` maps a needed library's name to the
    symbol versions asked of it (``GLIBC_2.17``). `interpreter` is PT_INTERP, the path of the
    program loader. `weak` are the undefined symbols that may be missing; `isa_needed` is the x86-64
    level that the file says it needs (``x86-64-v3``), None where it says nothing. `page_size` is
    the largest page, in bytes, on which it can be mapped (the least alignment of PT_LOAD; 0
    without any); `android_api` the API level in the note of Android's linker, None without one.
    """

    arch: str
    machine: int
    bits: Literal[32, 64]
    little_endian: bool
    filetype: str
    interpreter: str | None
    soname: str | None
    needed: tuple[str, ...]
    rpath: tuple[str, ...]
    runpath: tuple[str, ...]
    version_needs: Mapping[str, frozenset[str]]
    exports: frozenset[str]
    undefined: frozenset[str]
    weak: frozenset[str]
    isa_needed: str | None
    executable_stack: bool
    page_size: int
    android_api: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeFile:
    """A PE file: a DLL (a .pyd is one) or a program for Windows.

    `arch` is in the words of `store.tags.WindowsPlatform`: ``x86``, ``amd64``, ``arm64``; or
    ``arm64ec`` (code for ARM that emulated amd64 programs load), ``arm``, ``machine-0xNNNN``.
    `dependencies` are the DLLs that the loader opens, `delayed` those that are opened on first use;
    names as they stand, whatever their case. `undefined` are imported symbols; one that is asked
    for by number is ``DLL#NUMBER``. `managed` is true of a .NET assembly.
    """

    arch: str
    machine: int
    bits: Literal[32, 64]
    filetype: Literal["DLL", "EXE"]
    dependencies: tuple[str, ...]
    delayed: tuple[str, ...]
    exports: frozenset[str]
    undefined: frozenset[str]
    managed: bool


Binary = MachFile | ElfFile | PeFile
