"""The toolchain folder of one macOS target: made once, whole, and the same wherever it stands.

No file in it names an absolute path or a time, so its digest says all that a build sees of it.
Layout: ``target.json`` and ``sysconfig.json`` (facts), ``include/`` (Python headers), ``site/``
(the cross view), ``bin/`` and ``wrapper.py`` (compiler), ``toolchain.cmake``, ``python.cmake``,
``meson.cross``, ``config.site``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from builder.toolchain import pyconfig
from builder.toolchain.headers import HeadersOrigin
from builder.toolchain.macos import darwin_release
from store.digest import JSON
from store.target import Target

TOOLS: Final = ("ar", "c++", "cc", "install_name_tool", "ranlib", "strip")

_SITE: Final = ("_scproxy.py", "_sysconfigdata__darwin_darwin.py", "sitecustomize.py")
_ZIG_ARCH: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
_HOST_FOLDERS: Final = tuple(
    f"{root}/{name}"
    for root in ("", "/usr", "/usr/local")
    for name in (
        *("include", "lib", "lib32", "lib64"),
        *("lib/x86_64-linux-gnu", "lib/aarch64-linux-gnu"),
        *("include/x86_64-linux-gnu", "include/aarch64-linux-gnu"),
    )
)
_MESON_FAMILY: Final = {"arm64": "aarch64", "x86_64": "x86_64"}
_PROCESSOR: Final = {"arm64": "arm", "x86_64": "i386"}  # what platform.processor() says there
_CFLAGS: Final = "-fno-strict-overflow -fno-common -DNDEBUG -O3 -Wall"


@dataclass(frozen=True, slots=True, kw_only=True)
class MacOS:
    """The names that one target goes by among compilers, kernels and build systems."""

    target: Target

    @property
    def version(self) -> str:
        """The minimum OS, such as ``10.13``."""
        return f"{self.target.baseline.major}.{self.target.baseline.minor}"

    @property
    def zig(self) -> str:
        """zig's name: ``aarch64-macos.11.0``."""
        return f"{_ZIG_ARCH[self.target.arch]}-macos.{self.version}"

    @property
    def gnu(self) -> str:
        """autoconf's name: ``aarch64-apple-darwin20.0.0``."""
        return f"{_ZIG_ARCH[self.target.arch]}-apple-darwin{self.kernel}"

    @property
    def kernel(self) -> str:
        """The kernel's release."""
        return darwin_release(self.target.baseline)

    @property
    def host_platform(self) -> str:
        """What ``sysconfig.get_platform()`` says there: ``macosx-11.0-arm64``."""
        return f"macosx-{self.version}-{self.target.arch}"


def write_folder(folder: Path, macos: MacOS, headers: HeadersOrigin) -> None:
    """Complete `folder`, in which ``include/`` stands already, for the target of `macos`."""
    _write_json(folder / "target.json", target_facts(macos, headers))
    _write_json(folder / "sysconfig.json", _build_time_variables(folder, macos))
    _copy_files(folder)
    (folder / "toolchain.cmake").write_text(_cmake(macos), encoding="utf-8")
    (folder / "python.cmake").write_text(_cmake_python(macos), encoding="utf-8")
    (folder / "meson.cross").write_text(_meson(macos), encoding="utf-8")
    (folder / "config.site").write_text(_config_site(macos), encoding="utf-8")


def target_facts(macos: MacOS, headers: HeadersOrigin) -> dict[str, JSON]:
    """What ``target.json`` holds: the target, its names, and where its headers come from."""
    target = macos.target
    return {
        "arch": target.arch,
        "baseline": str(target.baseline),
        "ext_suffix": target.interpreter.ext_suffix,
        "free_threaded": target.interpreter.free_threaded,
        "headers": headers,
        "host_platform": macos.host_platform,
        "macos": macos.version,
        "python": target.interpreter.version,
        "soabi": target.interpreter.soabi,
        "uname": {
            "system": "Darwin",
            "node": "wheelfarm",
            "release": macos.kernel,
            "version": f"Darwin Kernel Version {macos.kernel}",
            "machine": target.arch,
            "processor": _PROCESSOR[target.arch],
        },
        "zig_target": macos.zig,
    }


