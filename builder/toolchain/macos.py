"""The macOS targets that exist: CPython X.Y, architecture, minimum OS; checked before any work."""

from __future__ import annotations

import re
from typing import Final

from builder.errors import UnbuildableTargetError
from store.errors import MalformedError
from store.target import Baseline, Interpreter, Target

ARCHITECTURES: Final = ("arm64", "x86_64")

_PYTHON_TAG: Final = re.compile(r"cp3([0-9]{1,2})(t?)")
_NAME: Final = re.compile(r"macos-([0-9]{1,3})\.([0-9]{1,3})-([a-z0-9_]{1,20}):([a-z0-9]{1,10})")
_OLDEST_PYTHON_MINOR: Final = 8
_OLDEST_FREE_THREADED_MINOR: Final = 13  # PEP 703
# What ziglang 0.17.0 links for; clang itself takes nothing older than 10.9.
_OLDEST_MINOR_OF_10: Final = 9
_NEWEST_MINOR_OF_10: Final = 15
_NEWEST_MAJOR: Final = 27
_DARWIN_OF_10: Final = 4  # macOS 10.N is Darwin N + 4


def parse_macos_target(text: str) -> Target:
    """The portable target that ``macos-11.0-arm64:cp311`` names.

    Raises MalformedError when it is no such name or no such system exists, and
    UnbuildableTargetError when the system exists and cannot be built for.
    """
    match = _NAME.fullmatch(text)
    if match is None:
        raise MalformedError(
            f"not a macOS target: {text[:80]!r}", hint="write macos-11.0-arm64:cp311, say"
        )
    major, minor, arch, python_tag = match.groups()
    return macos_target(python_tag, arch, int(major), int(minor))


def macos_target(python_tag: str, arch: str, major: int, minor: int) -> Target:
    """The portable target of CPython `python_tag` (``cp311``, ``cp313t``) on macOS `major`.`minor`.

    Raises MalformedError for what does not exist (an unknown architecture, macOS 12.3, macOS 20,
    Apple silicon before macOS 11), UnbuildableTargetError for what this toolchain cannot make.
    """
    interpreter = _interpreter(python_tag)
    _check_arch(arch)
    _check_baseline(arch, major, minor)
    return Target(
        interpreter=interpreter,
        build=None,
        arch=arch,
        baseline=Baseline(kind="macosx", major=major, minor=minor),
    )


def darwin_release(baseline: Baseline) -> str:
    """The kernel release that `baseline` ships: ``17.0.0`` for macOS 10.13, ``20.0.0`` for 11.0."""
    if baseline.major == 10:
        return f"{baseline.minor + _DARWIN_OF_10}.0.0"
    # macOS 11 is Darwin 20; from 26 on the names jumped to the year, the kernel by one (25).
    kernel = baseline.major + 9 if baseline.major <= 15 else baseline.major - 1
    return f"{kernel}.0.0"


def _interpreter(python_tag: str) -> Interpreter:
    match = _PYTHON_TAG.fullmatch(python_tag)
    if match is None:
        raise MalformedError(
            f"not a CPython tag: {python_tag[:40]!r}", hint="write cp311, or cp313t"
        )
    minor, flag = int(match[1]), match[2]
    _check_python(python_tag, minor, free_threaded=bool(flag))
    soabi = f"cpython-3{minor}{flag}-darwin"
    return Interpreter(
        implementation="cpython",
        version=f"3.{minor}",
        soabi=soabi,
        ext_suffix=f".{soabi}.so",
        debug=False,
        free_threaded=bool(flag),
        pointer_bytes=8,
    )


def _check_python(python_tag: str, minor: int, *, free_threaded: bool) -> None:
    if minor < _OLDEST_PYTHON_MINOR:
        raise UnbuildableTargetError(f"{python_tag} is too old to build for", hint="cp38 or newer")
    if free_threaded and minor < _OLDEST_FREE_THREADED_MINOR:
        raise MalformedError(
            f"there is no {python_tag}: free-threaded CPython began with 3.13", hint="cp313t"
        )


def _check_arch(arch: str) -> None:
    if arch == "universal2":
        raise UnbuildableTargetError(
            "universal2 is not built by name yet",
            hint="build arm64 and x86_64, each is its own target",
        )
    if arch not in ARCHITECTURES:
        raise MalformedError(
            f"no macOS architecture: {arch[:40]!r}", hint=" or ".join(ARCHITECTURES)
        )


def _check_baseline(arch: str, major: int, minor: int) -> None:
    if major == 10:
        _check_ten(arch, minor)
    elif not (11 <= major <= 15 or 26 <= major <= _NEWEST_MAJOR):
        raise MalformedError(
            f"there is no macOS {major}.{minor} to build for",
            hint=f"10.{_OLDEST_MINOR_OF_10} to 10.{_NEWEST_MINOR_OF_10}, 11.0 to 15.0, "
            f"26.0 to {_NEWEST_MAJOR}.0",
        )
    elif minor:
        # pip and uv match macosx_N_0 only from 11 on (packaging.tags.mac_platforms).
        raise MalformedError(
            f"no installer ever matches macosx_{major}_{minor}_{arch}",
            hint=f"from macOS 11 on the minor version is 0: {major}.0 or {_next_major(major)}.0",
        )


def _check_ten(arch: str, minor: int) -> None:
    if arch == "arm64":
        raise MalformedError(
            f"there is no macOS 10.{minor} for arm64", hint="Apple silicon began with 11.0"
        )
    if minor > _NEWEST_MINOR_OF_10:
        raise MalformedError(f"there is no macOS 10.{minor}", hint="11.0 came after 10.15")
    if minor < _OLDEST_MINOR_OF_10:
        raise UnbuildableTargetError(
            f"macOS 10.{minor} is too old for the compiler",
            hint=f"10.{_OLDEST_MINOR_OF_10} or newer",
        )


def _next_major(major: int) -> int:
    return 26 if major == 15 else min(major + 1, _NEWEST_MAJOR)
