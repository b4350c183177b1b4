"""Fingerprint: the readable digest of a Target's identity, which an installer must match."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Final, NewType

from packaging.tags import Tag

from store.digest import JSON, Sha256, digest_of
from store.errors import MalformedError
from store.fields import Fields, read_object
from store.tags import python_tag_of, supported_tags
from store.target import Target, identity_of, target_from_identity

Fingerprint = NewType("Fingerprint", str)
"""Such as ``cp313-macosx_11_0_arm64-7f3c9a12be04``: ABI, platform, 12 digits of the digest."""

SCHEMA: Final = 1
"""Version of the canonical form. Part of the fingerprint: a new form gives new fingerprints."""

MAX_IDENTITY: Final = 64 * 1024
"""Bytes of a canonical identity that are read."""

_GRAMMAR: Final = re.compile(r"[a-z][a-z0-9_]*-[a-z0-9_]+-[0-9a-f]{12}")


def canonical_identity(target: Target) -> dict[str, JSON]:
    """What the digest is taken of: the schema version and every identity field."""
    return {"schema": SCHEMA, "identity": identity_of(target)}


def identity_digest(target: Target) -> Sha256:
    """SHA-256 of the canonical identity of `target`."""
    return digest_of(canonical_identity(target))


@functools.lru_cache(maxsize=1024)
def fingerprint_of(target: Target) -> Fingerprint:
    """The fingerprint of `target`."""
    label = f"{target.interpreter.abi_tag}-{target.platform}"
    return Fingerprint(f"{label}-{identity_digest(target)[:12]}")


def read_canonical_identity(text: str | bytes) -> Target:
    """The target whose `canonical_identity` is the JSON in `text`, as the store keeps it.

    Raises MalformedError when it is not, or has a schema version that is not SCHEMA.
    """
    fields = Fields(read_object(text, limit=MAX_IDENTITY))
    fields.number("schema", {SCHEMA})
    identity = fields.parsed_object("identity", target_from_identity)
    fields.done()
    return identity


def supported_tags_of(fingerprint: Fingerprint) -> Iterator[Tag]:
    """Every tag that an installer in the fingerprint's environment accepts, best first.

    The label says it all; the digest is not needed. Raises MalformedError when it names no target.
    """
    abi_tag, platform, _ = fingerprint.split("-")
    return supported_tags(python_tag_of(abi_tag), abi_tag, platform)


def parse_fingerprint(text: str) -> Fingerprint:
    """`text` as a fingerprint. Raises MalformedError when it does not look like one."""
    if len(text) > 200 or not _GRAMMAR.fullmatch(text):
        raise MalformedError(
            f"not a fingerprint: {text[:80]!r}", hint="`wheelfarm fingerprint` prints one"
        )
    return Fingerprint(text)