def _write_json(path: Path, value: Mapping[str, JSON]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _copy_files(folder: Path) -> None:
    source = resources.files("builder.toolchain.darwin")
    for name in ("bin", "site"):
        (folder / name).mkdir()
    # A file where byte code would go: else the first start of Python changes the folder's digest.
    (folder / "site" / "__pycache__").touch()
    for name in _SITE:
        (folder / "site" / name).write_bytes((source / name).read_bytes())
    (folder / "wrapper.py").write_bytes((source / "wrapper.py").read_bytes())
    for tool in TOOLS:
        path = folder / "bin" / tool
        path.write_bytes((source / "tool.sh").read_bytes())
        path.chmod(0o755)


def _build_time_variables(folder: Path, macos: MacOS) -> dict[str, JSON]:
    config = (folder / "include" / "pyconfig.h").read_text(encoding="utf-8", errors="replace")
    macros = {
        name: int(text) if text.isdecimal() else text.strip('"')
        for name, text in pyconfig.macros_of(config).items()
        if text is not None
    }
    return {
        "Py_DEBUG": 0,
        "Py_ENABLE_SHARED": 0,
        "Py_GIL_DISABLED": 0,
        **macros,
        **_interpreter_variables(macos),
        **_compiler_variables(),
    }


def _interpreter_variables(macos: MacOS) -> dict[str, JSON]:
    interpreter = macos.target.interpreter
    flags = "t" if interpreter.free_threaded else ""
    library = f"libpython{interpreter.version}{flags}.a"
    return {
        "ABIFLAGS": flags,
        "BUILD_GNU_TYPE": macos.gnu,
        "CONFINCLUDEPY": "@FOLDER@/include",
        "EXE": "",
        "EXT_SUFFIX": interpreter.ext_suffix,
        "HOST_GNU_TYPE": macos.gnu,
        "INCLUDEPY": "@FOLDER@/include",
        "LDLIBRARY": library,
        "LDVERSION": f"{interpreter.version}{flags}",
        "LIBPYTHON": "",  # what extensions link: nothing. Without it Meson takes "yes"
        "LIBRARY": library,
        "MACHDEP": "darwin",
        "MACOSX_DEPLOYMENT_TARGET": macos.version,
        "MULTIARCH": "darwin",
        "PYTHONFRAMEWORK": "",
        "PYTHONFRAMEWORKPREFIX": "",
        "SOABI": interpreter.soabi,
        "VERSION": interpreter.version,
    }


def _compiler_variables() -> dict[str, JSON]:
    link = "-shared -undefined dynamic_lookup"
    return {
        "AR": "@FOLDER@/bin/ar",
        "ARFLAGS": "rcs",
        "BASECFLAGS": "",
        "BLDSHARED": f"@FOLDER@/bin/cc {link}",
        "CC": "@FOLDER@/bin/cc",
        "CCSHARED": "",
        "CFLAGS": _CFLAGS,
        # Else distutils asks the build machine for Apple's tools, and changes the flags.
        "CUSTOMIZED_OSX_COMPILER": "True",
        "CXX": "@FOLDER@/bin/c++",
        "LDCXXSHARED": f"@FOLDER@/bin/c++ {link}",
        "LDFLAGS": "",
        "LDSHARED": f"@FOLDER@/bin/cc {link}",
        "LIBM": "",
        "LIBS": "",
        "LINKFORSHARED": "",
        "OPT": "-DNDEBUG -O3 -Wall",
        "RANLIB": "@FOLDER@/bin/ranlib",
        "SHLIB_SUFFIX": ".so",
    }


def _cmake(macos: MacOS) -> str:
    return f"""\
# CMake's view of the target (cmake-toolchains(7)).
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_VERSION {macos.kernel})
set(CMAKE_SYSTEM_PROCESSOR {macos.target.arch})
set(CMAKE_OSX_DEPLOYMENT_TARGET "{macos.version}" CACHE STRING "" FORCE)
set(CMAKE_OSX_ARCHITECTURES "{macos.target.arch}" CACHE STRING "" FORCE)
set(CMAKE_OSX_SYSROOT "" CACHE STRING "" FORCE)
set(CMAKE_C_COMPILER "${{CMAKE_CURRENT_LIST_DIR}}/bin/cc")
set(CMAKE_CXX_COMPILER "${{CMAKE_CURRENT_LIST_DIR}}/bin/c++")
set(CMAKE_AR "${{CMAKE_CURRENT_LIST_DIR}}/bin/ar" CACHE FILEPATH "")
set(CMAKE_RANLIB "${{CMAKE_CURRENT_LIST_DIR}}/bin/ranlib" CACHE FILEPATH "")
set(CMAKE_STRIP "${{CMAKE_CURRENT_LIST_DIR}}/bin/strip" CACHE FILEPATH "")
set(CMAKE_INSTALL_NAME_TOOL "${{CMAKE_CURRENT_LIST_DIR}}/bin/install_name_tool" CACHE FILEPATH "")
set(CMAKE_FIND_FRAMEWORK NEVER)
set(CMAKE_FIND_APPBUNDLE NEVER)
# Libraries and headers of the build machine are not the target's; its programs are of use.
set(CMAKE_IGNORE_PATH {" ".join(_HOST_FOLDERS)})
set(CMAKE_PROJECT_TOP_LEVEL_INCLUDES "${{CMAKE_CURRENT_LIST_DIR}}/python.cmake")
"""


def _cmake_python(macos: MacOS) -> str:
    """How CMake from 3.24 on finds Python: with the suffix of the target's modules.

    FindPython asks the interpreter about a target that is not the build machine only where policy
    CMP0190 lets it, and is told how to run a target's program; ours answers for the target when it
    is run as it is. Nothing but that search is told so: what else a project wants to run of the
    target cannot be run. CMake before 4.1 does not ask at all.
    """
    return f"""\
# How CMake finds Python (Using Dependencies Guide, Dependency Providers).
if(POLICY CMP0190)
  cmake_policy(SET CMP0190 NEW)
endif()
macro(wheelfarm_find_python method name)
  if("${{name}}" MATCHES "^Python[23]?$")
    set(CMAKE_CROSSCOMPILING_EMULATOR /usr/bin/env)
    find_package(${{name}} ${{ARGN}} BYPASS_PROVIDER)
    unset(CMAKE_CROSSCOMPILING_EMULATOR)
    if(NOT ${{name}}_SOABI)
      set(${{name}}_SOABI "{macos.target.interpreter.soabi}")
    endif()
  endif()
endmacro()
cmake_language(SET_DEPENDENCY_PROVIDER wheelfarm_find_python SUPPORTED_METHODS FIND_PACKAGE)
"""


def _meson(macos: MacOS) -> str:
    return f"""\
# Meson's view of the target (Cross compilation, Machine files).
[binaries]
c = '@DIRNAME@/bin/cc'
cpp = '@DIRNAME@/bin/c++'
objc = '@DIRNAME@/bin/cc'
ar = '@DIRNAME@/bin/ar'
ranlib = '@DIRNAME@/bin/ranlib'
strip = '@DIRNAME@/bin/strip'
pkg-config = '/bin/false'

[host_machine]
system = 'darwin'
subsystem = 'macos'
kernel = 'xnu'
cpu_family = '{_MESON_FAMILY[macos.target.arch]}'
cpu = '{macos.target.arch}'
endian = 'little'

[properties]
needs_exe_wrapper = true
"""


def _config_site(macos: MacOS) -> str:
    return f"""\
# autoconf's view of the target (Setting Site Defaults): a configure that was started without
# --host builds for the target all the same.
if test -z "$host_alias"; then
  host_alias={macos.gnu}
  cross_compiling=yes
fi
ac_cv_host={macos.gnu}
ac_tool_prefix=
"""
