"""An abi3 tag names the first CPython whose stable ABI has every symbol that is used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from packaging.tags import Tag

from builder.binaries.image import ElfFile, MachFile, PeFile
from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.symbols.stable_abi import (
    FIRST_ABI3,
    FIRST_ABI3T,
    MODULE_DEF,
    is_cpython_name,
    stable_symbols,
)
from builder.checks.tag_edits import for_python
from builder.modules import ModuleFile, exports_of, imports, module_files, python_minor
from builder.wheel import Member, OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "abi3-symbols"
TITLE: Final = "An abi3 tag promises only what the stable ABI has"
_LOADED: Final = frozenset({"MH_BUNDLE", "MH_DYLIB", "ET_DYN"})
_STABLE_DLLS: Final = frozenset({"python3.dll", "python3t.dll"})
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """One slice that an interpreter loads: what it asks for, and the libraries that it names."""

    member: Member
    arch: str
    undefined: frozenset[str]
    weak: frozenset[str]
    libraries: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Use:
    """The symbols of CPython that one slice must find, and since when the stable ABI has each.

    None stands for a symbol that it does not have. `entrusted` are such symbols of a slice that
    links a library which the Recipe declares: PySide6 has PyRun_String from shiboken6.
    """

    member: Member
    arch: str
    since: dict[str, int | None]
    entrusted: tuple[str, ...]

    @property
    def foreign(self) -> list[str]:
        return sorted(name for name, minor in self.since.items() if minor is None)

    def newer_than(self, floor: int) -> list[str]:
        return sorted(name for name, minor in self.since.items() if minor and minor > floor)


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """`tag` from the version on that has every symbol; the builder's own for one that none has.

    Symbols outside the stable ABI may change with every minor version, and the bytes do not say for
    which one they were compiled: only who built the wheel knows.
    """
    if tag.abi not in {"abi3", "abi3t"}:
        return holds(tag)
    if laid_out := list(_bound_to_a_layout(wheel, tag)):
        return Ruling(tags=frozenset(), findings=tuple(laid_out))
    uses = list(_uses(wheel, tag, context))
    floor = python_minor(tag.interpreter) or FIRST_ABI3
    needed = max([_first(tag), *(m for use in uses for m in use.since.values() if m)])
    if any(use.foreign for use in uses):
        findings = tuple(_foreign(use, tag, context) for use in uses if use.foreign)
        return Ruling(tags=_for_builder(tag, max(floor, needed), context), findings=findings)
    if needed <= floor:
        notes = tuple(_entrusted(use) for use in uses if use.entrusted)
        return Ruling(tags=frozenset({tag}), findings=notes)
    findings = tuple(_newer(use, tag, floor) for use in uses if use.newer_than(floor))
    raised = frozenset({for_python(tag, f"cp3{needed}", tag.abi)})
    return Ruling(tags=raised, findings=findings or (_too_early(tag),))


def _first(tag: Tag) -> int:
    return FIRST_ABI3T if tag.abi == "abi3t" else FIRST_ABI3


def _uses(wheel: OpenedWheel, tag: Tag, context: Context) -> Iterator[_Use]:
    """What each slice that `tag` promises asks of CPython, and no binary of the wheel brings.

    A weak symbol that is newer may be missing: code that asks for one is ready for that.
    """
    windows = isinstance(parse_platform(tag.platform), WindowsPlatform)
    stable = stable_symbols(windows=windows)
    brought = _brought(wheel)
    for one in _slices(wheel, tag):
        names = {n for n in one.undefined if is_cpython_name(n) and n not in brought}
        since = {n: stable.get(n) for n in names if n not in one.weak or n not in stable}
        entrusted = names - stable.keys() if _links_declared(one, context) else set[str]()
        yield _Use(
            member=one.member,
            arch=one.arch,
            since={n: minor for n, minor in since.items() if n not in entrusted},
            entrusted=tuple(sorted(entrusted)),
        )


def _links_declared(one: _Slice, context: Context) -> bool:
    return any(name.rpartition("/")[2] in context.external_libraries for name in one.libraries)


def _brought(wheel: OpenedWheel) -> frozenset[str]:
    """The symbols with CPython's prefix that the wheel itself exports, as pyside6 does."""
    return frozenset(
        name
        for member in wheel.binaries
        if member.binary is not None
        for _, exports in exports_of(member.binary)
        for name in exports
        if is_cpython_name(name)
    )


def _slices(wheel: OpenedWheel, tag: Tag) -> Iterator[_Slice]:
    """The slices that an interpreter of `tag` loads."""
    archs = parse_platform(tag.platform).archs
    others = {m.member.path for m in module_files(wheel) if _is_of_another(tag, m)}
    for member in wheel.binaries:
        if member.path not in others:
            yield from (one for one in _slices_of(member) if one.arch in archs)


