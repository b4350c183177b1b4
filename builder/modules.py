"""Extension modules in a wheel: which files the import system would pick up, and as what.

The suffixes are those of ``_imp.extension_suffixes()`` of CPython and PyPy; the names of entry
points are those of PEP 489 (``PyInit_``, ``PyInitU_``) and PEP 793 (``PyModExport_``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

from packaging.tags import Tag

from builder.binaries.image import Binary, MachFile
from builder.wheel import Member, OpenedWheel
from store.tags import (
    AndroidPlatform,
    AnyPlatform,
    GlibcPlatform,
    IosPlatform,
    LinuxPlatform,
    MacPlatform,
    MuslPlatform,
    Platform,
    WindowsPlatform,
    parse_platform,
)

SuffixKind = Literal["versioned", "abi3", "abi3t", "plain"]

_SUFFIXES: Final = (
    re.compile(
        r"\.cpython-(?P<python>3\d{1,2})(?P<flags>[a-z]*)"
        r"(-(?P<arch>[a-z0-9_]+)-(?P<system>linux-[a-z0-9]+)|-(?P<apple>[a-z]+))?\.so"
    ),
    re.compile(
        r"\.pypy(?P<python>3\d{1,2})-(?P<pp>pp\d+)"
        r"(-(?P<arch>[a-z0-9_]+)-(?P<system>linux-[a-z0-9]+)|-(?P<apple>darwin))?\.so"
    ),
    re.compile(
        r"\.cp(?P<python>3\d{1,2})(?P<flags>[a-z]*)-(?P<windows>win32|win_(amd|arm)64)\.pyd"
    ),
    re.compile(r"\.pypy(?P<python>3\d{1,2})-(?P<pp>pp\d+)-(?P<windows>win32|win_(amd|arm)64)\.pyd"),
    # CPython 3.15 put the platform into these too (python/cpython issue 122931).
    re.compile(
        r"\.(?P<stable>abi3t?)"
        r"(-(?P<arch>[a-z0-9_]+)-(?P<system>linux-[a-z0-9]+)|-(?P<apple>[a-z]+))\.so"
    ),
)
_FREE: Final[Mapping[str, SuffixKind]] = {
    ".abi3.so": "abi3",
    ".abi3t.so": "abi3t",
    ".so": "plain",
    ".pyd": "plain",
}
_ARCH_WORDS: Final = {
    "i386": "i686",
    "arm": "armv7l",
    "powerpc64le": "ppc64le",
    "powerpc64": "ppc64",
}
# PEP 803, and the platform in the suffix of a stable ABI.
_FIRST_ABI3T: Final = 15
# CPython wrote -linux-gnu on musl too, until 3.10 (python/cpython issue 87278).
_FIRST_MUSL_SUFFIX: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Suffix:
    """What a file's suffix says of the interpreter that would import it.

    `interpreter` and `abi` are tags (``cp312``, ``cp313t``), None where any will do. `system` is
    ``darwin``, ``linux-gnu``, ``linux-musl``, ``windows`` …, None where it is not said. `since` is
    the first 3.x that knows such a suffix, where that matters.
    """

    text: str
    kind: SuffixKind
    interpreter: str | None = None
    abi: str | None = None
    system: str | None = None
    arch: str | None = None
    since: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleFile:
    """A member that the import system would take for the module `dotted`."""

    member: Member
    dotted: str
    suffix: Suffix

    @property
    def entry_points(self) -> frozenset[str]:
        """The symbols, any of which makes the file importable under its name."""
        parts = self.dotted.split(".")
        name = parts[-2] if parts[-1] == "__init__" and len(parts) > 1 else parts[-1]
        if name.isascii():
            return frozenset({f"PyInit_{name}", f"PyModExport_{name}"})
        ending = name.encode("punycode").decode("ascii").replace("-", "_")
        return frozenset({f"PyInitU_{ending}", f"PyModExportU_{ending}"})

    @property
    def importable_name(self) -> str:
        """The dotted name that Python code writes: without a final ``__init__``."""
        return self.dotted.removesuffix(".__init__")

    @property
    def has_entry(self) -> bool:
        """Whether at least one slice exports an entry point under the file's name."""
        binary = self.member.binary
        return binary is not None and any(
            self.entry_points & exports for _, exports in exports_of(binary)
        )


@lru_cache(maxsize=4096)
def parse_suffix(text: str) -> Suffix | None:
    """What the suffix of an extension module says; None when nothing imports such a file."""
    if text in _FREE:
        return Suffix(
            text=text,
            kind=_FREE[text],
            system="windows" if text == ".pyd" else None,
            since=_FIRST_ABI3T if text == ".abi3t.so" else 0,
        )
    for pattern in _SUFFIXES:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            return _stable(text, parts) if "stable" in parts else _versioned(text, parts)
    return None


def module_files(wheel: OpenedWheel) -> Iterator[ModuleFile]:
    """Every member whose path the import system would take for an extension module."""
    for member in wheel.module_like:
        if module := _module_file(member):
            yield module


def extension_modules(wheel: OpenedWheel) -> tuple[ModuleFile, ...]:
    """The module files that are binaries with an entry point under their own name."""
    return tuple(module for module in module_files(wheel) if module.has_entry)


