"""The build's own Python, asked what a cross build needs to know of it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.errors import InterpreterError

_TIMEOUT_SECONDS: Final = 60
_MAX_ANSWER: Final = 64 << 10
# Runs under any Python from 3.8 on. Debian keeps the true pyconfig.h in a folder per architecture.
_QUESTION: Final = """
import json, os, sys, sysconfig
paths = sysconfig.get_paths()
include, platinclude = paths["include"], paths["platinclude"]
multiarch = sysconfig.get_config_var("MULTIARCH") or ""
deep = os.path.join(os.path.dirname(include), multiarch, os.path.basename(include))
folders = [include, platinclude, deep]
print(json.dumps({
    "executable": sys.executable,
    "implementation": sys.implementation.name,
    "version": "%d.%d" % sys.version_info[:2],
    "full_version": "%d.%d.%d" % sys.version_info[:3],
    "releaselevel": sys.version_info.releaselevel,
    "includes": folders + [os.path.realpath(folder) for folder in folders],
    "config_folder": deep if multiarch and os.path.isdir(deep) else platinclude,
    "libdir": sysconfig.get_config_var("LIBDIR") or "",
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class NativePython:
    """A Python that runs on this machine: its version and where its headers are.

    `includes` are all names of its include folders, the first being the main one; `config_folder`
    is where the pyconfig.h stands that its compiler reads; `libdir` holds its libpython.
    """

    executable: Path
    implementation: str
    version: str
    full_version: str
    releaselevel: str
    includes: tuple[str, ...]
    config_folder: Path
    libdir: str

    @property
    def include(self) -> Path:
        """The folder of Python.h."""
        return Path(self.includes[0])


def native_python(executable: Path) -> NativePython:
    """What `executable` says of itself. Raises InterpreterError when it is no Python."""
    answer = _asked(executable)
    try:
        facts = json.loads(answer)
        return NativePython(
            executable=Path(facts["executable"]),
            implementation=facts["implementation"],
            version=facts["version"],
            full_version=facts["full_version"],
            releaselevel=facts["releaselevel"],
            includes=tuple(dict.fromkeys(facts["includes"])),
            config_folder=Path(facts["config_folder"]),
            libdir=facts["libdir"],
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InterpreterError(f"{executable} does not answer as a Python does") from error


def _asked(executable: Path) -> bytes:
    try:
        done = subprocess.run(
            [str(executable), "-I", "-c", _QUESTION],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InterpreterError(f"{executable} does not run: {error}") from error
    if done.returncode or len(done.stdout) > _MAX_ANSWER:
        raise InterpreterError(
            f"{executable} does not answer as a Python does", hint="give a CPython, 3.8 or newer"
        )
    return done.stdout