def _slices_of(member: Member) -> Iterator[_Slice]:
    binary = member.binary
    if isinstance(binary, MachFile):
        for part in binary.slices:
            if part.filetype in _LOADED:
                names = tuple(dependency.name for dependency in part.dependencies)
                yield _slice(member, part.arch, part.undefined, part.weak, names)
    elif isinstance(binary, ElfFile) and binary.filetype in _LOADED:
        yield _slice(member, binary.arch, binary.undefined, binary.weak, binary.needed)
    elif isinstance(binary, PeFile) and _links_stable_abi(binary):
        names = binary.dependencies
        yield _slice(member, binary.arch, binary.undefined, frozenset(), names)


def _slice(
    member: Member,
    arch: str,
    undefined: frozenset[str],
    weak: frozenset[str],
    libraries: tuple[str, ...],
) -> _Slice:
    return _Slice(member=member, arch=arch, undefined=undefined, weak=weak, libraries=libraries)


def _links_stable_abi(file: PeFile) -> bool:
    """Whether a file for Windows loads the DLL of the stable ABI, and not that of one version."""
    return any(name.lower() in _STABLE_DLLS for name in file.dependencies)


def _is_of_another(tag: Tag, module: ModuleFile) -> bool:
    """Whether a module is for one version only, and so none that `tag` must answer for."""
    return module.suffix.kind == "versioned" and not imports(tag, module.suffix)


def _bound_to_a_layout(wheel: OpenedWheel, tag: Tag) -> Iterator[Finding]:
    """The modules under an abi3t tag that only start by way of a PyModuleDef (PEP 803, PEP 793)."""
    if tag.abi != "abi3t":
        return
    modules = {m.member.path: m for m in module_files(wheel)}
    for one in _slices(wheel, tag):
        path = one.member.path
        used = sorted(one.undefined & MODULE_DEF)
        if used and path in modules and not _has_slots(modules[path]):
            yield Finding(
                check=CODE,
                severity="error",
                member=path,
                slice=one.arch,
                message=f"the module starts by {used[0]}, and abi3t fixes no PyModuleDef",
                evidence={"claimed": str(tag), "symbols": list(used)},
                hint="export PyModExport_ (PEP 793), or tag the wheel abi3",
            )


def _has_slots(module: ModuleFile) -> bool:
    assert module.member.binary is not None
    exported = frozenset().union(*(names for _, names in exports_of(module.member.binary)))
    return any(name.startswith("PyModExport") for name in module.entry_points & exported)


def _for_builder(tag: Tag, floor: int, context: Context) -> frozenset[Tag]:
    """The tag for the version that built the wheel, if it is known and `tag` claims it."""
    minor = python_minor(context.built_by) if context.built_by else None
    if context.built_by is None or minor is None or minor < floor or tag.abi == "abi3t":
        return frozenset()
    return frozenset({for_python(tag, context.built_by, context.built_by)})


def _foreign(use: _Use, tag: Tag, context: Context) -> Finding:
    names = use.foreign
    return Finding(
        check=CODE,
        severity="error",
        member=use.member.path,
        slice=use.arch,
        message=f"{_listed(names)} is not in the stable ABI, which `{tag}` promises to keep to",
        evidence={
            "claimed": str(tag),
            "symbols": list(names[:_SHOWN]),
            "count": len(names),
            "built_by": context.built_by,
        },
        hint="compile with Py_LIMITED_API set, or tag the wheel for the version that built it",
    )


def _entrusted(use: _Use) -> Finding:
    return Finding(
        check=CODE,
        severity="note",
        member=use.member.path,
        slice=use.arch,
        message="symbols outside the stable ABI are left to a library that the Recipe declares",
        evidence={"symbols": list(use.entrusted[:_SHOWN]), "count": len(use.entrusted)},
    )


def _newer(use: _Use, tag: Tag, floor: int) -> Finding:
    names = use.newer_than(floor)
    last = max(names, key=lambda name: use.since[name] or 0)
    return Finding(
        check=CODE,
        severity="error",
        member=use.member.path,
        slice=use.arch,
        message=f"{last} is in the stable ABI since 3.{use.since[last]}; `{tag}` starts earlier",
        evidence={
            "claimed": str(tag),
            "symbols": {name: f"3.{use.since[name]}" for name in names[:_SHOWN]},
            "count": len(names),
        },
        hint="set Py_LIMITED_API to the version of the tag, or let the tag start later",
    )


def _too_early(tag: Tag) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        message=f"no interpreter before 3.{FIRST_ABI3T} loads an abi3t module (PEP 803)",
        evidence={"claimed": str(tag), "first": f"cp3{FIRST_ABI3T}"},
        hint=f"tag the wheel cp3{FIRST_ABI3T}-abi3t",
    )


def _listed(names: list[str]) -> str:
    rest = len(names) - 1
    return f"{names[0]} (and {rest} more)" if rest else names[0]


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
