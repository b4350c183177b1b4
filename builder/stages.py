"""The way of one wheel through the builder: one type per stage.

`Sdist -> PreparedBuild -> BuiltWheel -> VerifiedWheel`; a stage takes only what the one before
it gives, so a wrong order does not type-check. A failed build is a result, not an exception.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from builder.toolchain.toolchain import Toolchain
from store.digest import Sha256
from store.fingerprint import Fingerprint
from store.provenance import BuildInputs, Pin, Provenance, Recipe, Source
from store.target import Target
from store.verdict import Finding, VerifiedWheel

FailureKind = Literal[
    "build", "timeout", "silence", "memory", "unsupported", "policy", "verification",
    "infrastructure",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sdist:
    """An sdist on disk whose bytes have the digest that its Source names."""

    source: Source
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRequest:
    """One build to do: everything the builder is told, and the folder it may write to.

    `pins` are the build requirements of an earlier resolution, to be installed as they are; None
    asks for a fresh one. `workspace` is an existing folder of this build's own; the log is
    written to ``workspace/build.log`` and the wheel to ``workspace/wheel/``.
    `siblings` maps the fingerprints that have a wheel of the same Source to the extension
    modules in it, for the check of expected against actual ones. `index_url` is where build
    requirements come from; None is what the environment says (UV_DEFAULT_INDEX), or uv's default.
    """

    sdist: Sdist
    target: Target
    toolchain: Toolchain
    recipe: Recipe
    pins: tuple[Pin, ...] | None
    workspace: Path
    siblings: Mapping[Fingerprint, frozenset[str]] = field(default_factory=dict)
    epoch: int = 0
    salt: str = ""
    index_url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBuild:
    """An unpacked source tree beside an isolated environment that holds the build requirements."""

    request: BuildRequest
    tree: Path
    backend: str
    environment_python: Path
    inputs: BuildInputs
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuiltWheel:
    """What the backend wrote, untouched, and what its compiler was seen to attempt."""

    prepared: PreparedBuild
    path: Path
    sha256: Sha256
    attempted_modules: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedBuild:
    """A wheel that may be published, and where it comes from."""

    wheel: VerifiedWheel
    provenance: Provenance
    log: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildFailure:
    """A build that gave no wheel: its kind, one sentence, and the first real error of its log.

    `inputs` is None when the build failed before its requirements were known.
    """

    kind: FailureKind
    message: str
    first_error: str | None
    findings: tuple[Finding, ...]
    inputs: BuildInputs | None
    log: Path
    hint: str | None = None
