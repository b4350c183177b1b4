"""A file for Android asks for libraries that Android, its Python or the wheel has.

An extension module there is linked to its interpreter (PEP 738): the loader keeps the symbols of
one library from another that does not name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.libraries import needed_outside
from builder.modules import extension_modules, python_minor
from builder.wheel import Member, OpenedWheel
from store.tags import AndroidPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "android-linkage"
TITLE: Final = "An Android file is linked to its Python, and to what every Android has"
_LIBPYTHON: Final = re.compile(r"libpython3(?:\.(\d{1,2}))?(t?)\.so")
# What CPython's own packages for Android bring beside libpython.
_OF_PYTHON: Final = re.compile(r"lib(crypto|ssl|sqlite3)_python\.so")
# The stable libraries of the NDK, and the API level since which each is there.
_SINCE: Final = {
    **dict.fromkeys(("libandroid.so", "libc.so", "libdl.so", "liblog.so", "libm.so", "libz.so"), 0),
    **dict.fromkeys(("libstdc++.so", "libjnigraphics.so", "libEGL.so", "libGLESv1_CM.so"), 0),
    **dict.fromkeys(("libGLESv2.so", "libOpenSLES.so", "libOpenMAXAL.so"), 0),
    **dict.fromkeys(("libGLESv3.so", "libmediandk.so"), 21),
    **dict.fromkeys(("libcamera2ndk.so", "libvulkan.so"), 24),
    **dict.fromkeys(("libaaudio.so", "libnativewindow.so", "libsync.so"), 26),
    "libneuralnetworks.so": 27,
    "libamidi.so": 29,
    "libbinder_ndk.so": 29,
    "libicu.so": 31,
    "libnativehelper.so": 31,
}


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag`, or nothing when a library is missing, another Python's, or not asked for."""
    platform = parse_platform(tag.platform)
    if not isinstance(platform, AndroidPlatform):
        return holds(tag)
    missing = [
        _missing(member, file, name, tag)
        for member, file in wheel.elf
        for name in needed_outside(wheel, file)
        if not _is_there(name, platform, tag, context)
    ]
    unlinked = [_unlinked(member, file, tag) for member, file in _without_python(wheel)]
    bad = (*missing, *unlinked)
    return Ruling(tags=frozenset(), findings=bad) if bad else holds(tag)


def _is_there(name: str, platform: AndroidPlatform, tag: Tag, context: Context) -> bool:
    if python := _LIBPYTHON.fullmatch(name):
        return _is_own(python, tag)
    if name in context.external_libraries or _OF_PYTHON.fullmatch(name):
        return True
    return _SINCE.get(name, platform.api + 1) <= platform.api


def _is_own(python: re.Match[str], tag: Tag) -> bool:
    """Whether each interpreter of `tag` brings this libpython; libpython3.so is for abi3."""
    if python[1] is None:
        return not python[2] and not tag.abi.endswith("t")
    if int(python[1]) != python_minor(tag.interpreter) or tag.abi in {"abi3", "abi3t"}:
        return False
    return tag.abi == "none" or tag.abi.endswith("t") == bool(python[2])


def _without_python(wheel: OpenedWheel) -> Iterator[tuple[Member, ElfFile]]:
    """The modules that use Python's symbols, and name no libpython themselves or by a library."""
    brought = {file.soname or member.name: file for member, file in wheel.elf}
    for module in extension_modules(wheel):
        file = module.member.binary
        if isinstance(file, ElfFile) and _uses_python(file) and not _reaches_python(file, brought):
            yield module.member, file


def _uses_python(file: ElfFile) -> bool:
    return any(symbol.startswith(("Py", "_Py")) for symbol in file.undefined)


def _reaches_python(file: ElfFile, brought: dict[str, ElfFile]) -> bool:
    seen, todo = set[str](), list(file.needed)
    while todo:
        name = todo.pop()
        if _LIBPYTHON.fullmatch(name):
            return True
        if name in brought and name not in seen:
            seen.add(name)
            todo += brought[name].needed
    return False


def _missing(member: Member, file: ElfFile, name: str, tag: Tag) -> Finding:
    python = _LIBPYTHON.fullmatch(name)
    what = f"which is not the Python of `{tag}`" if python else "which not every such Android has"
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message=f"the file needs {name}, {what}",
        evidence={"library": name, "claimed": str(tag), "needed": list(file.needed)[:50]},
        hint="build with the NDK for the tag's Python, and vendor what Android lacks",
    )


def _unlinked(member: Member, file: ElfFile, tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=member.path,
        slice=file.arch,
        message="the module uses Python's symbols and is not linked to libpython",
        evidence={"needed": list(file.needed)[:50], "claimed": str(tag)},
        hint="on Android an extension module links libpython3.x.so (PEP 738)",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
