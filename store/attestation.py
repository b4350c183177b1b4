"""Where a wheel comes from, as a signed statement: made for a release, and held against a wheel.

An in-toto Statement v1 with a SLSA provenance v1 predicate, in a DSSE envelope (`store.signature`).
Nothing of it is kept: it follows from the catalogue's record and the key in use, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from store.digest import JSON, Sha256, canonical_json, sha256_of
from store.errors import KeyExpiredError, MalformedError, WrongStatementError, WrongSubjectError
from store.fields import Fields, read_object
from store.keyring import Signer, parse_moment
from store.provenance import ADOPTED, OF_AN_INDEX
from store.release import Release, timestamp
from store.sbom import MEDIA_TYPE, SUFFIX, purl, sbom
from store.signature import LARGEST_ENVELOPE, Envelope, TrustedKey, read_envelope, seal, signers
from store.upload import UPLOAD

SUFFIX_OF_STATEMENT: Final = ".intoto.jsonl"
"""How in-toto calls a bundle of envelopes, one a line; ours holds one."""
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://slsa.dev/provenance/v1"
BUILT: Final = "urn:wheelfarm:build-type:sdist-to-wheel:1"
"""The build type of what the farm built from an sdist."""
UPLOADED: Final = "urn:wheelfarm:build-type:uploaded-wheel:1"
"""That of a wheel which was built elsewhere and brought here: nobody saw from what."""
TAKEN: Final = "urn:wheelfarm:build-type:index-wheel:1"
"""That of a wheel which an index has: it was verified here, and built by whoever put it there."""
_KINDS: Final = {UPLOAD: UPLOADED, ADOPTED: TAKEN}
_BUILDER: Final = "urn:wheelfarm:store:"
_PUBLISHED: Final = "wheelfarm_publishedOn"  # SLSA: an extension field begins with its vendor
_PROMOTED: Final = "wheelfarm_promoted"
_PARAMETERS: Final = frozenset({"source", "target", "recipe", "channel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Attested:
    """What a statement that was proved says of a wheel; `keyids` are those that signed it.

    `source` is the sdist that it was built from, or the wheel that was `uploaded`, or `adopted`
    from an index.
    """

    keyids: tuple[Sha256, ...]
    uploaded: bool
    adopted: bool
    builder: str
    build_key: str
    channel: str
    fingerprint: str
    source: str
    source_sha256: str
    published_at: datetime

    def to_json(self) -> dict[str, JSON]:
        """The facts as plain JSON."""
        return {
            "keyids": list(self.keyids),
            "uploaded": self.uploaded,
            "adopted": self.adopted,
            "builder": self.builder,
            "build_key": self.build_key,
            "channel": self.channel,
            "fingerprint": self.fingerprint,
            "source": self.source,
            "source_sha256": self.source_sha256,
            "published_at": timestamp(self.published_at),
        }


def attest(release: Release, record: Mapping[str, Any], signer: Signer) -> bytes:
    """The signed statement of `release`, whose record `Catalogue.provenance` gives; one line."""
    said = canonical_json(statement(release, record, signer.store))
    return seal(PAYLOAD_TYPE, said, signer.key)


def statement(release: Release, record: Mapping[str, Any], store: str) -> Mapping[str, JSON]:
    """The statement, not signed; `store` is the id of the store that makes it."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": release.filename, "digest": {"sha256": release.sha256}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": _definition(release, record),
            "runDetails": {
                "builder": {"id": f"{_BUILDER}{store}"},
                "metadata": _run(release, record),
                "byproducts": _byproducts(release, record),
            },
        },
    }


def check_attested(
    envelope: bytes, trusted: Iterable[TrustedKey], filename: str, sha256: Sha256
) -> Attested:
    """What the statement in `envelope` says of the wheel of that name and digest, once proved.

    Fails closed, each way with a ProvenanceError of its own: see `store.signature.signers` for
    signatures; WrongStatementError, WrongSubjectError, KeyExpiredError.
    """
    opened = read_envelope(envelope)
    _expect("payloadType", opened.payload_type, PAYLOAD_TYPE)
    keys = signers(opened, trusted)
    try:
        attested = _read(opened, keys, filename, sha256)
    except MalformedError as error:
        raise WrongStatementError(
            f"the statement is not of a form that is known here: {error.message}",
            hint="a newer wheelfarm may have made it",
        ) from error
    _check_periods(keys, attested.published_at)
    return attested


def _definition(release: Release, record: Mapping[str, Any]) -> JSON:
    source, inputs = record["source"], record["inputs"]
    return {
        "buildType": _KINDS.get(inputs["toolchain"].get("kind"), BUILT),
        "externalParameters": {
            "source": source,
            "target": {"fingerprint": release.fingerprint, "identity": inputs["target"]},
            "recipe": inputs["recipe"],
            "channel": release.channel,
        },
        "internalParameters": {key: inputs[key] for key in ("toolchain", "tools", "epoch")},
        "resolvedDependencies": [_source(source), *map(_pin, inputs["build_requirements"])],
    }


