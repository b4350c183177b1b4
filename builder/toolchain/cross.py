"""The cross toolchain: builds for macOS on a machine that is no Mac."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.errors import BuilderError, UnbuildableTargetError
from builder.toolchain.attempts import announced_modules, attempted, linked_modules, tool_calls
from builder.toolchain.folder import MacOS, write_folder
from builder.toolchain.headers import Probe, derive_headers, supply_headers
from builder.toolchain.macos import macos_target
from builder.toolchain.native_python import NativePython, native_python
from builder.toolchain.warm import WarmCache
from builder.toolchain.zig import Zig, cache_variables, check_binary, find_zig
from store.digest import JSON, Sha256, digest_of, digest_of_tree, parse_sha256, sha256_of_file
from store.errors import MalformedError
from store.target import Target

_LOG: Final = "tool-calls.jsonl"
_PRIVATE_CACHE: Final = "zig-cache"


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossToolchain:
    """A macOS toolchain in `folder`; implements `builder.toolchain.toolchain.Toolchain`."""

    native: NativePython
    macos: MacOS
    zig: Zig
    folder: Path
    folder_sha256: Sha256
    warm: WarmCache
    sdk: Path | None
    sdk_sha256: Sha256 | None

    @property
    def python(self) -> Path:
        """The native interpreter that runs the backend."""
        return self.native.executable

    @property
    def libpython_folder(self) -> None:
        """None: the target is portable, nothing may be linked to an interpreter."""
        return None

    @property
    def identity(self) -> Mapping[str, JSON]:
        """What enters the BuildKey. Holds no path."""
        return {
            "kind": "cross-macos",
            "compiler": self.zig.to_json(),
            "folder_sha256": self.folder_sha256,
            "build_python": self.native.full_version,
            "sdk_sha256": self.sdk_sha256,
        }

    def environment(self, scratch: Path) -> dict[str, str]:
        """The cross view for the backend hooks, with a private copy of zig's cache in `scratch`.

        Raises BuilderError when the cache cannot be made.
        """
        private = self._private_cache(scratch)
        return {
            **self._view_variables(),
            **self._compiler_variables(),
            **self._wrapper_variables(scratch),
            **cache_variables(private),
        }

    def config_settings(self, backend: str) -> dict[str, str]:
        """The cross file for meson-python; nothing for backends that read the environment."""
        if backend.partition(":")[0] == "mesonpy":
            return {"setup-args": f"--cross-file={self.folder / 'meson.cross'}"}
        return {}

    def attempted_modules(self, scratch: Path, log: Path) -> frozenset[str]:
        """Extension modules that the build tried to make, by its compiler calls and its log.

        Also notes for later builds that this target's builds use C++.
        """
        calls = list(tool_calls(scratch / _LOG))
        if any(call.get("cplusplus") is True for call in calls):
            self.warm.want_cplusplus()
        return attempted(linked_modules(iter(calls)), announced_modules(log))

    def _private_cache(self, scratch: Path) -> Path:
        private = scratch.resolve() / _PRIVATE_CACHE
        try:
            if not private.exists():
                self.warm.fill("c")
                self.warm.copy_to(private)
        except OSError as error:
            raise BuilderError(f"the compiler's cache cannot be made: {error}") from error
        return private

    def _view_variables(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(self.folder / "site"),
            "_PYTHON_HOST_PLATFORM": self.macos.host_platform,
            "_PYTHON_SYSCONFIGDATA_NAME": "_sysconfigdata__darwin_darwin",
            "MACOSX_DEPLOYMENT_TARGET": self.macos.version,
            "ARCHFLAGS": f"-arch {self.macos.target.arch}",
        }

    def _compiler_variables(self) -> dict[str, str]:
        tools = {name: shlex.quote(str(self.folder / "bin" / name)) for name in _VARIABLES.values()}
        link = "-shared -undefined dynamic_lookup"
        return {
            **{variable: tools[name] for variable, name in _VARIABLES.items()},
            "LDSHARED": f"{tools['cc']} {link}",
            "LDCXXSHARED": f"{tools['c++']} {link}",
            "CMAKE_TOOLCHAIN_FILE": str(self.folder / "toolchain.cmake"),
            "CONFIG_SITE": str(self.folder / "config.site"),
            "PKG_CONFIG": "/bin/false",
        }

    def _wrapper_variables(self, scratch: Path) -> dict[str, str]:
        return {
            "WHEELFARM_BUILD_ROOT": str(scratch.parent.resolve()),
            "WHEELFARM_NATIVE_INCLUDES": os.pathsep.join(self.native.includes),
            "WHEELFARM_NATIVE_LIB": self.native.libdir,
            "WHEELFARM_PYTHON": str(self.native.executable),
            "WHEELFARM_SDK": str(self.sdk or ""),
            "WHEELFARM_TOOL_LOG": str(scratch.resolve() / _LOG),
            "WHEELFARM_ZIG": str(self.zig.program),
        }


_VARIABLES: Final = {"CC": "cc", "CXX": "c++", "AR": "ar", "RANLIB": "ranlib"}


def cross_toolchain(
    target: Target,
    python: Path,
    cache: Path,
    *,
    headers: Path | None = None,
    sdk: Path | None = None,
) -> CrossToolchain:
    """The toolchain that builds for the macOS `target` with the native interpreter `python`.

    Its folder is made in `cache` when it is not there. `headers` is the include folder of a real
    macOS Python of the target's version; without it the headers of `python` are adapted. `sdk` is
    a macOS SDK, for sdists that need Apple's frameworks.

    Raises UnbuildableTargetError when the target, the compiler, the interpreter or the headers do
    not fit, InterpreterError when `python` is no Python, BuilderError when the compiler fails.
    """
    _check_target(target)
    zig = find_zig()
    native = native_python(python)
    _check_interpreter(native, target)
    macos = MacOS(target=target)
    warm = WarmCache(zig=zig, triple=macos.zig, folder=_warm_folder(cache.resolve(), zig, macos))
    plan = _Plan(macos=macos, native=native, headers=headers, warm=warm)
    folder, digest = _made_folder(cache.resolve(), plan)
    return CrossToolchain(
        native=native,
        macos=macos,
        zig=zig,
        folder=folder,
        folder_sha256=digest,
        warm=warm,
        sdk=sdk.resolve() if sdk else None,
        sdk_sha256=_sdk_digest(sdk.resolve()) if sdk else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What goes into one toolchain folder."""

    macos: MacOS
    native: NativePython
    headers: Path | None
    warm: WarmCache

    def inputs(self) -> dict[str, JSON]:
        """What decides the folder's content: another input gets another folder."""
        return {
            "code": _code_digests(),
            "compiler": self.warm.zig.to_json(),
            "target": [self.macos.zig, self.macos.target.interpreter.soabi],
            "headers": self._header_digests(),
        }

    def name(self) -> str:
        """The folder's name, such as ``macos-11.0-arm64-cp311-0123456789ab``."""
        target = self.macos.target
        label = f"macos-{self.macos.version}-{target.arch}-{target.interpreter.abi_tag}"
        return f"{label}-{digest_of(self.inputs())[:12]}"

    def make(self, folder: Path, work: Path) -> None:
        """Fill the empty `folder`; `work` is another, for questions to the compiler."""
        include, target = folder / "include", self.macos.target
        if self.headers is not None:
            supply_headers(self.headers, target, include)
            write_folder(folder, self.macos, "supplied")
            return
        warm = self.warm
        warm.fill("c")
        warm.copy_to(work / _PRIVATE_CACHE)
        cache = work / _PRIVATE_CACHE
        probe = Probe(zig=warm.zig, triple=warm.triple, cache=cache, work=work)
        derive_headers(self.native, target, probe, include)
        write_folder(folder, self.macos, "probe")

    def _header_digests(self) -> list[JSON]:
        if self.headers is not None:
            return ["supplied", digest_of_tree(self.headers)]
        return ["probe", digest_of_tree(self.native.include), self._config_digest()]

    def _config_digest(self) -> Sha256 | None:
        config = self.native.config_folder / "pyconfig.h"
        return sha256_of_file(config) if config.is_file() else None


