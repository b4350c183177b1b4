"""The cross view: shows the target's platform to a build that runs on another.

Python imports it at start-up, from the folder that PYTHONPATH names. It does nothing in a Python
of another version or implementation, whose tools go on seeing the machine as it is.
"""

import json
import os
import platform
import sys
import sysconfig

_FOLDER = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _facts():
    with open(os.path.join(_FOLDER, "target.json"), encoding="utf-8") as file:
        return json.load(file)


def _applies(facts):
    here = "{}.{}".format(*sys.version_info[:2])
    return sys.implementation.name == "cpython" and here == facts["python"]


def _show(facts):
    sys.platform = "darwin"
    sys.implementation._multiarch = "darwin"
    _show_system(facts)
    _show_platform(facts)
    _show_paths(os.path.join(_FOLDER, "include"))


def _show_system(facts):
    fields = [facts["uname"][name] for name in ("system", "node", "release", "version", "machine")]
    shown = os.uname_result(fields)
    os.uname = lambda: shown
    os.confstr = _no_confstr


def _no_confstr(name):
    # macOS has none of the names that tell a libc's version.
    raise ValueError("unrecognized configuration name")


def _show_platform(facts):
    fields = [facts["uname"][name] for name in ("system", "node", "release", "version", "machine")]
    if sys.version_info < (3, 9):
        fields.append(facts["uname"]["processor"])
    shown = platform.uname_result(*fields)
    platform.uname = lambda: shown
    platform.processor = lambda: facts["uname"]["processor"]
    platform.libc_ver = lambda *_args, **_names: ("", "")
    mac_ver = (facts["macos"], ("", "", ""), facts["uname"]["machine"])
    platform.mac_ver = lambda *_args, **_names: mac_ver
    platform._platform_cache.clear()


def _show_paths(include):
    for scheme in sysconfig._INSTALL_SCHEMES.values():
        for name in ("include", "platinclude"):
            if name in scheme:
                scheme[name] = include


def _hide():
    # The variables of the target would be read by this Python's sysconfig, too.
    for name in ("_PYTHON_HOST_PLATFORM", "_PYTHON_SYSCONFIGDATA_NAME"):
        os.environ.pop(name, None)


_target = _facts()
if _applies(_target):
    _show(_target)
else:
    _hide()
