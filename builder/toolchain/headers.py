"""The Python headers of a macOS target: supplied by a person, or derived from native ones."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from builder.errors import BuilderError, UnbuildableTargetError
from builder.toolchain import pyconfig
from builder.toolchain.native_python import NativePython
from builder.toolchain.zig import Zig, run_zig
from store.target import Target

HeadersOrigin = Literal["supplied", "probe"]
"""Where a target's headers come from: a person, or native ones and questions to the compiler."""

_ANSWER: Final = re.compile(rb"<<([A-Za-z_]\w*)=([0-9]{3})>>")
_VERSION: Final = re.compile(r"#define\s+PY_(MAJOR|MINOR)_VERSION\s+([0-9]+)")
_SYMBOL: Final = re.compile(r"\b_([A-Za-z_]\w*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The target's C compiler, with the cache and the folder in which questions are put to it."""

    zig: Zig
    triple: str
    cache: Path
    work: Path

    def compiled(self, text: str, *args: str) -> bytes:
        """The file that the compiler makes of the C source `text`. Raises BuilderError."""
        source, output = self.work / "question.c", self.work / "answer"
        source.write_text(text, encoding="utf-8")
        call = ["cc", "-target", self.triple, *args, source.name, "-o", output.name]
        run_zig(self.zig, call, self.cache, cwd=self.work)
        return output.read_bytes()


def check_headers(folder: Path, target: Target) -> None:
    """See that `folder` holds CPython's headers of the target's version.

    Raises UnbuildableTargetError when it does not.
    """
    try:
        text = _text(folder / "patchlevel.h")
    except FileNotFoundError as error:
        raise UnbuildableTargetError(
            f"no Python headers in {folder}",
            hint="install the interpreter's development package (python3-dev on Debian)",
        ) from error
    found = dict(_VERSION.findall(text))
    version = f"{found.get('MAJOR')}.{found.get('MINOR')}"
    if version != target.interpreter.version:
        raise UnbuildableTargetError(
            f"the headers in {folder} are of Python {version}, not {target.interpreter.version}"
        )


def check_supplied(folder: Path, target: Target) -> None:
    """See that `folder` holds headers of the very target: version, system, kind of build.

    Raises UnbuildableTargetError when it does not.
    """
    check_headers(folder, target)
    config = folder / "pyconfig.h"
    macros = pyconfig.macros_of(_text(config)) if config.is_file() else {}
    if macros.get("HAVE_EPOLL") is not None or macros.get("HAVE_KQUEUE") is None:
        raise UnbuildableTargetError(
            f"{config} is not of a Python for macOS",
            hint="give the include folder of a macOS Python, with its pyconfig.h",
        )
    free_threaded = macros.get("Py_GIL_DISABLED") is not None
    if free_threaded != target.interpreter.free_threaded:
        kind = "free-threaded" if free_threaded else "not free-threaded"
        raise UnbuildableTargetError(f"the headers in {folder} are {kind}, the target differs")


def copy_headers(folder: Path, to: Path) -> None:
    """Copy the header files under `folder` to the new folder `to`. Raises OSError."""
    for source in sorted(folder.rglob("*.h")):
        copy = to / source.relative_to(folder)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def supply_headers(folder: Path, target: Target, to: Path) -> None:
    """Write the headers in `folder`, which a person gave, to `to`.

    Raises UnbuildableTargetError when they are not of the target.
    """
    check_supplied(folder, target)
    copy_headers(folder, to)


def derive_headers(native: NativePython, target: Target, probe: Probe, to: Path) -> None:
    """Write the target's headers to `to`: the native ones, with a pyconfig.h for macOS.

    Raises UnbuildableTargetError when `native` has none.
    """
    check_headers(native.include, target)
    copy_headers(native.include, to)
    template = _text(native.config_folder / "pyconfig.h")
    answers = _answers(template, target, probe)
    (to / "pyconfig.h").write_text(pyconfig.with_macros(template, answers), encoding="utf-8")


def _answers(template: str, target: Target, probe: Probe) -> Mapping[str, str | None]:
    questions = pyconfig.questions_of(template)
    baseline = (target.baseline.major, target.baseline.minor)
    free_threaded = target.interpreter.free_threaded
    return {
        **pyconfig.function_macros(questions, _symbols(probe.zig), baseline),
        **_header_macros(questions.headers, probe),
        **pyconfig.darwin_macros(target.arch, free_threaded=free_threaded),
        **_size_macros(questions.sizes, probe),
    }


def _symbols(zig: Zig) -> frozenset[str]:
    text = (zig.library / "libc" / "darwin" / "libSystem.tbd").read_text(encoding="utf-8")
    return frozenset(_SYMBOL.findall(text))


def _header_macros(headers: Mapping[str, str], probe: Probe) -> dict[str, str | None]:
    lines = [
        f"#if __has_include(<{header}>)\n<<{name}=001>>\n#endif" for name, header in headers.items()
    ]
    answer = probe.compiled("\n".join(lines), "-E", "-P")
    # The preprocessor may put blanks between what it takes for tokens.
    found = {name.decode() for name, _ in _ANSWER.findall(answer.replace(b" ", b""))}
    return {name: "1" if name in found else None for name in headers}


def _size_macros(sizes: Mapping[str, str], probe: Probe) -> dict[str, str | None]:
    # Each number stands in the object file as three digits, so nothing has to be run.
    heads = ("stddef", "stdio", "sys/types", "pthread", "stdint", "time", "wchar")
    lines = [f"#include <{head}.h>" for head in heads]
    lines += [
        f"const char wf_{name}[] = {{{_characters(name)}, {_digits(expression)}, '>', '>'}};"
        for name, expression in sizes.items()
    ]
    answer = probe.compiled("\n".join(lines) + "\n", "-c")
    found = {name.decode(): str(int(text)) for name, text in _ANSWER.findall(answer)}
    if missing := sorted(set(sizes) - set(found)):
        raise BuilderError(f"the cross compiler does not tell {missing[0]}")
    return {name: found[name] for name in sizes}


def _characters(name: str) -> str:
    return ", ".join(f"'{letter}'" for letter in f"<<{name}=")


def _digits(expression: str) -> str:
    return ", ".join(f"'0' + ({expression}) / {unit} % 10" for unit in (100, 10, 1))


def _text(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(pyconfig.MAX_BYTES)
