"""Target: what the farm builds for (interpreter, architecture, OS baseline).

A Target whose `build` is known is *exact*: it stands for one interpreter build, the one that was
measured. A Target whose `build` is None is *portable*: its interpreter build was never seen
(a cross toolchain knows the ABI, not the installation), so only wheels that bear no trace of an
interpreter build may be published for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, cast, get_args

from packaging.tags import Tag

from store.digest import JSON, Sha256, parse_sha256
from store.errors import MalformedError
from store.fields import Fields
from store.tags import python_tag_of, supported_tags

BaselineKind = Literal["macosx", "manylinux", "musllinux"]
LibpythonLink = Literal["static", "shared", "framework"]

# What the fields of an identity may look like; labels and file names are made of some of them.
ARCH_GRAMMAR: Final = r"[a-z][a-z0-9_]{1,31}"
ISA_GRAMMAR: Final = r"[a-z][a-z0-9_.-]{1,31}"
VERSION_GRAMMAR: Final = r"3\.[0-9]{1,2}(\.[0-9]{1,3}(a|b|rc)[0-9]{1,3}\+?)?"
SOABI_GRAMMAR: Final = r"[a-z][A-Za-z0-9_-]{1,99}"
SUFFIX_GRAMMAR: Final = r"\.([A-Za-z0-9_-]{1,99}\.)?(so|pyd)"
# Leading zeros would give one baseline two names.
_NUMBER: Final = r"(0|[1-9][0-9]{0,2})"

_LINKS: Final = frozenset(get_args(LibpythonLink))
_BUILD_FIELDS: Final = (
    "build.config_sha256",
    "build.details_sha256",
    "build.libpython",
    "build.libpython_name",
    "build.libpython_resolves",
)
_OS_OF: Final = {"macosx": "macos", "manylinux": "linux", "musllinux": "linux"}
_LIBC_OF: Final = {"macosx": "libsystem", "manylinux": "glibc", "musllinux": "musl"}
_SHORT: Final = {"cpython": "cp", "pypy": "pp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """What an extension module is compiled against: implementation, version and ABI.

    `version` is ``X.Y``, or the full version of a pre-release, whose ABI is not yet frozen.
    """

    implementation: str
    version: str
    soabi: str
    ext_suffix: str
    debug: bool
    free_threaded: bool
    pointer_bytes: int

    @property
    def version_info(self) -> tuple[int, int]:
        """Major and minor version."""
        major, minor = self.version.split(".")[:2]
        return int(major), int("".join(c for c in minor if c.isdigit()))

    @property
    def python_tag(self) -> str:
        """The interpreter tag of PEP 425, such as ``cp311``."""
        major, minor = self.version_info
        return f"{_SHORT.get(self.implementation, self.implementation)}{major}{minor}"

    @property
    def abi_tag(self) -> str:
        """The version-specific ABI tag of PEP 425: ``cp311``, ``cp313t``, ``pypy311_pp73``."""
        if self.implementation == "pypy":
            return "_".join(self.soabi.split("-")[:2])
        flags = ("t" if self.free_threaded else "") + ("d" if self.debug else "")
        pymalloc = "m" if self.version_info < (3, 8) else ""
        return f"{self.python_tag}{flags}{pymalloc}"


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpreterBuild:
    """Which build of an interpreter it is: two of one version need not be interchangeable.

    `libpython_name` is the install name or SONAME that the interpreter's own binary asks for,
    `libpython_resolves` whether that file is there. `config_sha256` covers the sysconfig
    variables that reach a compiler or an ABI; `build_details_sha256` the PEP 739 file.
    """

    libpython: LibpythonLink
    libpython_name: str | None
    libpython_resolves: bool
    config_sha256: Sha256
    build_details_sha256: Sha256 | None


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Baseline:
    """The oldest OS that must run the wheel: a macOS version, a glibc or a musl version."""

    kind: BaselineKind
    major: int
    minor: int

    @property
    def os(self) -> str:
        """``macos`` or ``linux``."""
        return _OS_OF[self.kind]

    @property
    def libc(self) -> str:
        """``libsystem``, ``glibc`` or ``musl``."""
        return _LIBC_OF[self.kind]

    def __str__(self) -> str:
        return f"{self.kind}_{self.major}_{self.minor}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """(interpreter, architecture, OS baseline), and the interpreter build where it is known."""

    interpreter: Interpreter
    build: InterpreterBuild | None
    arch: str
    baseline: Baseline
    isa: str | None = None

    @property
    def platform(self) -> str:
        """The narrowest platform tag that an installer on the target takes."""
        return f"{self.baseline}_{self.arch}"

    def supported_tags(self) -> Iterator[Tag]:
        """Every tag that an installer in the target's environment accepts, best first (PEP 425)."""
        return supported_tags(self.interpreter.python_tag, self.interpreter.abi_tag, self.platform)


