"""The toolchain that is there: the machine's compiler and the interpreter itself."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.environment import SYSTEM_PATH
from builder.toolchain.attempts import announced_modules
from builder.toolchain.python_facts import PythonFacts, python_facts
from store.digest import JSON, digest_of, sha256_of_file

_SECONDS: Final = 30
_SEARCHED: Final = ("/lib", "/usr/lib")
_SHARED: Final = (".so", ".so.1.0", ".dylib")
_MAPS_PREFIXES: Final = "-ffile-prefix-map=/a=/b"


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeToolchain:
    """Builds for the interpreter at `python`, by the compiler that the interpreter names.

    `identity` holds no path: the same compiler and interpreter in another folder are the same.
    """

    python: Path
    identity: Mapping[str, JSON]
    maps_prefixes: bool
    libpython_folder: Path | None

    def environment(self, scratch: Path) -> dict[str, str]:
        """Nothing but a flag that keeps the scratch folder's name out of the binaries.

        It goes into CPPFLAGS, which distutils, meson and configure scripts add to their own
        flags; a CFLAGS of ours would take the place of a configure script's ``-O2``.
        """
        if not self.maps_prefixes:
            return {}
        return {"CPPFLAGS": f"-ffile-prefix-map={scratch}=/build"}

    def config_settings(self, backend: str) -> dict[str, str]:  # noqa: ARG002
        """None: every backend builds natively by itself."""
        return {}

    def attempted_modules(self, scratch: Path, log: Path) -> frozenset[str]:  # noqa: ARG002
        """The modules that setuptools said it would build: see `builder.toolchain.attempts`."""
        return announced_modules(log)


def native_toolchain(python: Path) -> NativeToolchain:
    """The toolchain of the interpreter at `python`. Raises InterpreterError when it is none.

    A machine without a compiler has one too: it builds what needs no compiler.
    """
    facts = python_facts(python)
    compiler = _program(facts.config["CC"] or "cc")
    identity: dict[str, JSON] = {
        "kind": "native",
        "compiler": _described(compiler),
        "cxx": _described(_program(facts.config["CXX"] or "c++")),
        "linker": _described(_program("ld")),
        "libc": facts.libc,
        "python": _python_identity(facts),
    }
    return NativeToolchain(
        python=python,
        identity=identity,
        maps_prefixes=_takes(compiler, _MAPS_PREFIXES),
        libpython_folder=_libpython_folder(facts),
    )


def _libpython_folder(facts: PythonFacts) -> Path | None:
    """The folder of a shared libpython that the loader does not search by itself."""
    folder, name = Path(facts.config["LIBDIR"]), facts.config["INSTSONAME"]
    if not (folder / name).is_file() or not name.endswith(_SHARED):
        return None
    return None if str(folder).startswith(_SEARCHED) else folder


def _python_identity(facts: PythonFacts) -> dict[str, JSON]:
    return {
        "version": facts.full_version,
        "implementation": facts.markers["platform_python_implementation"],
        "platform": facts.platform,
        "abiflags": facts.abiflags,
        "soabi": facts.config["SOABI"],
        "config_sha256": digest_of({key: facts.config[key] for key in ("CFLAGS", "LDSHARED")}),
    }


def _program(command: str) -> Path | None:
    """The first word of `command` on the path that hooks are given, links followed."""
    words = command.split()
    found = shutil.which(words[0], path=SYSTEM_PATH) if words else None
    return Path(found).resolve() if found else None


@functools.cache
def _described(program: Path | None) -> JSON:
    if program is None:
        return None
    return {"version": _first_line(program), "sha256": sha256_of_file(program)}


def _first_line(program: Path) -> str:
    done = _asked(program, "--version")
    text = done.stdout.decode("utf-8", "replace") if done else ""
    return text.partition("\n")[0].strip()[:200]


def _takes(compiler: Path | None, flag: str) -> bool:
    if compiler is None:
        return False
    done = _asked(compiler, flag, "-E", "-x", "c", "/dev/null")
    return done is not None and done.returncode == 0


def _asked(program: Path, *argv: str) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            [program, *argv], env={"PATH": SYSTEM_PATH, "LC_ALL": "C"}, check=False,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