def _made_folder(cache: Path, plan: _Plan) -> tuple[Path, Sha256]:
    """The folder of `plan` and its digest; made if it is not there, refused if it was changed."""
    place = cache / "toolchains" / plan.name()
    try:
        if not place.is_dir():
            _make_place(place, plan)
        made = parse_sha256((place / "sha256").read_text(encoding="utf-8"))
        found = digest_of_tree(place / "toolchain")
    except (OSError, MalformedError) as error:
        raise BuilderError(f"the toolchain in {place} cannot be used: {error}") from error
    if found != made:
        raise BuilderError(
            f"the toolchain in {place} is not as it was made", hint="delete that folder"
        )
    return place / "toolchain", found


def _make_place(place: Path, plan: _Plan) -> None:
    check_binary(plan.warm.zig)
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=place.parent) as name:
        made, work = Path(name, "made"), Path(name, "work")
        (made / "toolchain").mkdir(parents=True)
        work.mkdir()
        plan.make(made / "toolchain", work)
        (made / "sha256").write_text(digest_of_tree(made / "toolchain"), encoding="utf-8")
        _rename(made, place)


def _rename(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError as error:
        # Another process was first. What it made is the same: the name says from what.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _warm_folder(cache: Path, zig: Zig, macos: MacOS) -> Path:
    return cache / "zig" / f"{macos.zig}-{zig.package_sha256[:12]}"


def _check_target(target: Target) -> None:
    if target.baseline.kind != "macosx":
        raise UnbuildableTargetError(f"the cross toolchain builds for macOS, not {target.platform}")
    if target.build is not None:
        raise UnbuildableTargetError(
            "the cross toolchain never saw the target's interpreter build",
            hint="ask for the portable target, such as macos-11.0-arm64:cp311",
        )
    # A Target can be made without macos_target; what it refuses is refused here too.
    baseline, interpreter = target.baseline, target.interpreter
    if target != macos_target(interpreter.abi_tag, target.arch, baseline.major, baseline.minor):
        raise UnbuildableTargetError(f"no macOS interpreter is like {interpreter.soabi}")


def _check_interpreter(native: NativePython, target: Target) -> None:
    wanted = f"CPython {target.interpreter.version}"
    if (native.implementation, native.version) != ("cpython", target.interpreter.version):
        raise UnbuildableTargetError(
            f"{native.executable} is {native.implementation} {native.version}, not {wanted}",
            hint=f"building for {target.interpreter.abi_tag} takes a native {wanted}",
        )
    if native.releaselevel in ("alpha", "beta"):
        raise UnbuildableTargetError(
            f"{native.executable} is a pre-release, whose ABI is not frozen yet",
            hint=f"use a release candidate or a release of {wanted}",
        )


def _code_digests() -> list[JSON]:
    source = Path(__file__).parent
    names = ("folder.py", "headers.py", "macos.py", "pyconfig.py")
    files = [*(source / name for name in names), *sorted((source / "darwin").glob("*.*"))]
    return [[path.name, sha256_of_file(path)] for path in files]


@functools.cache
def _sdk_digest(sdk: Path) -> Sha256:
    """The digest of what compilers read of a macOS SDK. Raises UnbuildableTargetError."""
    parts = ("usr/include", "usr/lib", "System/Library/Frameworks")
    if not (sdk / "usr" / "include").is_dir():
        raise UnbuildableTargetError(
            f"{sdk} is no macOS SDK: it has no usr/include", hint="give the folder MacOSX….sdk"
        )
    return digest_of([[part, digest_of_tree(sdk / part)] for part in parts])
