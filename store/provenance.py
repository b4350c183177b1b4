"""Where a wheel comes from: its Source, its Recipe, everything else that went into its build."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NewType

from store.digest import JSON, Sha256, digest_of
from store.fingerprint import Fingerprint
from store.verdict import Finding, ProofLevel

BuildKey = NewType("BuildKey", str)
"""SHA-256 (hex) of all that goes into one build: what a rebuild must match."""

BUILD_KEY_SCHEMA: Final = 1
"""Version of the canonical form of `BuildInputs`. Part of the BuildKey."""

OriginKind = Literal["index", "local", "vcs", "upload", "index-wheel"]

ADOPTED: Final = "index-wheel"
"""The kind of the origin of a wheel that an index has, and that was adopted as it is."""

OF_AN_INDEX: Final[frozenset[OriginKind]] = frozenset({"index", ADOPTED})
"""The kinds of origin that are an index: every other makes a project's name a local one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an sdist came from: an index URL, a path, or a VCS commit. ``upload`` is of a wheel
    that was built elsewhere and brought here, ``index-wheel`` of one that an index has; then the
    source is that very wheel.

    `pinned` says that a person gave the digest beforehand (``--hash=sha256:…``), so that the
    origin could not choose the bytes.
    """

    kind: OriginKind
    location: str
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An sdist by identity: normalised name (PEP 503), version (PEP 440), digest, origin."""

    name: str
    version: str
    filename: str
    sha256: Sha256
    origin: Origin

    def to_json(self) -> dict[str, JSON]:
        """The source as plain JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "filename": self.filename,
            "sha256": self.sha256,
            "origin": {
                "kind": self.origin.kind,
                "location": self.origin.location,
                "pinned": self.origin.pinned,
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """One resolved build requirement: the exact file that is installed."""

    name: str
    version: str
    filename: str
    sha256: Sha256

    def to_json(self) -> dict[str, JSON]:
        """The pin as plain JSON."""
        return {
            "name": self.name,
            "version": self.version,
            "filename": self.filename,
            "sha256": self.sha256,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What a person set for a package (see docs/settings.md). Part of the BuildKey, whole.

    `external_libraries` maps a library's file name to the reason why it may stay outside the wheel;
    `expect_extension_modules` states dotted names that must be in the wheel.
    """

    env: Mapping[str, str] = field(default_factory=dict)
    config_settings: Mapping[str, str] = field(default_factory=dict)
    build_constraints: tuple[str, ...] = ()
    extra_build_requires: tuple[str, ...] = ()
    external_libraries: Mapping[str, str] = field(default_factory=dict)
    expect_extension_modules: tuple[str, ...] = ()
    timeout_seconds: int = 3600
    silence_seconds: int = 1200

    def to_json(self) -> dict[str, JSON]:
        """The recipe as plain JSON, every field."""
        return {
            "env": dict(self.env),
            "config_settings": dict(self.config_settings),
            "build_constraints": list(self.build_constraints),
            "extra_build_requires": list(self.extra_build_requires),
            "external_libraries": dict(self.external_libraries),
            "expect_extension_modules": list(self.expect_extension_modules),
            "timeout_seconds": self.timeout_seconds,
            "silence_seconds": self.silence_seconds,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildInputs:
    """Everything that went into one build, in readable form. Its digest is the BuildKey.

    `toolchain` is the identity of compiler, headers and wrappers; `tools` are the versions of
    the programs that run the build (build, pyproject-hooks, uv). `epoch` is raised by a person
    to make every build fresh, `salt` is set by one to make some of them so.
    """

    source_name: str
    source_version: str
    source_sha256: Sha256
    target: Mapping[str, JSON]
    recipe: Recipe
    build_requirements: tuple[Pin, ...]
    toolchain: Mapping[str, JSON]
    tools: Mapping[str, str]
    epoch: int
    salt: str = ""

    def to_json(self) -> dict[str, JSON]:
        """The canonical form that the BuildKey is the digest of.

        Without a salt it has no field for one, so that the keys of builds without one stay.
        """
        return {
            "schema": BUILD_KEY_SCHEMA,
            "source": {
                "name": self.source_name,
                "version": self.source_version,
                "sha256": self.source_sha256,
            },
            "target": dict(self.target),
            "recipe": self.recipe.to_json(),
            "build_requirements": [
                pin.to_json() for pin in sorted(self.build_requirements, key=lambda pin: pin.name)
            ],
            "toolchain": dict(self.toolchain),
            "tools": dict(self.tools),
            "epoch": self.epoch,
            **({"salt": self.salt} if self.salt else {}),
        }

    @property
    def key(self) -> BuildKey:
        """The BuildKey."""
        return BuildKey(digest_of(self.to_json()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The record that a release keeps of its build.

    `built_filename` and `built_sha256` are the wheel as the backend wrote it, before repair and
    retag. `environment` holds facts that do not enter the BuildKey (machine, sandbox, duration).
    """

    source: Source
    fingerprint: Fingerprint
    inputs: BuildInputs
    built_filename: str
    built_sha256: Sha256
    log_sha256: Sha256
    log_size: int
    proof: ProofLevel
    findings: tuple[Finding, ...]
    environment: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """The record as plain JSON, as the store keeps and serves it."""
        return {
            "build_key": self.inputs.key,
            "fingerprint": self.fingerprint,
            "source": self.source.to_json(),
            "inputs": self.inputs.to_json(),
            "built": {"filename": self.built_filename, "sha256": self.built_sha256},
            "log": {"sha256": self.log_sha256, "size": self.log_size},
            "proof": self.proof,
            "findings": [finding.to_json() for finding in self.findings],
            "environment": dict(self.environment),
        }