def _source(source: Mapping[str, Any]) -> JSON:
    """The sdist, or the wheel that was uploaded, as a ResourceDescriptor.

    Only one from an index has a package URL.
    """
    named = _pin(source)
    if source["origin"]["kind"] not in OF_AN_INDEX:
        del named["uri"]
    return {**named, "annotations": {"origin": source["origin"]}}


def _pin(pin: Mapping[str, Any]) -> dict[str, JSON]:
    return {
        "name": pin["filename"],
        "uri": purl(pin["name"], pin["version"], pin["filename"]),
        "digest": {"sha256": pin["sha256"]},
        "annotations": {"name": pin["name"], "version": pin["version"]},
    }


def _run(release: Release, record: Mapping[str, Any]) -> JSON:
    """Which run it was, and when; builds of before they were noted have no times."""
    facts = record["environment"]
    times = {"startedOn": facts.get("started_on"), "finishedOn": facts.get("finished_on")}
    promotion = {_PROMOTED: dict(release.promotion)} if release.promotion else {}
    return {
        "invocationId": release.build_key,
        _PUBLISHED: timestamp(release.published_at),
        **{name: time for name, time in times.items() if time is not None},
        **promotion,
    }


def _byproducts(release: Release, record: Mapping[str, Any]) -> JSON:
    built = record["built"]
    return [
        {"name": "build.log", "digest": {"sha256": record["log"]["sha256"]}},
        {
            "name": f"{release.filename}{SUFFIX}",
            "digest": {"sha256": sha256_of(sbom(release, record))},
            "mediaType": MEDIA_TYPE,
        },
        {
            "name": built["filename"],
            "digest": {"sha256": built["sha256"]},
            "annotations": {"stage": "as the build backend wrote it"},
        },
    ]


def _read(
    envelope: Envelope, keys: tuple[TrustedKey, ...], filename: str, sha256: Sha256
) -> Attested:
    fields = Fields(read_object(envelope.payload, limit=LARGEST_ENVELOPE))
    _expect("_type", fields.text("_type"), STATEMENT_TYPE)
    _expect("predicateType", fields.text("predicateType"), PREDICATE_TYPE)
    predicate = fields.inner("predicate")
    definition, run = predicate.inner("buildDefinition"), predicate.inner("runDetails")
    kind = definition.choice("buildType", (BUILT, UPLOADED, TAKEN))
    parameters = definition.parsed_object("externalParameters", _parameters)
    fields.parsed_object("subject", lambda value: _check_subject(value, filename, sha256))
    source, metadata = parameters.inner("source"), run.inner("metadata")
    return Attested(
        keyids=tuple(key.keyid for key in keys),
        uploaded=kind == UPLOADED,
        adopted=kind == TAKEN,
        builder=run.inner("builder").text("id", rf"{_BUILDER}[0-9a-f]{{32}}"),
        build_key=metadata.text("invocationId", "[0-9a-f]{64}"),
        channel=parameters.text("channel"),
        fingerprint=parameters.inner("target").text("fingerprint"),
        source=source.text("filename"),
        source_sha256=source.text("sha256", "[0-9a-f]{64}"),
        published_at=metadata.parsed(_PUBLISHED, parse_moment),
    )


def _parameters(value: object) -> Fields:
    """The external parameters: SLSA has a verifier refuse any that it does not know.

    All other unknown fields are ignored, as in-toto's parsing rules demand.
    """
    unknown = sorted(set(value) - _PARAMETERS) if isinstance(value, Mapping) else []
    if unknown:
        raise MalformedError(f"unknown parameters: {', '.join(map(repr, unknown))[:200]}")
    return Fields(value)


def _check_subject(value: object, filename: str, sha256: Sha256) -> None:
    if not isinstance(value, list) or len(value) != 1:
        raise MalformedError("a statement is about exactly one wheel")
    subject = Fields(value[0])
    name, digest = subject.text("name"), subject.inner("digest").text("sha256")
    if name != filename:
        raise WrongSubjectError(f"the statement is about {name[:200]}, not {filename[:200]}")
    if digest != sha256:
        raise WrongSubjectError(
            f"{filename} is not the file that was signed for: its sha256 is {sha256[:12]}…, "
            f"not {digest[:12]}…",
            hint="do not use it; fetch it again",
        )


def _check_periods(keys: Iterable[TrustedKey], published_at: datetime) -> None:
    """No key signs for what was published after its end.

    What is older than a key may bear its signature: a store signs anew whenever it is asked.
    """
    for key in keys:
        if key.until is not None and published_at > key.until:
            raise KeyExpiredError(
                f"published on {timestamp(published_at)}, but the key {key.keyid[:12]}… that "
                f"signed for it was in use until {timestamp(key.until)}",
                hint="do not use the wheel; ask who still has the old key",
            )


def _expect(field: str, said: str, known: str) -> None:
    if said != known:
        raise WrongStatementError(f"its {field} is {said[:100]!r}, not {known!r}")
