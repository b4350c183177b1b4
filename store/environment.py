"""Environment: what `store/probe.py` measured inside one live interpreter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, cast

from store import probe
from store.digest import JSON
from store.errors import MalformedError
from store.fields import LINE, Fields, read_object
from store.target import (
    ARCH_GRAMMAR,
    ISA_GRAMMAR,
    Baseline,
    BaselineKind,
    Interpreter,
    InterpreterBuild,
    Target,
    read_build,
    read_interpreter,
)

MAX_PROBE_JSON: Final = 64 * 1024
"""Bytes of a probe's answer that are read; a real one has some 1,200."""

# OS family, libc family -> what kind of baseline that is.
_BASELINES: Final = {
    ("linux", "glibc"): "manylinux",
    ("linux", "musl"): "musllinux",
    ("macos", "libsystem"): "macosx",
}
_NUMBER: Final = r"(0|[1-9][0-9]{0,2})"
_LIBC_VERSION: Final = rf"{_NUMBER}\.{_NUMBER}"
_MACOS_VERSION: Final = rf"{_NUMBER}(\.{_NUMBER}){{0,2}}"
_HINT: Final = "`python -I probe.py` prints a measurement"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is good to know of an environment and no part of its identity.

    `binary` is the file that runs, `executable` what Python calls itself (in a virtual environment
    the link there). `machine` is uname's word, `translated` whether Rosetta translates the process
    (None off macOS). `warnings` are sentences on what the process and its binary disagree about.
    """

    binary: str
    executable: str
    full_version: str
    libpython_path: str | None
    machine: str
    prefix: str
    translated: bool | None
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, JSON]:
        """The facts in the words of the probe."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "warnings": list(self.warnings)
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """One live interpreter, the slice of it that runs, and the OS and libc it stands on.

    `os_version` is the version of macOS, or the kernel's release. `libc_version` is ``X.Y``; None
    on macOS, where the libc has the version of the OS.
    """

    interpreter: Interpreter
    build: InterpreterBuild
    arch: str
    isa: str | None
    os: str
    os_version: str
    libc: str
    libc_version: str | None
    facts: Facts

    @property
    def baseline(self) -> Baseline:
        """The newest baseline that the environment reaches.

        macOS has ``N_0`` alone from 11 on: installers match no minor version there.
        """
        text = self.os_version if self.libc_version is None else self.libc_version
        major, minor = (*map(int, text.split(".")), 0)[:2]
        kind = cast("BaselineKind", _BASELINES[self.os, self.libc])
        minor = 0 if kind == "macosx" and major > 10 else minor
        return Baseline(kind=kind, major=major, minor=minor)

    def target(self) -> Target:
        """The exact target that the environment is itself."""
        return Target(
            interpreter=self.interpreter,
            build=self.build,
            arch=self.arch,
            baseline=self.baseline,
            isa=self.isa,
        )

    def to_json(self) -> dict[str, JSON]:
        """What is measured and is not in the target's identity: facts, OS and libc version."""
        return {
            "os": {"family": self.os, "version": self.os_version},
            "libc": {"family": self.libc, "version": self.libc_version},
            "facts": self.facts.to_json(),
        }


def parse_environment(text: str | bytes) -> Environment:
    """The environment that a probe's JSON describes; nobody vouches for who sent it.

    Raises MalformedError, with the field's path, for anything but what the probe prints, and with
    the probe's own sentence when it printed an error.
    """
    fields = Fields(read_object(text, limit=MAX_PROBE_JSON))
    _check_schema(fields)
    _refuse_error(fields)
    system, system_version, libc, libc_version = _read_platform(fields)
    environment = Environment(
        interpreter=read_interpreter(fields.inner("interpreter"), "version"),
        build=read_build(fields.inner("build")),
        arch=fields.text("arch", ARCH_GRAMMAR),
        isa=None if fields.absent("isa") else fields.text("isa", ISA_GRAMMAR),
        os=system,
        os_version=system_version,
        libc=libc,
        libc_version=libc_version,
        facts=_read_facts(fields.inner("facts")),
    )
    fields.done()
    return environment


def _check_schema(fields: Fields) -> None:
    try:
        fields.number("schema", {probe.SCHEMA})
    except MalformedError as error:
        hint = f"{_HINT}; this is for schema {probe.SCHEMA}, so take the probe of the same version"
        raise MalformedError(error.bare_message, path=error.path, hint=hint) from error


def _refuse_error(fields: Fields) -> None:
    if fields.has("error"):
        error = fields.inner("error")
        code, message = error.text("code", r"[a-z-]{1,40}"), error.text("message")
        raise MalformedError(f"the probe could not measure ({code}): {message[:300]}")


def _read_platform(fields: Fields) -> tuple[str, str, str, str | None]:
    """OS family and version, libc family and version; together they give a baseline."""
    system, libc = fields.inner("os"), fields.inner("libc")
    family = system.choice("family", {name for name, _ in _BASELINES})
    libc_family = libc.choice("family", {name for owner, name in _BASELINES if owner == family})
    libc_version = None if libc.absent("version") else libc.text("version", _LIBC_VERSION)
    if (libc_version is None) != (family == "macos"):
        raise MalformedError("is null on macOS and nowhere else", path="libc.version")
    pattern = _MACOS_VERSION if family == "macos" else LINE
    return family, system.text("version", pattern), libc_family, libc_version


def _read_facts(fields: Fields) -> Facts:
    return Facts(
        binary=fields.text("binary"),
        executable=fields.text("executable"),
        full_version=fields.text("full_version"),
        libpython_path=None if fields.absent("libpython_path") else fields.text("libpython_path"),
        machine=fields.text("machine"),
        prefix=fields.text("prefix"),
        translated=None if fields.absent("translated") else fields.flag("translated"),
        warnings=fields.lines("warnings"),
    )
