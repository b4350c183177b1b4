"""Every extension module can be imported by every interpreter that the tags name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from packaging.tags import Tag

from builder.checks.check import Check, Ruling, holds
from builder.checks.context import Context
from builder.checks.symbols.stable_abi import FIRST_ABI3
from builder.checks.tag_edits import for_python
from builder.modules import ModuleFile, extension_modules, imports, python_minor
from builder.wheel import OpenedWheel
from store.tags import WindowsPlatform, parse_platform
from store.verdict import Finding

CODE: Final = "import-suffix"
TITLE: Final = "Every extension module's suffix suits every claimed interpreter"


def narrow(wheel: OpenedWheel, tag: Tag, context: Context) -> Ruling:
    """The interpreters under `tag` that can import every extension module of the wheel.

    A module may lie in the wheel once for each of several interpreters; one that suits is enough.
    """
    modules = _by_name(wheel)
    if not modules or tag.platform == "any":
        return holds(tag)
    if _names_an_abi(tag) and _all_importable(modules, tag):
        return holds(tag)
    able = frozenset(t for t in _candidates(modules, tag, context) if _all_importable(modules, t))
    better = _within_claim(wheel, modules, able)
    return Ruling(tags=better, findings=tuple(_reasons(modules, tag, better)))


def _within_claim(
    wheel: OpenedWheel, modules: Mapping[str, list[ModuleFile]], able: frozenset[Tag]
) -> frozenset[Tag]:
    """Those of `able` that were claimed; all of them when the claim suits nobody at all.

    Then it is a mistake that is put right. A false tag beside a true one is dropped, never moved.
    """
    claimed = frozenset(t for t in able if any(_is_within(t, said) for said in wheel.claimed))
    if claimed or any(_all_importable(modules, said) for said in wheel.claimed):
        return claimed
    return able


def _is_within(tag: Tag, said: Tag) -> bool:
    """Whether every interpreter that takes `tag` takes `said` too."""
    minor, floor = python_minor(tag.interpreter) or 0, python_minor(said.interpreter)
    if (tag.interpreter, tag.abi) == (said.interpreter, said.abi):
        return True
    if said.abi == "none":
        generic = floor is None or said.interpreter.startswith("py")
        return minor >= (floor or 0) if generic else tag.interpreter == said.interpreter
    stable = said.abi in {"abi3", "abi3t"} and tag.interpreter.startswith("cp")
    threaded = tag.abi.startswith("cp") and "t" in tag.abi
    return stable and minor >= (floor or 0) and not (threaded and said.abi == "abi3")


def _by_name(wheel: OpenedWheel) -> Mapping[str, list[ModuleFile]]:
    grouped: dict[str, list[ModuleFile]] = defaultdict(list)
    for module in extension_modules(wheel):
        grouped[module.dotted].append(module)
    return grouped


def _names_an_abi(tag: Tag) -> bool:
    """Whether a tag may hold an extension module: ``py3-none`` promises that there is none."""
    return tag.abi != "none" or python_minor(tag.interpreter) is not None


def _all_importable(modules: Mapping[str, list[ModuleFile]], tag: Tag) -> bool:
    return all(any(imports(tag, f.suffix) for f in files) for files in modules.values())


def _candidates(
    modules: Mapping[str, list[ModuleFile]], tag: Tag, context: Context
) -> frozenset[Tag]:
    """The tags that the suffixes themselves name, within what an abi3 tag promises."""
    if isinstance(parse_platform(tag.platform), WindowsPlatform) and not _is_open(tag):
        return frozenset()  # a module for Windows names its interpreter's DLL: nobody else's
    files = [file for group in modules.values() for file in group]
    floor = python_minor(tag.interpreter) if tag.abi in {"abi3", "abi3t"} else None
    named = {
        (file.suffix.interpreter, file.suffix.abi)
        for file in files
        if file.suffix.interpreter is not None and file.suffix.abi is not None
    }
    if not named and tag.abi == "none" and tag.interpreter not in {"py2", "cp2"}:
        named = _unnamed(files, tag, context)
    if floor is not None and (since := max(file.suffix.since for file in files)) > floor:
        named.add((f"cp3{since}", tag.abi))
    return frozenset(
        for_python(tag, interpreter, abi)
        for interpreter, abi in named
        if floor is None or (python_minor(interpreter) or 0) >= floor
    )


def _unnamed(files: list[ModuleFile], tag: Tag, context: Context) -> set[tuple[str, str]]:
    """Interpreters and ABIs for suffixes that name no version: a stable ABI's, or the builder's.

    The stable ABI from its first version on; abi3-symbols raises that to what the code needs.
    """
    kinds = {file.suffix.kind for file in files}
    if kinds <= {"abi3", "abi3t"}:
        since = max(file.suffix.since for file in files)
        first = max(python_minor(tag.interpreter) or FIRST_ABI3, since)
        return {(f"cp3{first}", abi) for abi in ("abi3", "abi3t")}
    return {(context.built_by, context.built_by)} if context.built_by else set()


def _is_open(tag: Tag) -> bool:
    """Whether a tag names no single ABI."""
    return tag.abi in {"none", "abi3", "abi3t"}


def _reasons(
    modules: Mapping[str, list[ModuleFile]], tag: Tag, better: frozenset[Tag]
) -> list[Finding]:
    unsuited = [
        file
        for files in modules.values()
        if not (_names_an_abi(tag) and any(imports(tag, f.suffix) for f in files))
        for file in files
    ]
    return [_reason(file, tag, better) for file in unsuited[:100]]


def _reason(file: ModuleFile, tag: Tag, better: frozenset[Tag]) -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        member=file.member.path,
        message=f"`{tag}` does not import a file that ends with `{file.suffix.text}`",
        evidence={
            "claimed": str(tag),
            "suffix": file.suffix.text,
            "holds": sorted(map(str, better)),
        },
        hint=None if better else "build the module with the interpreter that the tag names",
    )


CHECK: Final = Check(code=CODE, title=TITLE, narrow=narrow)
