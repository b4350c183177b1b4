"""What was found in a wheel's bytes, and what follows from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from packaging.tags import Tag

from store.digest import JSON, Sha256

Severity = Literal["error", "warning", "note"]
Verdict = Literal["accept", "retag", "reject"]
ProofLevel = Literal["statically-verified", "link-checked", "sibling-executed", "import-proven"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found: where (member, slice), what (message, evidence), what to do (hint).

    `member` is the path in the archive; `slice` the architecture inside a Mach-O or ELF member.
    """

    check: str
    severity: Severity
    message: str
    member: str | None = None
    slice: str | None = None
    evidence: Mapping[str, JSON] = field(default_factory=dict)
    hint: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """The finding in the words of ``wheelfarm verify --json``."""
        return {
            "check": self.check,
            "severity": self.severity,
            "member": self.member,
            "slice": self.slice,
            "message": self.message,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The verdict on one wheel: `tags` are the expanded tags that hold, empty when none does."""

    filename: str
    sha256: Sha256
    verdict: Verdict
    tags: frozenset[Tag]
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedWheel:
    """A wheel on disk whose every claim was held against its bytes and accepted.

    Only `builder.verify` makes one. `content_sha256` covers the members but not the tags and
    the build tag, so the same content always gets the same name. `extension_modules` are dotted
    names without their suffix. `interpreter_bound` names the members that load libpython
    or bear another trace of one interpreter build; empty means linkage-free. `proof` is what
    reading the bytes has shown: ``statically-verified``, or ``link-checked``.
    """

    path: Path
    filename: str
    sha256: Sha256
    size: int
    content_sha256: Sha256
    name: str
    version: str
    tags: frozenset[Tag]
    requires_python: str | None
    metadata: bytes
    extension_modules: frozenset[str]
    interpreter_bound: tuple[str, ...]
    findings: tuple[Finding, ...]
    proof: ProofLevel = "statically-verified"