@lru_cache(maxsize=64)
def tag_order(target: Target) -> Mapping[Tag, int]:
    """The tags that an installer on `target` takes, each with its place; the best is 0."""
    return {tag: place for place, tag in enumerate(target.supported_tags())}


def identity_of(target: Target) -> dict[str, JSON]:
    """The identity fields of `target`, flat, in the words of docs/fingerprint.md.

    Part of the fingerprint: every field here. The keys that begin with ``build.`` are
    absent for a portable target.
    """
    fields: dict[str, JSON] = {
        "arch": target.arch,
        "baseline": str(target.baseline),
        "debug": target.interpreter.debug,
        "ext_suffix": target.interpreter.ext_suffix,
        "free_threaded": target.interpreter.free_threaded,
        "implementation": target.interpreter.implementation,
        "isa": target.isa,
        "libc": target.baseline.libc,
        "os": target.baseline.os,
        "pointer_bytes": target.interpreter.pointer_bytes,
        "python": target.interpreter.version,
        "soabi": target.interpreter.soabi,
    }
    if target.build is not None:
        fields |= {
            "build.config_sha256": target.build.config_sha256,
            "build.details_sha256": target.build.build_details_sha256,
            "build.libpython": target.build.libpython,
            "build.libpython_name": target.build.libpython_name,
            "build.libpython_resolves": target.build.libpython_resolves,
        }
    return fields


def target_from_identity(identity: object) -> Target:
    """The target whose `identity_of` is `identity`, which somebody else may have written.

    Raises MalformedError, with the field's path, unless every field is there, well formed, and
    in agreement with the others.
    """
    fields = Fields(identity)
    target = Target(
        interpreter=read_interpreter(fields),
        build=_read_build(fields),
        arch=fields.text("arch", ARCH_GRAMMAR),
        baseline=fields.parsed("baseline", parse_baseline),
        isa=None if fields.absent("isa") else fields.text("isa", ISA_GRAMMAR),
    )
    for name, value in (("os", target.baseline.os), ("libc", target.baseline.libc)):
        fields.choice(name, {value})
    fields.done()
    return target


def read_interpreter(fields: Fields, version_name: str = "python") -> Interpreter:
    """The interpreter from `fields`, its version from that of `version_name`.

    Raises MalformedError, also when no ABI tag can be made of it (a PyPy with a foreign SOABI).
    """
    interpreter = Interpreter(
        implementation=fields.choice("implementation", _SHORT),
        version=fields.text(version_name, VERSION_GRAMMAR),
        soabi=fields.text("soabi", SOABI_GRAMMAR),
        ext_suffix=fields.text("ext_suffix", SUFFIX_GRAMMAR),
        debug=fields.flag("debug"),
        free_threaded=fields.flag("free_threaded"),
        pointer_bytes=fields.number("pointer_bytes", {4, 8}),
    )
    if python_tag_of(interpreter.abi_tag) != interpreter.python_tag:
        raise MalformedError(f"{interpreter.soabi!r:.80} is no SOABI of {interpreter.python_tag}")
    return interpreter


def _read_build(fields: Fields) -> InterpreterBuild | None:
    """The five fields of the interpreter build; None when all of them are absent."""
    return read_build(fields, "build.") if any(map(fields.has, _BUILD_FIELDS)) else None


def read_build(fields: Fields, prefix: str = "") -> InterpreterBuild:
    """The interpreter build from fields whose names begin with `prefix`. Raises MalformedError."""
    name, details = f"{prefix}libpython_name", f"{prefix}details_sha256"
    return InterpreterBuild(
        libpython=cast("LibpythonLink", fields.choice(f"{prefix}libpython", _LINKS)),
        libpython_name=None if fields.absent(name) else fields.text(name),
        libpython_resolves=fields.flag(f"{prefix}libpython_resolves"),
        config_sha256=fields.parsed(f"{prefix}config_sha256", parse_sha256),
        build_details_sha256=None
        if fields.absent(details)
        else fields.parsed(details, parse_sha256),
    )


def parse_baseline(text: str) -> Baseline:
    """The baseline that ``macosx_11_0``, ``manylinux_2_17`` or ``musllinux_1_2`` names.

    Raises MalformedError for anything else.
    """
    found = re.fullmatch(rf"(macosx|manylinux|musllinux)_{_NUMBER}_{_NUMBER}", text)
    if not found:
        raise MalformedError(f"not an OS baseline: {text[:80]!r}", hint="write macosx_11_0, say")
    kind, major, minor = found.groups()
    return Baseline(kind=cast("BaselineKind", kind), major=int(major), minor=int(minor))
