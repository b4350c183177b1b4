"""Every extension module exports its entry point, in every slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import Binary, ElfFile, MachFile, PeFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.code_loads import named_by_code
from builder.checks.context import Context
from builder.checks.tag_edits import for_python, on_archs
from builder.modules import (
    ModuleFile,
    exports_of,
    extension_modules,
    imports,
    module_files,
    python_minor,
)
from builder.wheel import OpenedWheel
from store.tags import IosPlatform, MacPlatform, parse_platform
from store.verdict import Finding, Severity

CODE: Final = "entry-point"
TITLE: Final = "Every extension module exports its entry point in every slice"
_INIT: Final = ("PyInit_", "PyInitU_")
_FIRST_EXPORT_HOOK: Final = 15
_ENTRIES: Final = ("PyInit_", "PyInitU_", "PyModExport_", "PyModExportU_")


def find(wheel: OpenedWheel, _context: Context) -> Iterator[Finding]:
    """A finding for each file that imports take for a module and that exports no such module.

    A library that code loads by ctypes or cffi, or that another binary links, needs no entry
    point: that is no error. An entry point of another name always is.
    """
    silent = []
    for module in module_files(wheel):
        if module.has_entry or module.member.malformed:
            continue
        if module.member.binary is None:
            yield _no_binary(module)
        elif not _is_library(wheel, module):
            silent.append(module)
    yield from _judge_silent(wheel, silent)


def narrow(wheel: OpenedWheel, tag: Tag, _context: Context) -> Ruling:
    """The interpreters and the Apple architectures for which every module has its entry point.

    A fat file can hold a slice that is empty: the architecture is there, the module is not.
    ``PyModExport_`` is looked for from 3.15 on only (PEP 793).
    """
    if late := list(_without_init(wheel, tag)):
        stable = tag.abi in {"abi3", "abi3t"}
        raised = {for_python(tag, f"cp3{_FIRST_EXPORT_HOOK}", tag.abi)} if stable else set()
        findings = tuple(_too_late(module, tag) for module in late)
        return Ruling(tags=frozenset(raised), findings=findings)
    platform = parse_platform(tag.platform)
    if not isinstance(platform, MacPlatform | IosPlatform):
        return holds(tag)
    empty = [
        (module, arch)
        for module in extension_modules(wheel)
        if isinstance(module.member.binary, MachFile)
        for arch, exports in exports_of(module.member.binary)
        if arch in platform.archs and not module.entry_points & exports
    ]
    if not empty:
        return holds(tag)
    kept = platform.archs - {arch for _, arch in empty}
    findings = tuple(_missing(module, "error", {"found": []}, arch) for module, arch in empty)
    if isinstance(platform, IosPlatform):
        return Ruling(tags=frozenset(), findings=findings)
    return Ruling(tags=on_archs(tag, platform, kept), findings=findings)


def _without_init(wheel: OpenedWheel, tag: Tag) -> Iterator[ModuleFile]:
    """The modules that an interpreter of `tag` picks up and that only a later one can start."""
    minor = python_minor(tag.interpreter)
    if minor is None or minor >= _FIRST_EXPORT_HOOK:
        return
    for module in extension_modules(wheel):
        wanted = {name for name in module.entry_points if name.startswith(_INIT)}
        if imports(tag, module.suffix) and not wanted & _exports(module):
            yield module


def _too_late(module: ModuleFile, tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=module.member.path,
        message=f"the module starts by PyModExport_ alone, which `{tag}` does not look for",
        evidence={
            "claimed": str(tag),
            "expected": sorted(module.entry_points),
            "first": f"cp3{_FIRST_EXPORT_HOOK}",
        },
        hint="export PyInit_ as well, or tag the wheel for 3.15 and later",
    )


def _is_entry(symbol: str) -> bool:
    return symbol.startswith(_ENTRIES)


def _exports(module: ModuleFile) -> frozenset[str]:
    assert module.member.binary is not None
    return frozenset().union(*(exports for _, exports in exports_of(module.member.binary)))


def _is_library(wheel: OpenedWheel, module: ModuleFile) -> bool:
    """Whether a plain ``.so`` is a shared library by its name, or because a binary links it."""
    if module.suffix.kind != "plain":
        return False
    name = module.member.name
    return name.startswith("lib") or name.lower() in _linked_names(wheel)


def _linked_names(wheel: OpenedWheel) -> frozenset[str]:
    return frozenset(
        name.rpartition("/")[2].lower()
        for member in wheel.binaries
        for name in _links(member.binary)
    )


def _links(binary: Binary | None) -> Iterator[str]:
    if isinstance(binary, ElfFile):
        yield from binary.needed
    elif isinstance(binary, PeFile):
        yield from (*binary.dependencies, *binary.delayed)
    elif isinstance(binary, MachFile):
        for part in binary.slices:
            yield from (dependency.name for dependency in part.dependencies)


def _judge_silent(wheel: OpenedWheel, silent: list[ModuleFile]) -> Iterator[Finding]:
    """A finding for each file without its entry point; a note where code loads it otherwise."""
    loaded = _loaded_by_code(wheel, silent) if silent else frozenset()
    for module in silent:
        found = sorted(filter(_is_entry, _exports(module)))
        note = module.member.path in loaded and not found
        yield _missing(module, "note" if note else "error", {"found": found[:20]})


def _loaded_by_code(wheel: OpenedWheel, modules: list[ModuleFile]) -> frozenset[str]:
    """The files that the wheel's Python code names, if it uses a loader of shared libraries.

    A plain ``.so`` that uses nothing of CPython need not be named in full: debugpy puts the name
    together from parts.
    """
    stems = {module.member.path: module.dotted.rpartition(".")[2] for module in modules}
    named = named_by_code(wheel, stems.values())
    if named is None:
        return frozenset()
    return frozenset(
        module.member.path
        for module in modules
        if stems[module.member.path] in named
        or (module.suffix.kind == "plain" and not _uses_python(module))
    )


def _uses_python(module: ModuleFile) -> bool:
    binary = module.member.binary
    parts = binary.slices if isinstance(binary, MachFile) else [binary]
    undefined = frozenset().union(*(part.undefined for part in parts if part is not None))
    return any(symbol.startswith(("Py", "_Py")) for symbol in undefined)


def _no_binary(module: ModuleFile) -> Finding:
    return Finding(
        check=CODE,
        severity="warning" if module.suffix.kind == "plain" else "error",
        member=module.member.path,
        message="the file has an extension module's suffix, but is no binary",
        evidence={"size": module.member.size, "suffix": module.suffix.text},
        hint="the linker failed and left a file behind: see the build's log",
    )


def _missing(
    module: ModuleFile, severity: Severity, evidence: dict[str, list[str]], arch: str | None = None
) -> Finding:
    wanted = sorted(module.entry_points)
    archs = [name for name, _ in exports_of(module.member.binary)] if module.member.binary else []
    place = arch or (archs[0] if len(archs) == 1 else None)
    return Finding(
        check=CODE,
        severity=severity,
        member=module.member.path,
        slice=place,
        message=f"no {wanted[-1]} is exported, so `import {module.importable_name}` fails",
        evidence={"expected": wanted, "archs": archs, **evidence},
        hint=None if severity == "note" else "the module's sources were not compiled into the file",
    )


CHECK: Final = Check(code=CODE, title=TITLE, find=find, narrow=narrow)
