"""What an interpreter says of itself: the facts that a build and its markers need."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.errors import InterpreterError

_SECONDS: Final = 60
_CONFIG: Final = (
    "CC", "CXX", "CFLAGS", "CCSHARED", "LDSHARED", "LDFLAGS", "EXT_SUFFIX", "SOABI",
    "LIBDIR", "INSTSONAME",
)  # fmt: skip
_ASK: Final = f"""
import json, os, platform, sys, sysconfig
v = sys.implementation.version
full = "%d.%d.%d" % tuple(v[:3])
if v.releaselevel != "final":
    full += v.releaselevel[0] + str(v.serial)
print(json.dumps({{
    "markers": {{
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }},
    "abiflags": getattr(sys, "abiflags", ""),
    "platform": sysconfig.get_platform(),
    "libc": " ".join(platform.libc_ver()).strip(),
    "config": {{k: str(sysconfig.get_config_var(k) or "") for k in {_CONFIG!r}}},
}}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class PythonFacts:
    """`markers` is the marker environment (PEP 508); `config` some sysconfig variables."""

    markers: Mapping[str, str]
    abiflags: str
    platform: str
    libc: str
    config: Mapping[str, str]

    @property
    def full_version(self) -> str:
        """Such as ``3.11.7``."""
        return self.markers["python_full_version"]


@functools.cache
def python_facts(python: Path) -> PythonFacts:
    """Ask the interpreter at `python`, once per process.

    Raises InterpreterError when it does not run, or does not answer as a Python does.
    """
    try:
        done = subprocess.run(
            [python, "-I", "-c", _ASK], env={"LANG": "C.UTF-8"}, stdin=subprocess.DEVNULL,
            capture_output=True, check=True, timeout=_SECONDS,
        )  # fmt: skip
        return PythonFacts(**json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        raise InterpreterError(
            f"{python} does not answer as a Python interpreter", hint="give the path of a Python"
        ) from error
