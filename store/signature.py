"""DSSE envelopes signed with Ed25519: made, read, and held against keys.

The protocol is DSSE 1.0 (dead simple signing envelope), its signature RFC 8032's. Every signature
of an envelope must be good and of a trusted key: stricter than DSSE, which skips what it cannot
check, so that nothing unproved travels beside what is proved.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from store.digest import JSON, Sha256, canonical_json, sha256_of
from store.errors import (
    BadSignatureError,
    MalformedError,
    ProvenanceError,
    UnknownKeyError,
    UnsignedError,
)
from store.fields import Fields, read_object

LARGEST_ENVELOPE: Final = 4 << 20
"""Bytes of an envelope that is read, at most."""
_MOST_SIGNATURES: Final = 16
_URL_SAFE: Final = str.maketrans("-_", "+/")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key, and the time in which a store signed with it; None where it is not known.

    `until` None means that the key is in use.
    """

    public: Ed25519PublicKey
    since: datetime | None = None
    until: datetime | None = None

    @property
    def keyid(self) -> Sha256:
        """SHA-256 of the key as DER (SubjectPublicKeyInfo, RFC 5280)."""
        return keyid_of(self.public)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature; `keyid` is a hint of whose it is, None or empty where there is none."""

    keyid: str | None
    bytes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What an envelope holds. Nothing in it is proved."""

    payload_type: str
    payload: bytes
    signatures: tuple[Signature, ...]


def keyid_of(key: Ed25519PublicKey) -> Sha256:
    """The id of a key: SHA-256 of its DER form."""
    return sha256_of(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed: DSSE's pre-authentication encoding."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, key: Ed25519PrivateKey) -> bytes:
    """The envelope of `payload`, one line of JSON; the same key gives the same bytes."""
    signature = key.sign(pae(payload_type, payload))
    envelope: Mapping[str, JSON] = {
        "payloadType": payload_type,
        "payload": _base64(payload),
        "signatures": [{"keyid": keyid_of(key.public_key()), "sig": _base64(signature)}],
    }
    return canonical_json(envelope) + b"\n"


def read_envelope(data: bytes) -> Envelope:
    """The envelope in `data`. Fields that DSSE does not know are ignored, as it demands.

    Raises ProvenanceError when it is none.
    """
    try:
        fields = Fields(read_object(data, limit=LARGEST_ENVELOPE))
        return Envelope(
            payload_type=fields.text("payloadType"),
            payload=fields.parsed_object("payload", _decoded),
            signatures=fields.parsed_object("signatures", _signatures),
        )
    except MalformedError as error:
        raise ProvenanceError(
            f"this is no signed statement: {error.message}",
            hint="take the file that lies beside the wheel in the store, as it is",
        ) from error


def signers(envelope: Envelope, trusted: Iterable[TrustedKey]) -> tuple[TrustedKey, ...]:
    """Who signed: one of the `trusted` keys for each signature.

    Raises UnsignedError when there is no signature, UnknownKeyError and BadSignatureError when any
    one is not proved.
    """
    keys = {key.keyid: key for key in trusted}
    if not envelope.signatures:
        raise UnsignedError("the statement is not signed")
    message = pae(envelope.payload_type, envelope.payload)
    return tuple(_signer(each, message, keys) for each in envelope.signatures)


def _signer(signature: Signature, message: bytes, keys: Mapping[Sha256, TrustedKey]) -> TrustedKey:
    """The key of one signature. Its `keyid` chooses, and never proves anything."""
    if signature.keyid and signature.keyid not in keys:
        raise UnknownKeyError(
            f"signed by the key {signature.keyid[:64]}, which is not among the trusted ones",
            hint="/keys.json of the store, or `wheelfarm key export`, says which keys are its own",
        )
    for keyid, key in keys.items():
        if (signature.keyid or keyid) == keyid and _fits(key.public, signature, message):
            return key
    raise BadSignatureError(
        "a signature does not fit the statement: one of the two was changed",
        hint="do not use the wheel; ask the store for the statement again",
    )


def _fits(key: Ed25519PublicKey, signature: Signature, message: bytes) -> bool:
    try:
        key.verify(signature.bytes, message)
    except InvalidSignature:
        return False
    return True


def _signatures(value: object) -> tuple[Signature, ...]:
    if not isinstance(value, list) or len(value) > _MOST_SIGNATURES:
        raise MalformedError(f"not an array of at most {_MOST_SIGNATURES} signatures")
    return tuple(_signature(Fields(each, str(place))) for place, each in enumerate(value))


def _signature(fields: Fields) -> Signature:
    keyid = fields.text("keyid") if fields.has("keyid") and not fields.absent("keyid") else None
    return Signature(keyid=keyid, bytes=fields.parsed_object("sig", _decoded))


def _decoded(value: object) -> bytes:
    """Base64 as DSSE writes it, of the standard alphabet or the URL-safe one (RFC 4648)."""
    if not isinstance(value, str):
        raise MalformedError("not a string")
    try:
        return base64.b64decode(value.translate(_URL_SAFE), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedError(f"not base64: {error}") from error


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
