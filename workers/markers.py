"""Environment markers (PEP 508) as an installer on the target would evaluate them."""

from __future__ import annotations

from typing import Final

from packaging.markers import Marker

from store.target import Target

_PLATFORM: Final = {"macos": ("darwin", "Darwin"), "linux": ("linux", "Linux")}
_IMPLEMENTATION: Final = {"cpython": "CPython", "pypy": "PyPy"}


def marker_environment(target: Target) -> dict[str, str]:
    """The marker variables of an environment on `target`.

    What a Target does not fix is given its lowest value: the micro version is 0, and the kernel's
    release and version are empty.
    """
    interpreter = target.interpreter
    major, minor = interpreter.version_info
    full = f"{major}.{minor}.0" if interpreter.version.count(".") < 2 else interpreter.version
    sys_platform, system = _PLATFORM[target.baseline.os]
    return {
        "implementation_name": interpreter.implementation,
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": target.arch,
        "platform_python_implementation": _IMPLEMENTATION.get(
            interpreter.implementation, interpreter.implementation
        ),
        "platform_release": "",
        "platform_system": system,
        "platform_version": "",
        "python_full_version": full,
        "python_version": f"{major}.{minor}",
        "sys_platform": sys_platform,
    }


def applies(marker: Marker | None, target: Target) -> bool:
    """Whether a requirement with `marker` is wanted on `target`."""
    return marker is None or marker.evaluate({**marker_environment(target), "extra": ""})
