"""Fingerprint: the readable digest of a Target's identity, which an installer must match."""

from __future__ import annotations

import re
from typing import Final, NewType

from store.digest import JSON, Sha256, digest_of
from store.errors import MalformedError
from store.target import Target, identity_of

Fingerprint = NewType("Fingerprint", str)
"""Such as ``cp313-macosx_11_0_arm64-7f3c9a12be04``: ABI, platform, 12 digits of the digest."""

SCHEMA: Final = 1
"""Version of the canonical form. Part of the fingerprint: a new form gives new fingerprints."""

_GRAMMAR: Final = re.compile(r"[a-z][a-z0-9_]*-[a-z0-9_]+-[0-9a-f]{12}")


def canonical_identity(target: Target) -> dict[str, JSON]:
    """What the digest is taken of: the schema version and every identity field."""
    return {"schema": SCHEMA, "identity": identity_of(target)}


def identity_digest(target: Target) -> Sha256:
    """SHA-256 of the canonical identity of `target`."""
    return digest_of(canonical_identity(target))


def fingerprint_of(target: Target) -> Fingerprint:
    """The fingerprint of `target`."""
    label = f"{target.interpreter.abi_tag}-{target.platform}"
    return Fingerprint(f"{label}-{identity_digest(target)[:12]}")


def parse_fingerprint(text: str) -> Fingerprint:
    """`text` as a fingerprint. Raises MalformedError when it does not look like one."""
    if len(text) > 200 or not _GRAMMAR.fullmatch(text):
        raise MalformedError(
            f"not a fingerprint: {text[:80]!r}", hint="`wheelfarm fingerprint` prints one"
        )
    return Fingerprint(text)
