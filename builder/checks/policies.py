"""What PEP 513 and its successors let a Linux wheel take from the system: auditwheel's tables.

The tables are read as data; auditwheel itself is not imported, which would take long.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from builder.binaries.image import ElfFile

GlibcVersion = tuple[int, int]

_MUSL_ARCH: Final = {"i686": "x86", "armv7l": "armv7"}
_LOADER: Final = re.compile(r"ld-linux[A-Za-z0-9_.-]*|ld64\.so\.[12]|ld-musl-[a-z0-9_]+\.so\.1")
_MUSL_LIBC: Final = re.compile(r"libc\.musl-[a-z0-9_]+\.so\.1|ld-musl-[a-z0-9_]+\.so\.1|libc\.so")
_LIBPYTHON: Final = re.compile(r"libpython\d+(\.\d+)?[a-z]*\.so[0-9.]*|libpypy\d[\w.-]*\.so[0-9.]*")
# The private symbols that the tables list for libc itself bear versions, which say the same; what
# is left of them are weak references (Rust's __cxa_thread_atexit_impl), which do no harm.
_VERSIONED_LIBC: Final = frozenset({"libc.so.6", "libm.so.6", "libpthread.so.0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One manylinux policy for one architecture.

    `libraries` are what every such system has; `symbols` maps a family (``GLIBCXX``) to its
    versions; `private` maps a library to symbols of it that must not be used.
    """

    version: GlibcVersion
    libraries: frozenset[str]
    symbols: Mapping[str, frozenset[str]]
    private: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that an ELF file asks of the system, and the first glibc policy that grants it.

    `floor` is None when none does.
    """

    library: str
    what: str
    floor: GlibcVersion | None


@cache
def glibc_policies(arch: str) -> tuple[Policy, ...]:
    """The manylinux policies for `arch`, oldest first; empty for an unknown architecture."""
    found = (_policy(row, arch) for row in _rows("manylinux") if arch in row["symbol_versions"])
    return tuple(sorted(found, key=lambda policy: policy.version))


@cache
def musl_libraries(arch: str) -> frozenset[str]:
    """The libraries that every musl system of `arch` has, musl's libc by both its names."""
    newest = _rows("musllinux")[-1]["lib_whitelist"]
    return frozenset(newest) | {f"libc.musl-{_MUSL_ARCH.get(arch, arch)}.so.1"}


def needs_of(file: ElfFile, inside: frozenset[str]) -> tuple[Need, ...]:
    """What `file` asks of libraries that are not `inside` the wheel."""
    policies = glibc_policies(file.arch)
    needs = [_library_need(file, name, policies) for name in file.needed if name not in inside]
    for library, versions in file.version_needs.items():
        if library not in inside:
            needs += [_version_need(library, version, policies) for version in sorted(versions)]
    return tuple(need for need in needs if need is not None)


def is_loader(name: str) -> bool:
    """Whether a needed library is the program loader, which is there wherever the libc is."""
    return _LOADER.fullmatch(name) is not None


def is_musl_libc(name: str) -> bool:
    """Whether a needed library is musl's libc, which is its loader, too."""
    return _MUSL_LIBC.fullmatch(name) is not None


def is_libpython(name: str) -> bool:
    """Whether a needed library is that of an interpreter."""
    return _LIBPYTHON.fullmatch(name) is not None


def uses_musl(file: ElfFile) -> bool:
    """Whether `file` is linked to musl. By what it needs: GLIBC_ versions alone say nothing.

    A musl libgcc_s refers to GLIBC_2.0 in honesty.
    """
    loader = (file.interpreter or "").rpartition("/")[2]
    return any(map(is_musl_libc, (*file.needed, loader)))


def uses_glibc(file: ElfFile) -> bool:
    """Whether `file` is linked to glibc."""
    loader = (file.interpreter or "").rpartition("/")[2]
    return "libc.so.6" in file.needed or bool(re.match(r"ld-linux|ld64", loader))


@cache
def _rows(family: str) -> list[dict[str, Any]]:
    spec = find_spec("auditwheel")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    folder = Path(spec.submodule_search_locations[0]) / "policy"
    rows = json.loads((folder / f"{family}-policy.json").read_text("utf-8"))
    return [row for row in rows if row["name"] != "linux"]


def _policy(row: dict[str, Any], arch: str) -> Policy:
    major, minor = row["name"].removeprefix("manylinux_").split("_")
    versions = row["symbol_versions"][arch]
    return Policy(
        version=(int(major), int(minor)),
        libraries=frozenset(row["lib_whitelist"]),
        symbols={family: frozenset(names) for family, names in versions.items()},
        private={library: frozenset(names) for library, names in row["blacklist"].items()},
    )


def _library_need(file: ElfFile, name: str, policies: tuple[Policy, ...]) -> Need | None:
    private_of_libc = name in _VERSIONED_LIBC
    for policy in policies:
        private = policy.private.get(name, frozenset()) & file.undefined
        private = frozenset() if private_of_libc else private
        if name in policy.libraries and not private:
            return Need(library=name, what=name, floor=policy.version)
    return None  # a library outside every policy is the business of elf-linkage


def _version_need(library: str, version: str, policies: tuple[Policy, ...]) -> Need | None:
    family, _, number = version.partition("_")
    if family == "GLIBC" and (found := re.fullmatch(r"(\d{1,4})\.(\d{1,4})(\.\d+)*", number)):
        return Need(library=library, what=version, floor=(int(found[1]), int(found[2])))
    known = [policy for policy in policies if family in policy.symbols]
    if not known:
        return None
    granted = (policy.version for policy in known if number in policy.symbols[family])
    return Need(library=library, what=version, floor=next(granted, None))
