"""The keys of a store: for their owner alone, replaced in order, and refused where they are odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from store.errors import KeyTroubleError, MalformedError, NoSigningKeyError, UsageError
from store.keyring import KeyRing, parse_public_keys, parse_trusted, public_pem, store_id_of
from store.signature import keyid_of

STORE = "cd" * 16


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    return KeyRing(folder=tmp_path / "keys")


def test_a_key_is_for_its_owner_alone(ring: KeyRing) -> None:
    key = ring.create(STORE)
    private = ring.folder / f"{key.keyid}.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert ring.folder.stat().st_mode & 0o777 == 0o700
    signer = ring.signer()
    assert (signer.store, keyid_of(signer.key.public_key())) == (STORE, key.keyid)
    assert "PRIVATE" not in (ring.folder / "keys.json").read_text()
    with pytest.raises(UsageError, match="has keys already"):
        ring.create(STORE)


def test_there_may_be_none(ring: KeyRing) -> None:
    for ask in (ring.public, ring.signer, ring.rotate):
        with pytest.raises(NoSigningKeyError):
            ask()
    assert not ring.folder.exists()


def test_a_replaced_key_keeps_its_public_half_and_its_period(ring: KeyRing) -> None:
    old = ring.create(STORE)
    new = ring.rotate()
    first, second = ring.public().keys
    assert (first.keyid, second.keyid) == (old.keyid, new.keyid)
    assert first.until is not None
    assert second.since is not None
    assert first.since == old.since
    assert second.until is None
    assert first.until <= second.since
    assert [path.stem for path in ring.folder.glob("*.pem")] == [new.keyid]
    assert keyid_of(ring.signer().key.public_key()) == new.keyid


def test_a_key_that_leaked_is_dropped(ring: KeyRing) -> None:
    ring.create(STORE)
    new = ring.rotate(distrust=True)
    assert [key.keyid for key in ring.public().keys] == [new.keyid]


def test_a_key_that_others_may_read_is_not_used(ring: KeyRing) -> None:
    key = ring.create(STORE)
    (ring.folder / f"{key.keyid}.pem").chmod(0o640)
    with pytest.raises(KeyTroubleError, match="others may read"):
        ring.signer()


def test_a_private_key_that_is_gone_damaged_or_another(ring: KeyRing, tmp_path: Path) -> None:
    key = ring.create(STORE)
    place = ring.folder / f"{key.keyid}.pem"
    other = KeyRing(folder=tmp_path / "other")
    strange = other.folder / f"{other.create(STORE).keyid}.pem"
    for held in (strange.read_bytes(), b"-----BEGIN PRIVATE KEY-----\n", b""):
        place.write_bytes(held)
        with pytest.raises(KeyTroubleError):
            ring.signer()
    place.unlink()
    with pytest.raises(NoSigningKeyError, match="is gone"):
        ring.signer()
    assert ring.rotate()  # the way out


def _changed(change: Callable[[dict[str, Any]], object]) -> Callable[[bytes], bytes]:
    def apply(data: bytes) -> bytes:
        said = json.loads(data)
        change(said)
        return json.dumps(said).encode()

    return apply


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:-20],
        _changed(lambda said: said.update(store="x")),
        _changed(lambda said: said.update(keys=[])),
        _changed(lambda said: said.pop("keys")),
        _changed(lambda said: said["keys"][0].update(keyid="0" * 64)),
        _changed(lambda said: said["keys"][0].update(public="-----BEGIN PUBLIC KEY-----")),
        _changed(lambda said: said["keys"][0].update(since="yesterday")),
        _changed(lambda said: said["keys"][0].update(since="2026-01-01T00:00:00")),
        _changed(lambda said: said["keys"][0].update(until=None)),
    ],
)
def test_a_damaged_list_is_trouble_and_trusts_nobody(
    ring: KeyRing, damage: Callable[[bytes], bytes]
) -> None:
    ring.create(STORE)
    ring.rotate()
    place = ring.folder / "keys.json"
    place.write_bytes(damage(place.read_bytes()))
    with pytest.raises(KeyTroubleError):
        ring.public()


def test_what_is_trusted_may_be_one_key_in_pem(ring: KeyRing) -> None:
    key = ring.create(STORE)
    [read] = parse_trusted(public_pem(key).encode())
    assert read.keyid == key.keyid
    assert parse_public_keys((ring.folder / "keys.json").read_bytes()).store == STORE
    foreign = X25519PrivateKey.generate().public_key()
    pem = foreign.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for data in (pem, b"-----BEGIN nothing", b"{}"):
        with pytest.raises(MalformedError):
            parse_trusted(data)


def test_the_id_of_a_key_is_the_digest_of_its_der_form() -> None:
    # RFC 8032, section 7.1, the first test vector; DER by `openssl pkey -pubin -outform DER`.
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(seed)).public_key()
    der = bytes.fromhex("302a300506032b6570032100") + key.public_bytes_raw()
    import hashlib

    assert keyid_of(key) == hashlib.sha256(der).hexdigest()


def test_a_store_apart_signs_under_its_own_id(tmp_path: Path) -> None:
    assert len(store_id_of(tmp_path)) == 32
    said = {"store": STORE, "catalogue": "postgresql"}
    (tmp_path / "store.json").write_text(json.dumps(said))
    assert store_id_of(tmp_path) == STORE
