"""A Windows module is linked to the Python that its tag names, and to nothing that Windows lacks.

Unlike elsewhere, a module for Windows names its interpreter's DLL: ``python313.dll``,
``python313t.dll`` (free-threaded), ``python3.dll`` (the stable ABI). Windows looks for it by that
name alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import PeFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.tag_edits import for_python
from builder.modules import extension_modules, imports, python_minor
from builder.wheel import Member, OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "windows-linkage"
TITLE: Final = "A Windows module is linked to the Python of its tag, and to no DLL that is missing"
_PYTHON: Final = re.compile(r"python3(?P<minor>\d{1,2})?(?P<flags>t?)(?P<debug>_d)?\.dll")
# The debug runtimes of Visual C++ may not be passed on, and those of MinGW come with no Windows.
_MISSING: Final = re.compile(
    r"(ucrtbased|(vcruntime|msvcp|msvcr|concrt|vcomp)\d+(_\w+)?d|mfc\d+u?d)\.dll"
    r"|lib(gcc_s\w*(-\w+)*|stdc\+\+|winpthread|gfortran|quadmath|gomp|ssp)-\d+\.dll"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Link:
    """A file that is loaded, and one DLL that it asks for (in lower case)."""

    member: Member
    file: PeFile
    dll: str


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """`tag`, the one version that an abi3 tag was built for, or nothing."""
    if not isinstance(parse_platform(tag.platform), WindowsPlatform):
        return holds(tag)
    links = list(_links(wheel, tag))
    if missing := [link for link in links if _MISSING.fullmatch(link.dll)]:
        return Ruling(tags=frozenset(), findings=tuple(_missing(link) for link in missing))
    other = [link for link in links if not _suits(link.dll, tag)]
    if not other:
        return holds(tag)
    better = _bound_to(tag, {link.dll for link in other})
    return Ruling(tags=better, findings=tuple(_other(link, tag, better) for link in other))


def _links(wheel: OpenedWheel, tag: Tag) -> Iterator[_Link]:
    """What the modules that `tag` imports, and the wheel's DLLs that they load, ask of others."""
    inside = {member.name.lower() for member, _ in wheel.pe}
    for member, file in _loaded(wheel, tag):
        for name in file.dependencies:
            if name.lower() not in inside:
                yield _Link(member=member, file=file, dll=name.lower())


def _loaded(wheel: OpenedWheel, tag: Tag) -> Iterator[tuple[Member, PeFile]]:
    importable = {m.member.path for m in extension_modules(wheel) if imports(tag, m.suffix)}
    modules = [(member, file) for member, file in wheel.pe if member.path in importable]
    asked = {name.lower() for _, file in modules for name in file.dependencies}
    yield from modules
    yield from ((m, f) for m, f in wheel.pe if m.name.lower() in asked)


def _suits(dll: str, tag: Tag) -> bool:
    """Whether every interpreter of `tag` brings `dll`; true of what is no Python at all."""
    found = _PYTHON.fullmatch(dll)
    if found is None or not tag.interpreter.startswith(("cp", "py")):
        return True
    flags = found["flags"] + ("d" if found["debug"] else "")
    if found["minor"] is None:
        return flags == _stable_flags(tag)
    if tag.abi == "none":
        return python_minor(tag.interpreter) in {None, int(found["minor"])}
    return tag.abi == f"cp3{found['minor']}{flags}"


def _stable_flags(tag: Tag) -> str:
    """What stands between ``python3`` and ``.dll`` for the stable ABI of `tag`."""
    found = re.fullmatch(r"cp3\d+(t?d?)", tag.abi)
    return found[1] if found else {"abi3t": "t"}.get(tag.abi, "")


def _bound_to(tag: Tag, dlls: set[str]) -> frozenset[Tag]:
    """What is left of an abi3 tag whose modules load the DLL of one version."""
    found = _PYTHON.fullmatch(next(iter(dlls))) if len(dlls) == 1 else None
    if tag.abi != "abi3" or found is None or found["minor"] is None or found["debug"]:
        return frozenset()
    if int(found["minor"]) < (python_minor(tag.interpreter) or 0):
        return frozenset()
    interpreter = f"cp3{found['minor']}"
    return frozenset({for_python(tag, interpreter, interpreter + found["flags"])})


def _missing(link: _Link) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=link.member.path,
        slice=link.file.arch,
        message=f"the file loads {link.dll}, which comes with no Windows and is not in the wheel",
        evidence={"library": link.dll, "dependencies": list(link.file.dependencies)[:50]},
        hint="build for release, or repair the wheel (delvewheel)",
    )


def _other(link: _Link, tag: Tag, better: frozenset[Tag]) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=link.member.path,
        slice=link.file.arch,
        message=f"the file loads {link.dll}, which is not the Python of `{tag}`",
        evidence={"library": link.dll, "claimed": str(tag), "holds": sorted(map(str, better))},
        hint=None if better else "build the module with the interpreter that the tag names",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
