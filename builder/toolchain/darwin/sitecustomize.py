"""The cross view: shows the target's platform to a build that runs on another.

Python imports it at start-up, from the folder that PYTHONPATH names. It does nothing in a Python
of another version or implementation, whose tools go on seeing the machine as it is.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import sysconfig
from typing import Any, NoReturn

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _facts() -> dict[str, Any]:
    facts: dict[str, Any]
    with open(os.path.join(_FOLDER, "target.json"), encoding="utf-8") as file:
        facts = json.load(file)
    return facts


def _applies(facts: dict[str, Any]) -> bool:
    here = "{}.{}".format(*sys.version_info[:2])
    return bool(sys.implementation.name == "cpython" and here == facts["python"])


def _show(facts: dict[str, Any]) -> None:
    sys.platform = "darwin"
    sys.implementation._multiarch = "darwin"  # type: ignore[attr-defined]
    _show_system(facts)
    _show_platform(facts)
    _show_paths(os.path.join(_FOLDER, "include"))


def _show_system(facts: dict[str, Any]) -> None:
    fields = [facts["uname"][name] for name in ("system", "node", "release", "version", "machine")]
    shown = os.uname_result(fields)
    os.uname = lambda: shown
    os.confstr = _no_confstr


def _no_confstr(name: object) -> NoReturn:
    # macOS has none of the names that tell a libc's version.
    raise ValueError("unrecognized configuration name")


def _show_platform(facts: dict[str, Any]) -> None:
    fields = [facts["uname"][name] for name in ("system", "node", "release", "version", "machine")]
    if sys.version_info < (3, 9):
        fields.append(facts["uname"]["processor"])
    shown = platform.uname_result(*fields)
    platform.uname = lambda: shown
    platform.processor = lambda: facts["uname"]["processor"]
    platform.libc_ver = lambda *_args, **_names: ("", "")
    mac_ver = (facts["macos"], ("", "", ""), facts["uname"]["machine"])
    platform.mac_ver = lambda *_args, **_names: mac_ver
    platform._platform_cache.clear()  # type: ignore[attr-defined]


def _show_paths(include: str) -> None:
    for scheme in sysconfig._INSTALL_SCHEMES.values():  # type: ignore[attr-defined]
        for name in ("include", "platinclude"):
            if name in scheme:
                scheme[name] = include


def _hide() -> None:
    # The variables of the target would be read by this Python's sysconfig, too.
    for name in ("_PYTHON_HOST_PLATFORM", "_PYTHON_SYSCONFIGDATA_NAME"):
        os.environ.pop(name, None)


_target = _facts()
if _applies(_target):
    _show(_target)
else:
    _hide()
