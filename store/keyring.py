"""The keys that a store signs with: one in use, and the public halves of those before it.

    FOLDER/keys.json    {"store": ID, "keys": [{"keyid", "public", "since", "until"}, …]}
    FOLDER/KEYID.pem    the private key in use (PKCS #8), for its owner alone (0600)

They are files of the machine that signs, never rows of the catalogue nor objects of the bucket: who
can read those cannot sign. `keys.json` holds no secret, and is what the server hands out.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from store.digest import JSON, Sha256, parse_sha256
from store.disk import disk_trouble, locked, write_synced
from store.errors import KeyTroubleError, MalformedError, NoSigningKeyError, UsageError
from store.fields import Fields, read_object
from store.marker import read_marker
from store.release import timestamp
from store.signature import TrustedKey, keyid_of

FOLDER: Final = "keys"
"""Where the keys are in the store's folder, unless a setting says otherwise."""
_LIST: Final = "keys.json"
_LARGEST: Final = 1 << 20
_MOST_KEYS: Final = 1_000
_ID: Final = "[0-9a-f]{32}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKeys:
    """What `keys.json` says: the id of the store, and its keys, the one in use last."""

    store: str
    keys: tuple[TrustedKey, ...]

    def to_json(self) -> dict[str, JSON]:
        """The list as plain JSON."""
        return {"store": self.store, "keys": [_key_json(key) for key in self.keys]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """The key in use, with the store's id."""

    store: str
    key: Ed25519PrivateKey


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRing:
    """The keys in one folder, which need not be there yet.

    Every method raises KeyTroubleError for files that are not what they should be, StoreError for
    trouble with the disk.
    """

    folder: Path

    def public(self) -> PublicKeys:
        """The public keys. Raises NoSigningKeyError when there are none."""
        path = self.folder / _LIST
        with disk_trouble("read", path):
            if not path.exists():
                raise NoSigningKeyError(
                    f"there are no keys in {self.folder}", hint="`wheelfarm key create` makes one"
                )
            held = _read(path)
        try:
            return parse_public_keys(held)
        except MalformedError as error:
            raise KeyTroubleError(
                f"{path} is no list of keys: {error.message}", hint="restore it from a backup"
            ) from error

    def signer(self) -> Signer:
        """The key in use. Raises NoSigningKeyError when there is none."""
        held = self.public()
        return Signer(store=held.store, key=self._private(held.keys[-1]))

    def create(self, store: str) -> TrustedKey:
        """Make the first key, of the store of that id. Raises UsageError when there is one."""
        with disk_trouble("write to", self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked(self.folder):
            if (self.folder / _LIST).exists():
                raise UsageError(
                    f"{self.folder} has keys already", hint="`wheelfarm key rotate` makes a new one"
                )
            return self._begin(store, ())

    def rotate(self, *, distrust: bool = False) -> TrustedKey:
        """Make a new key, and end the one in use: its private half is removed.

        Its public half is kept with the time until which it was in use; with `distrust` it is
        dropped, and nothing that it signed is believed any more. Raises NoSigningKeyError.
        """
        self.public()
        with locked(self.folder):
            held = self.public()
            *older, last = held.keys
            ended = [] if distrust else [replace(last, until=_now())]
            new = self._begin(held.store, (*older, *ended))
            with disk_trouble("write to", self.folder):
                self._place(last.keyid).unlink(missing_ok=True)
        return new

    def copy_to(self, other: KeyRing) -> PublicKeys:
        """Have `other`, which has no keys or these very ones, hold the same; give its public ones.

        Raises NoSigningKeyError when there are none here, UsageError when `other` has its own.
        """
        with disk_trouble("write to", other.folder):
            other.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.public()
        with locked(self.folder):  # so that the list and the key are of one moment
            held = self.public()
            pem = _pem(self._private(held.keys[-1]))
        if (other.folder / _LIST).exists() and other.public() != held:
            raise UsageError(
                f"{other.folder} has keys of its own",
                hint="move them away; or leave the others out: --without-keys",
            )
        other._write_down(held, pem)
        return held

    def _begin(self, store: str, before: tuple[TrustedKey, ...]) -> TrustedKey:
        """A new key after those `before`; on disk before the list names it."""
        private = Ed25519PrivateKey.generate()
        key = TrustedKey(public=private.public_key(), since=_now())
        self._write_down(PublicKeys(store=store, keys=(*before, key)), _pem(private))
        return key

    def _write_down(self, held: PublicKeys, pem: bytes) -> None:
        with disk_trouble("write to", self.folder):
            write_synced(self._place(held.keys[-1].keyid), pem, 0o600)
            said = json.dumps(held.to_json(), indent=1).encode() + b"\n"
            write_synced(self.folder / _LIST, said, 0o644)

    def _private(self, key: TrustedKey) -> Ed25519PrivateKey:
        path = self._place(key.keyid)
        with disk_trouble("read", path):
            if not path.exists():
                raise NoSigningKeyError(
                    f"the private key {path} is gone",
                    hint="restore it from a backup, or make a new one: `wheelfarm key rotate`",
                )
            _check_private(path)
            pem = _read(path)
        return _parse_private(pem, key, path)

    def _place(self, keyid: Sha256) -> Path:
        return self.folder / f"{keyid}.pem"


def store_id_of(folder: Path) -> str:
    """The id of the store in `folder`, a new one where it has none yet (`store.marker`)."""
    marker = read_marker(folder)
    return marker.store if marker else uuid.uuid4().hex


def parse_public_keys(data: bytes) -> PublicKeys:
    """The list of keys in `data`, as `keys.json` has it. Raises MalformedError."""
    fields = Fields(read_object(data, limit=_LARGEST))
    store = fields.text("store", _ID)
    return PublicKeys(store=store, keys=fields.parsed_object("keys", _parse_keys))


def parse_trusted(data: bytes) -> tuple[TrustedKey, ...]:
    """The keys of a file that somebody trusts: a list as of `keys.json`, or one public key in PEM.

    Raises MalformedError when it is neither, or its key is none of Ed25519.
    """
    if data.lstrip().startswith(b"-----BEGIN"):
        return (TrustedKey(public=_parse_pem(data)),)
    return parse_public_keys(data).keys


def public_pem(key: TrustedKey) -> str:
    """The public key in PEM (SubjectPublicKeyInfo)."""
    return key.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def _parse_keys(value: object) -> tuple[TrustedKey, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_KEYS:
        raise MalformedError(f"not an array of 1 to {_MOST_KEYS} keys")
    keys = tuple(_parse_key(Fields(each, str(place))) for place, each in enumerate(value))
    _check_periods(keys)
    return keys


def _check_periods(keys: Iterable[TrustedKey]) -> None:
    """Only the last key may be in use; an older one without an end would be trusted for ever."""
    *older, _ = keys
    if any(key.until is None for key in older):
        raise MalformedError("a key that is not the last one has no end")


def _parse_key(fields: Fields) -> TrustedKey:
    public = fields.parsed_object("public", _parse_pem)
    if fields.parsed("keyid", parse_sha256) != keyid_of(public):
        raise MalformedError("the id is that of another key")
    since = fields.parsed("since", parse_moment)
    until = None if fields.absent("until") else fields.parsed("until", parse_moment)
    return TrustedKey(public=public, since=since, until=until)


def _parse_pem(value: object) -> Ed25519PublicKey:
    pem = value.encode() if isinstance(value, str) else value
    try:
        key = load_pem_public_key(pem) if isinstance(pem, bytes) else None
    except (ValueError, UnsupportedAlgorithm) as error:
        raise MalformedError("not a public key in PEM") from error
    if not isinstance(key, Ed25519PublicKey):
        raise MalformedError("not a public key of Ed25519")
    return key


def parse_moment(text: str) -> datetime:
    """The moment that RFC 3339 writes as `text`. Raises MalformedError, also without a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise MalformedError(f"not a moment: {text[:40]!r}") from error
    if moment.tzinfo is None:
        raise MalformedError(f"a moment without a time zone: {text[:40]!r}")
    return moment


def _parse_private(pem: bytes, key: TrustedKey, path: Path) -> Ed25519PrivateKey:
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyTroubleError(f"{path} is no private key", hint="restore it") from error
    if not isinstance(private, Ed25519PrivateKey) or keyid_of(private.public_key()) != key.keyid:
        raise KeyTroubleError(f"{path} is another key than {_LIST} says", hint="restore it")
    return private


def _pem(private: Ed25519PrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _check_private(path: Path) -> None:
    mode = path.stat().st_mode
    if mode & 0o077:
        raise KeyTroubleError(
            f"others may read the private key {path} (mode {mode & 0o777:o})",
            hint="make a new one with `wheelfarm key rotate --distrust`, "
            "or `chmod 600` it if nobody else has been on this machine",
        )


def _key_json(key: TrustedKey) -> JSON:
    return {
        "keyid": key.keyid,
        "public": public_pem(key),
        "since": timestamp(key.since) if key.since else None,
        "until": timestamp(key.until) if key.until else None,
    }


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_LARGEST + 1)


def _now() -> datetime:
    return datetime.now(UTC)