def exports_of(binary: Binary) -> Iterator[tuple[str, frozenset[str]]]:
    """Architecture and exported symbols of each slice."""
    if isinstance(binary, MachFile):
        yield from ((part.arch, part.exports) for part in binary.slices)
    else:
        yield binary.arch, binary.exports


def imports(tag: Tag, suffix: Suffix) -> bool:
    """Whether every interpreter that takes a wheel of `tag` picks up a file of `suffix`."""
    return _abi_agrees(tag, suffix) and _system_agrees(tag, suffix)


def python_minor(interpreter: str) -> int | None:
    """The minor version in ``cp311``, ``py311`` or ``pp311``; None for ``py3``."""
    found = re.fullmatch(r"[a-z]+3(\d{1,2})", interpreter)
    return int(found[1]) if found else None


def _versioned(text: str, found: Mapping[str, str | None]) -> Suffix:
    python, flags = found["python"], found.get("flags") or ""
    pypy = found.get("pp")
    windows = found.get("windows")
    return Suffix(
        text=text,
        kind="versioned",
        interpreter=f"pp{python}" if pypy else f"cp{python}",
        abi=f"pypy{python}_{pypy}" if pypy else f"cp{python}{flags}",
        system="windows" if windows else _libc_of(found.get("system")) or found.get("apple"),
        arch=_arch_of(found.get("arch"), windows),
    )


def _arch_of(arch: str | None, windows: str | None) -> str | None:
    """The architecture in a suffix; on Windows it is said by the platform tag itself."""
    if windows:
        return next(iter(parse_platform(windows).archs), None)
    return _ARCH_WORDS.get(arch, arch) if arch else None


def _stable(text: str, found: Mapping[str, str | None]) -> Suffix:
    return Suffix(
        text=text,
        kind="abi3t" if found["stable"] == "abi3t" else "abi3",
        system=_libc_of(found["system"]) or found["apple"],
        arch=_arch_of(found["arch"], None),
        since=_FIRST_ABI3T,
    )


def _libc_of(system: str | None) -> str | None:
    """``linux-gnu`` of ``linux-gnueabihf``: the rest is the architecture's, not the libc's."""
    return re.sub(r"^(linux-(gnu|musl|android)).*$", r"\1", system) if system else None


def _module_file(member: Member) -> ModuleFile | None:
    path = member.site_path
    if path is None:
        return None
    folder, _, name = path.rpartition("/")
    stem, dot, rest = name.partition(".")
    suffix = parse_suffix(dot + rest)
    parts = [*folder.split("/"), stem] if folder else [stem]
    if suffix is None or not all(part.isidentifier() for part in parts):
        return None
    return ModuleFile(member=member, dotted=".".join(parts), suffix=suffix)


def _abi_agrees(tag: Tag, suffix: Suffix) -> bool:
    if suffix.kind == "plain":
        return True
    if suffix.kind in {"abi3", "abi3t"}:
        return _stable_abi_agrees(tag, suffix)
    if tag.interpreter != suffix.interpreter:
        return False
    return tag.abi == suffix.abi or (tag.abi == "none" and names_one_abi(tag.interpreter))


def _stable_abi_agrees(tag: Tag, suffix: Suffix) -> bool:
    """A build with a GIL takes both stable ABIs, a free-threaded one abi3t alone (PEP 803).

    3.13t and 3.14t do look for ``.abi3.so``, and crash on what they find.
    """
    free_threaded = tag.abi == "abi3t" or re.fullmatch(r"cp3\d+td?", tag.abi) is not None
    free_threaded |= tag.abi == "none" and not names_one_abi(tag.interpreter)
    if not tag.interpreter.startswith("cp") or (python_minor(tag.interpreter) or 0) < suffix.since:
        return False
    return suffix.kind == "abi3t" or not free_threaded


def names_one_abi(interpreter: str) -> bool:
    """Whether an interpreter tag says its ABI: from 3.13 on, cp313 and cp313t share one."""
    minor = python_minor(interpreter)
    return interpreter.startswith("cp") and minor is not None and minor < 13


def _system_agrees(tag: Tag, suffix: Suffix) -> bool:
    if suffix.system is None:
        return True
    platform = parse_platform(tag.platform)
    if suffix.system not in _systems(platform, suffix):
        return False
    return suffix.arch is None or suffix.arch in platform.archs


def _systems(platform: Platform, suffix: Suffix) -> frozenset[str]:
    """The system words that interpreters on `platform` put into their suffix."""
    if isinstance(platform, MuslPlatform):
        old = (python_minor(suffix.interpreter or "") or 0) < _FIRST_MUSL_SUFFIX
        return frozenset({"linux-musl", "linux-gnu"} if old else {"linux-musl"})
    if isinstance(platform, IosPlatform):
        return frozenset({"iphonesimulator" if platform.simulator else "iphoneos"})
    for kind, words in _SYSTEM_WORDS.items():
        if isinstance(platform, kind):
            return words
    return frozenset()


_SYSTEM_WORDS: Final[Mapping[type, frozenset[str]]] = {
    MacPlatform: frozenset({"darwin"}),
    GlibcPlatform: frozenset({"linux-gnu"}),
    LinuxPlatform: frozenset({"linux-gnu", "linux-musl"}),
    WindowsPlatform: frozenset({"windows"}),
    AndroidPlatform: frozenset({"linux-android"}),
    AnyPlatform: frozenset(),
}
