"""Signed statements: what they say, byte for byte the same, and every lie about them refused."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from store.attestation import PAYLOAD_TYPE, attest, check_attested, statement
from store.digest import canonical_json, sha256_of
from store.errors import (
    BadSignatureError,
    KeyExpiredError,
    ProvenanceError,
    UnknownKeyError,
    UnsignedError,
    WrongStatementError,
    WrongSubjectError,
)
from store.keyring import Signer
from store.publish import Store
from store.release import Release
from store.sbom import sbom
from store.signature import TrustedKey, keyid_of, pae, read_envelope, seal
from tests.store.client import Client
from tests.store.wheelshop import make_wheel, publish, read_wheel

STORE = "ab" * 16
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = TrustedKey(public=KEY.public_key())
BOTH = (TRUSTED, TrustedKey(public=OTHER.public_key()))


@dataclass(frozen=True)
class Signed:
    """A release of a real file, its record and its statement."""

    release: Release
    record: dict[str, Any]
    envelope: bytes

    def check(self, envelope: bytes, *trusted: TrustedKey, name: str | None = None) -> object:
        keys = trusted or (TRUSTED,)
        return check_attested(envelope, keys, name or self.release.filename, self.release.sha256)

    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(read_envelope(self.envelope).payload)
        return found

    def resigned(self, said: object, kind: str = PAYLOAD_TYPE) -> bytes:
        """Another statement, with a good signature of the store's key."""
        return seal(kind, canonical_json(said), KEY)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    root = tmp_path_factory.mktemp("signed")
    with closing(Store.open(root / "store", verifier=read_wheel)) as store:
        release = publish(store, make_wheel(root))
        record = store.catalogue.provenance(release)
    signer = Signer(store=STORE, key=KEY)
    return Signed(release, dict(record), attest(release, record, signer))


def test_the_encoding_that_is_signed_is_that_of_the_standard() -> None:
    # The example of DSSE's protocol.md.
    said = pae("http://example.com/HelloWorld", b"hello world")
    assert said == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pae("é", b"") == "DSSEv1 2 é 0 ".encode()


def test_a_statement_says_what_went_in(signed: Signed) -> None:
    said, release, record = signed.said(), signed.release, signed.record
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicateType"] == "https://slsa.dev/provenance/v1"
    assert said["subject"] == [{"name": release.filename, "digest": {"sha256": release.sha256}}]
    definition, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    assert definition["externalParameters"] == {
        "source": record["source"],
        "target": {"fingerprint": release.fingerprint, "identity": record["inputs"]["target"]},
        "recipe": record["inputs"]["recipe"],
        "channel": "release",
    }
    assert definition["internalParameters"]["toolchain"] == {"kind": "native"}
    [sdist] = definition["resolvedDependencies"]
    assert sdist["digest"] == {"sha256": record["source"]["sha256"]}
    assert sdist["uri"] == "pkg:pypi/wheaty@1.0?file_name=wheaty-1.0.tar.gz"
    assert run["builder"] == {"id": f"urn:wheelfarm:store:{STORE}"}
    assert run["metadata"]["invocationId"] == release.build_key
    log, bill, _ = run["byproducts"]
    assert log["digest"] == {"sha256": record["log"]["sha256"]}
    assert bill["digest"] == {"sha256": sha256_of(sbom(release, record))}


def test_every_requirement_and_the_times_are_named(signed: Signed) -> None:
    record = copy.deepcopy(signed.record)
    pin = {"name": "flit", "version": "1+a", "filename": "flit-1+a.whl", "sha256": "c" * 64}
    record["inputs"]["build_requirements"] = [pin]
    record["environment"] = {"started_on": "2026-01-01T00:00:00Z"}
    record["source"]["origin"]["kind"] = "local"
    said: Any = statement(signed.release, record, STORE)
    sdist, flit = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "uri" not in sdist  # no index has it
    assert flit["uri"] == "pkg:pypi/flit@1%2Ba?file_name=flit-1%2Ba.whl"
    assert (flit["digest"]["sha256"], flit["annotations"]["version"]) == ("c" * 64, "1+a")
    metadata = said["predicate"]["runDetails"]["metadata"]
    assert metadata["startedOn"] == "2026-01-01T00:00:00Z"
    assert "finishedOn" not in metadata


