"""From what a person writes after ``--target`` to a Target and the toolchain that builds for it.

`native` is the running interpreter, ``native:/path/to/python`` another one of this machine,
``macos-11.0-arm64:cp311`` a macOS target by the cross toolchain; any other word is a name from
`wheelfarm.toml`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from builder.interpreter import measure
from builder.toolchain.cross import cross_toolchain
from builder.toolchain.macos import parse_macos_target
from builder.toolchain.native import native_toolchain
from builder.toolchain.toolchain import Toolchain
from store.fingerprint import Fingerprint, fingerprint_of
from store.target import Interpreter, Target
from workers.errors import TargetSpecError
from workers.settings import NamedTarget, Settings

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

    Raises TargetSpecError for a word that means none, MalformedError for a macOS that does not
    exist, InterpreterError for a path that is no Python, UnbuildableTargetError where this machine
    has nothing to build it with.
    """
    named = settings.targets.get(word, NamedTarget(spec=word))
    kind, _, rest = named.spec.partition(":")
    if kind == "native":
        return _native(word, Path(rest) if rest else Path(sys.executable))
    if kind.startswith("macos-"):
        return _macos(word, named, settings.cache)
    raise _no_such_target(word, settings)


def resolve_identity(word: str, settings: Settings) -> Target:
    """The target that `word` means, for a farm to build for: no toolchain is needed here.

    Raises TargetSpecError, MalformedError, InterpreterError as `resolve_target` does.
    """
    named = settings.targets.get(word, NamedTarget(spec=word))
    kind, _, rest = named.spec.partition(":")
    if kind == "native":
        return measure(Path(rest) if rest else Path(sys.executable)).target()
    if kind.startswith("macos-"):
        return parse_macos_target(named.spec)
    raise _no_such_target(word, settings)


def _no_such_target(word: str, settings: Settings) -> TargetSpecError:
    known = ", ".join(sorted(settings.targets)) or "none"
    return TargetSpecError(f"no such target: {word[:80]!r}", hint=f"{_FORMS} (of yours: {known})")


def _native(name: str, python: Path) -> BuildTarget:
    target = measure(python).target()
    return BuildTarget(name=name, target=target, toolchain=native_toolchain(python))


def _macos(name: str, named: NamedTarget, cache: Path) -> BuildTarget:
    target = parse_macos_target(named.spec)
    python = named.python or _interpreter_like(target.interpreter)
    toolchain = cross_toolchain(target, python, cache, headers=named.headers, sdk=named.sdk)
    return BuildTarget(name=name, target=target, toolchain=toolchain)


def _interpreter_like(wanted: Interpreter) -> Path:
    """An interpreter of this machine with the target's version: it runs the build backend."""
    if wanted.version_info == sys.version_info[:2] and not wanted.free_threaded:
        return Path(sys.executable)
    version = wanted.version + ("t" if wanted.free_threaded else "")
    if found := _found_by_uv(version) or _found_in_pyenv(version):
        return found
    raise TargetSpecError(
        f"no Python {version} on this machine",
        hint="a cross build runs the backend in an interpreter of the target's own version: "
        "install one, or name it with python = … under [targets] in wheelfarm.toml",
    )


def _found_by_uv(version: str) -> Path | None:
    command = [find_uv_bin(), "python", "find", "--no-project", "--system", "--offline", version]
    try:
        found = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_SECONDS_TO_FIND_PYTHON
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return Path(found.stdout.strip())


def _found_in_pyenv(version: str) -> Path | None:
    return max(pyenv_interpreters(version), default=None)


def pyenv_interpreters(version: str = "3") -> list[Path]:
    """The interpreters of pyenv whose version begins with `version`.

    pyenv puts only the versions that are switched on on PATH; the others are there as well.
    """
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    try:
        return sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    except OSError:  # somebody else's folder
        return []
