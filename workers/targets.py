"""From what a person writes after ``--target`` to a Target and the toolchain that builds for it.

`native` is the running interpreter, ``native:/path/to/python`` another one of this machine,
``macos-11.0-arm64:cp311`` a macOS target by the cross toolchain; any other word is a name from
`wheelfarm.toml`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.interpreter import measure
from builder.toolchain.cross import cross_toolchain
from builder.toolchain.macos import macos_target
from builder.toolchain.native import native_toolchain
from uv import find_uv_bin

from builder.toolchain.toolchain import Toolchain
from store.fingerprint import Fingerprint, fingerprint_of
from store.target import Target
from workers.errors import TargetSpecError
from workers.settings import NamedTarget, Settings

_MACOS: Final = re.compile(r"macos-(\d{1,3})\.(\d{1,3})-([a-z0-9_]+):([a-z]+\d+t?)")
_PYTHON_TAG: Final = re.compile(r"cp(\d)(\d{1,3})(t?)")
_FORMS: Final = "write native, native:/path/to/python, macos-11.0-arm64:cp311, or a name of yours"
_SECONDS_TO_FIND_PYTHON: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildTarget:
    """A Target under the name a person gave it, with the toolchain that builds for it here."""

    name: str
    target: Target
    toolchain: Toolchain

    @property
    def fingerprint(self) -> Fingerprint:
        """The target's fingerprint."""
        return fingerprint_of(self.target)


def resolve_target(word: str, settings: Settings) -> BuildTarget:
    """The target that `word` means, with its toolchain made ready.

    Raises TargetSpecError for a word that means none, InterpreterError for a path that is no
    Python, UnbuildableTargetError where this machine has nothing to build it with.
    """
    named = settings.targets.get(word, NamedTarget(spec=word))
    kind, _, rest = named.spec.partition(":")
    if kind == "native":
        return _native(word, Path(rest) if rest else Path(sys.executable))
    if match := _MACOS.fullmatch(named.spec):
        return _macos(word, match, named, settings.store / "toolchains")
    known = ", ".join(sorted(settings.targets)) or "none"
    raise TargetSpecError(f"no such target: {word[:80]!r}", hint=f"{_FORMS} (of yours: {known})")


def _native(name: str, python: Path) -> BuildTarget:
    target = measure(python).target()
    return BuildTarget(name=name, target=target, toolchain=native_toolchain(python))


def _macos(name: str, match: re.Match[str], named: NamedTarget, cache: Path) -> BuildTarget:
    major, minor, arch, python_tag = match.groups()
    target = macos_target(python_tag, arch, int(major), int(minor))
    toolchain = cross_toolchain(
        target, _interpreter_of(python_tag), cache, headers=named.headers, sdk=named.sdk
    )
    return BuildTarget(name=name, target=target, toolchain=toolchain)


def _interpreter_of(python_tag: str) -> Path:
    """An interpreter of this machine with the target's version: it runs the build backend."""
    match = _PYTHON_TAG.fullmatch(python_tag)
    if not match:
        raise TargetSpecError(f"not a CPython tag: {python_tag!r}", hint="write cp311 or cp313t")
    major, minor, threads = match.groups()
    if (int(major), int(minor)) == sys.version_info[:2] and not threads:
        return Path(sys.executable)
    return _found_by_uv(f"{major}.{minor}{threads}")


def _found_by_uv(version: str) -> Path:
    command = [find_uv_bin(), "python", "find", "--no-project", "--system", "--offline", version]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_SECONDS_TO_FIND_PYTHON
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise TargetSpecError(
            f"no Python {version} on this machine",
            hint="a cross build runs the backend in an interpreter of the target's own version",
        ) from error
    return Path(found.stdout.strip())
