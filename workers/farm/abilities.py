"""What this machine can build for: measured when a worker starts, told to the farm as capabilities.

A word says what to offer: ``native`` (this interpreter), ``native:/path/to/python``,
``cross-macos`` (any macOS target, for every interpreter version that is here), ``all`` (everything
that is found), or the name of a target from `wheelfarm.toml`.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from builder.errors import BuilderError, InterpreterError, UnbuildableTargetError
from builder.interpreter import measure
from builder.toolchain.cross import cross_toolchain
from builder.toolchain.native import native_toolchain
from builder.toolchain.zig import find_zig
from builder.tools import tools
from store.digest import Sha256, digest_of
from store.errors import UsageError
from store.fingerprint import Fingerprint, fingerprint_of
from store.target import Target
from workers.farm.registry import ToolchainFacts
from workers.farm.stamp import forget_measured, stamp_of
from workers.farm.work import Capability, capability_of
from workers.settings import Settings
from workers.targets import BuildTarget, pyenv_interpreters, resolve_target

_LOG: Final = logging.getLogger("wheelfarm.worker")
_SECONDS_TO_LIST: Final = 60
_CROSS: Final = "cross-macos"


@dataclass(slots=True, kw_only=True)
class Abilities:
    """The targets that are ready, and the interpreters that can run backends of cross builds.

    `cross` maps an ABI tag to an interpreter of that version; toolchains for it are made when the
    first job asks. `find` finds all of it again, where that can be.
    """

    cache: Path
    ready: dict[Fingerprint, BuildTarget] = field(default_factory=dict)
    cross: dict[str, Path] = field(default_factory=dict)
    find: Callable[[], Abilities] | None = None
    _stamps: dict[Fingerprint, Sha256] = field(default_factory=dict)
    _facts: dict[Fingerprint, ToolchainFacts] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.measure_all()

    def capabilities(self) -> tuple[Capability, ...]:
        """What jobs may ask for here."""
        exact = {capability_of(target.target) for target in self.ready.values()}
        crossing = {Capability(f"{_CROSS}-{abi}") for abi in self.cross}
        return tuple(sorted(exact | crossing))

    def target(self, wanted: Target) -> BuildTarget:
        """The toolchain for `wanted`, made if need be.

        Raises UnbuildableTargetError, and what making a cross toolchain raises.
        """
        fingerprint = fingerprint_of(wanted)
        with self._making:
            if fingerprint not in self.ready:
                self.ready[fingerprint] = self._make(wanted)
                self.measure_all()
            return self.ready[fingerprint]

    def stamp(self, target: BuildTarget) -> Sha256:
        """What tells that the toolchain is what it was when it was measured."""
        return self._stamps[target.fingerprint]

    def facts(self, target: BuildTarget) -> ToolchainFacts:
        """What the farm keeps of the target's toolchain, worked out when it was made ready."""
        return self._facts[target.fingerprint]

    def all_facts(self) -> tuple[ToolchainFacts, ...]:
        """The facts of all that is ready."""
        return tuple(self._facts.values())

    def measure_all(self) -> None:
        """Remember the stamps and the facts of all that is ready."""
        for fingerprint, target in self.ready.items():
            if fingerprint not in self._facts:
                self._stamps[fingerprint] = stamp_of(target.toolchain)
                self._facts[fingerprint] = facts_of(target)

    def renew(self) -> bool:
        """Measure anew what was changed; whether that could be done."""
        if self.find is None:
            return False
        forget_measured()
        found = self.find()
        with self._making:
            self.ready, self.cross = found.ready, found.cross
            self._stamps, self._facts = found._stamps, found._facts
        return True

    def _make(self, wanted: Target) -> BuildTarget:
        python = self.cross.get(wanted.interpreter.abi_tag)
        if wanted.build is not None or wanted.baseline.os != "macos" or python is None:
            raise UnbuildableTargetError(f"this worker cannot build for {fingerprint_of(wanted)}")
        name = f"macos-{wanted.baseline.major}.{wanted.baseline.minor}-{wanted.arch}"
        toolchain = cross_toolchain(wanted, python, self.cache)
        return BuildTarget(
            name=f"{name}:{wanted.interpreter.abi_tag}", target=wanted, toolchain=toolchain
        )


def abilities_of(targets: Iterable[BuildTarget], cache: Path) -> Abilities:
    """The ability to build for just these targets."""
    return Abilities(cache=cache, ready={target.fingerprint: target for target in targets})


def find_abilities(words: Sequence[str], settings: Settings) -> Abilities:
    """What the machine can build of what `words` ask for.

    A word that names one thing must hold: raises what `resolve_target` raises. Of ``all`` and
    ``cross-macos`` it is what is found. Raises UsageError when that is nothing.
    """
    found = Abilities(cache=settings.cache, find=lambda: find_abilities(words, settings))
    for word in words:
        if word == "all":
            found.ready |= _measured(interpreters_here())
        if word in {"all", _CROSS}:
            found.cross |= _crossing()
        else:
            _offer(found, resolve_target(word, settings))
    if not found.capabilities():
        raise UsageError(
            "this machine can build nothing of what is asked for",
            hint="install an interpreter, or wheelfarm[cross] for macOS targets",
        )
    found.measure_all()
    return found


def _offer(found: Abilities, target: BuildTarget) -> None:
    found.ready[target.fingerprint] = target
    if target.target.build is None:
        found.cross.setdefault(target.target.interpreter.abi_tag, target.toolchain.python)


def facts_of(target: BuildTarget) -> ToolchainFacts:
    """What the farm keeps of a toolchain."""
    identity = dict(target.toolchain.identity)
    return ToolchainFacts(
        fingerprint=target.fingerprint,
        name=target.name,
        sha256=digest_of(identity),
        identity=identity,
        tools=tools(),
    )


def interpreters_here() -> list[Path]:
    """Every Python of this machine that uv or pyenv knows, one path for each, the running first."""
    paths = [Path(sys.executable), *_listed_by_uv(), *pyenv_interpreters()]
    by_file: dict[Path, Path] = {}
    for path in paths:
        by_file.setdefault(path.resolve(), path)
    return list(by_file.values())


def _listed_by_uv() -> Iterator[Path]:
    command = [find_uv_bin(), "python", "list", "--only-installed", "--offline", "--no-config"]
    try:
        listed = subprocess.run(
            [*command, "--output-format", "json"],
            capture_output=True, check=True, timeout=_SECONDS_TO_LIST,
        )  # fmt: skip
        yield from (Path(row["path"]) for row in json.loads(listed.stdout) if row.get("path"))
    except (subprocess.SubprocessError, ValueError) as error:
        _LOG.warning("uv lists no interpreters: %s", error)


def _measured(pythons: Iterable[Path]) -> dict[Fingerprint, BuildTarget]:
    found: dict[Fingerprint, BuildTarget] = {}
    for python in pythons:
        try:
            target = measure(python).target()
            toolchain = native_toolchain(python)
        except (InterpreterError, BuilderError) as error:
            _LOG.info("%s is left out: %s", python, error)
            continue
        name = f"native:{python}"
        found.setdefault(
            fingerprint_of(target), BuildTarget(name=name, target=target, toolchain=toolchain)
        )
    return found


def _crossing() -> dict[str, Path]:
    """ABI tag -> interpreter, where the cross compiler is installed; else nothing."""
    try:
        find_zig()
    except UnbuildableTargetError as error:
        _LOG.info("no macOS targets: %s", error)
        return {}
    measured = _measured(interpreters_here())
    return {
        each.target.interpreter.abi_tag: each.toolchain.python
        for each in reversed(measured.values())
    }