def test_an_uploaded_wheel_is_not_said_to_be_built(signed: Signed) -> None:
    record = copy.deepcopy(signed.record)
    record["inputs"]["toolchain"] = {"kind": "upload"}
    record["source"]["origin"]["kind"] = "upload"
    envelope = attest(signed.release, record, Signer(store=STORE, key=KEY))
    said = json.loads(read_envelope(envelope).payload)
    definition = said["predicate"]["buildDefinition"]
    assert definition["buildType"] == "urn:wheelfarm:build-type:uploaded-wheel:1"
    assert "uri" not in definition["resolvedDependencies"][0]
    name, digest = signed.release.filename, signed.release.sha256
    assert check_attested(envelope, [TRUSTED], name, digest).uploaded
    assert not check_attested(signed.envelope, [TRUSTED], name, digest).uploaded


def test_the_same_key_gives_the_same_bytes_and_they_are_proved(signed: Signed) -> None:
    again = attest(signed.release, signed.record, Signer(store=STORE, key=KEY))
    assert again == signed.envelope
    assert again.count(b"\n") == 1
    proved = check_attested(
        again, [TRUSTED], signed.release.filename, signed.release.sha256
    ).to_json()
    assert proved["build_key"] == signed.release.build_key
    assert proved["keyids"] == [keyid_of(KEY.public_key())]


def test_an_unknown_field_and_the_other_alphabet_do_no_harm(signed: Signed) -> None:
    held = json.loads(signed.envelope)
    held["extra"] = [1]
    held["payload"] = held["payload"].replace("+", "-").replace("/", "_")
    held["signatures"][0]["keyid"] = None  # a hint, that is all
    assert signed.check(json.dumps(held).encode(), *BOTH)
    said = signed.said()
    said["predicate"]["runDetails"]["later"] = {"a": 1}
    assert signed.check(signed.resigned(said))


def test_another_key_is_not_trusted(signed: Signed) -> None:
    with pytest.raises(UnknownKeyError):
        signed.check(signed.envelope, TrustedKey(public=OTHER.public_key()))
    unhinted = json.loads(signed.envelope)
    del unhinted["signatures"][0]["keyid"]
    with pytest.raises(BadSignatureError):
        signed.check(json.dumps(unhinted).encode(), TrustedKey(public=OTHER.public_key()))
    with pytest.raises(UnknownKeyError):
        check_attested(signed.envelope, [], signed.release.filename, signed.release.sha256)


def test_a_signature_under_the_name_of_another_key_is_bad(signed: Signed) -> None:
    held = json.loads(signed.envelope)
    held["signatures"][0]["keyid"] = keyid_of(OTHER.public_key())
    with pytest.raises(BadSignatureError):
        signed.check(json.dumps(held).encode(), *BOTH)


def test_another_wheel_and_another_name(signed: Signed) -> None:
    with pytest.raises(WrongSubjectError, match="not the file that was signed for"):
        check_attested(signed.envelope, [TRUSTED], signed.release.filename, sha256_of(b"other"))
    with pytest.raises(WrongSubjectError, match="the statement is about"):
        signed.check(signed.envelope, name="other-1.0-py3-none-any.whl")


def _each_flipped(data: bytes) -> Iterator[bytes]:
    for place in range(0, len(data), max(1, len(data) // 60)):
        yield data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_no_bit_of_payload_or_signature_may_change(signed: Signed) -> None:
    held = json.loads(signed.envelope)
    signature = held["signatures"][0]
    for flipped in _each_flipped(base64.b64decode(held["payload"])):
        changed = {**held, "payload": base64.b64encode(flipped).decode()}
        with pytest.raises(BadSignatureError):
            signed.check(json.dumps(changed).encode())
    for flipped in _each_flipped(base64.b64decode(signature["sig"])):
        one = {**signature, "sig": base64.b64encode(flipped).decode()}
        with pytest.raises(BadSignatureError):
            signed.check(json.dumps({**held, "signatures": [one]}).encode())


def test_one_bad_signature_among_good_ones_is_bad(signed: Signed) -> None:
    held = json.loads(signed.envelope)
    good = held["signatures"][0]
    second = {"keyid": keyid_of(OTHER.public_key()), "sig": good["sig"]}
    for pair in ([good, second], [second, good]):
        with pytest.raises(BadSignatureError):
            signed.check(json.dumps({**held, "signatures": pair}).encode(), *BOTH)
    with pytest.raises(UnknownKeyError):
        signed.check(json.dumps({**held, "signatures": [good, second]}).encode())
    message = pae(PAYLOAD_TYPE, base64.b64decode(held["payload"]))
    second["sig"] = base64.b64encode(OTHER.sign(message)).decode()
    assert signed.check(json.dumps({**held, "signatures": [good, second]}).encode(), *BOTH)
    with pytest.raises(UnsignedError):
        signed.check(json.dumps({**held, "signatures": []}).encode())


def test_a_key_signs_for_nothing_that_was_published_after_its_end(signed: Signed) -> None:
    published = signed.release.published_at
    assert signed.check(signed.envelope, replace(TRUSTED, until=published))
    with pytest.raises(KeyExpiredError):
        signed.check(signed.envelope, replace(TRUSTED, until=published - timedelta(seconds=1)))
    late = replace(TRUSTED, since=datetime(2100, 1, 1, tzinfo=UTC))
    assert signed.check(signed.envelope, late)  # a new key signs anew for what is older


def _edit(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(said: dict[str, Any]) -> None:
        place: Any = said
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value

    return edit


EXTERNAL = ("predicate", "buildDefinition", "externalParameters")
METADATA = ("predicate", "runDetails", "metadata")


@pytest.mark.parametrize(
    "edit",
    [
        _edit("_type", value="https://in-toto.io/Statement/v0.1"),
        _edit("predicateType", value="https://slsa.dev/provenance/v0.2"),
        _edit("predicate", "buildDefinition", "buildType", value="urn:other"),
        _edit(*EXTERNAL, "unheard-of", value=True),
        _edit(*EXTERNAL, value=[]),
        _edit("predicate", "runDetails", "builder", "id", value="https://elsewhere.example"),
        _edit(*METADATA, "wheelfarm_publishedOn", value="2026-01-01"),
        _edit(*METADATA, "wheelfarm_publishedOn", value=None),
        _edit(*METADATA, "invocationId", value=7),
        _edit("subject", value=[]),
        _edit("subject", 0, "digest", value={"sha512": "ab"}),
    ],
)
def test_a_good_signature_under_another_form_is_refused(
    signed: Signed, edit: Callable[[dict[str, Any]], None]
) -> None:
    said = signed.said()
    edit(said)
    with pytest.raises(WrongStatementError):
        signed.check(signed.resigned(said))


def test_another_payload_type_or_two_subjects_are_refused(signed: Signed) -> None:
    said = signed.said()
    with pytest.raises(WrongStatementError, match="payloadType"):
        signed.check(signed.resigned(said, "text/plain"))
    said["subject"] *= 2
    with pytest.raises(WrongStatementError, match="exactly one wheel"):
        signed.check(signed.resigned(said))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"payloadType":"x","payload":"","signatures":{}}',
        b'{"payloadType":"x","payload":"!","signatures":[]}',
        b'{"payloadType":"x","payload":"YQ","signatures":[]}',
        b'{"payloadType":"x","payload":"","payload":"","signatures":[]}',
        b'{"payloadType":"x","payload":"","signatures":[{"keyid":"a"}]}',
        b'{"payloadType":"x","payload":"","signatures":[' + b"0," * 99 + b"0]}",
        b"[" * 100_000,
        b" " * (5 << 20),
    ],
)
def test_what_is_no_envelope_is_said_to_be_none(signed: Signed, data: bytes) -> None:
    with pytest.raises(ProvenanceError) as caught:
        signed.check(data)
    assert caught.value.code == "bad-provenance"


def test_it_is_served_beside_the_file(store: Store, tmp_path: Path) -> None:
    release = publish(store, make_wheel(tmp_path))
    client = Client(store)
    place = f"/release/{release.fingerprint}/files/{release.filename}.intoto.jsonl"
    assert client.get("/keys.json").json()["code"] == "no-signing-key"
    assert client.get(place).status_code == 404
    keys = client.app.state.keys
    key = keys.create(STORE)
    answer = client.get(place)
    assert answer.status_code == 200
    assert check_attested(answer.content, [key], release.filename, release.sha256)
    assert client.get(place, if_none_match=answer.headers["etag"]).status_code == 304
    assert client.get(place).content == answer.content
    assert [each["keyid"] for each in client.get("/keys.json").json()["keys"]] == [key.keyid]
    assert b"PRIVATE" not in client.get("/keys.json").content
    new = keys.rotate()
    assert check_attested(client.get(place).content, [new], release.filename, release.sha256)
    assert client.get(place.replace("wheaty-", "weedy-")).status_code == 404
