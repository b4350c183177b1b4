"""What went into a wheel, as a bill of materials: CycloneDX 1.6 in JSON.

Written here rather than by a library: a signed statement names the digest of the bill, so its
bytes may not change with a library's version. The tests hold it to the official JSON schema.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from store.digest import JSON, canonical_json
from store.release import Release, timestamp

MEDIA_TYPE: Final = "application/vnd.cyclonedx+json"
SUFFIX: Final = ".cdx.json"
_SPACE: Final = uuid.uuid5(uuid.NAMESPACE_URL, "urn:wheelfarm:sbom")


def sbom(release: Release, record: Mapping[str, Any]) -> bytes:
    """The bill of materials of `release`, whose record `Catalogue.provenance` gives.

    The wheel is the main component. Libraries that repair brought in are required; what the build
    alone used (the sdist, build requirements, tools) is there with the scope ``excluded``. Bills
    that are inside the wheel (PEP 770) are named, not copied. The same record gives the same bytes.
    """
    vendored = [_vendored(each) for each in _facts(record, "vendored")]
    bill: Mapping[str, JSON] = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, f'{release.build_key} {release.sha256}')}",
        "metadata": {
            "timestamp": timestamp(release.published_at),
            "tools": {"components": [{"type": "application", "name": "wheelfarm"}]},
            "component": _wheel(release, record),
        },
        "components": [*vendored, *_build_components(record)],
        "dependencies": [
            {"ref": release.filename, "dependsOn": [each["bom-ref"] for each in vendored]}
        ],
    }
    return canonical_json(bill)


def purl(name: str, version: str, filename: str) -> str:
    """The package URL of a file of a Python package index (purl type ``pypi``)."""
    return f"pkg:pypi/{quote(name)}@{quote(version, safe='')}?file_name={quote(filename, safe='')}"


def _wheel(release: Release, record: Mapping[str, Any]) -> Mapping[str, JSON]:
    bills = [
        {"type": "bom", "url": quote(each["path"]), "comment": "in the wheel (PEP 770)"}
        | {"hashes": _hashes(each["sha256"])}
        for each in _facts(record, "sboms")
    ]
    named = _package("library", release.name, release.version, release.filename, release.sha256)
    return {**named, "externalReferences": bills} if bills else named


def _build_components(record: Mapping[str, Any]) -> list[Mapping[str, JSON]]:
    inputs = record["inputs"]
    pins = [
        {**_package("library", pin["name"], pin["version"], pin["filename"], pin["sha256"])}
        | {"scope": "excluded"}
        for pin in inputs["build_requirements"]
    ]
    tools = [
        {"type": "application", "bom-ref": f"tool:{name}", "name": name, "version": version}
        | {"scope": "excluded"}
        for name, version in sorted(inputs["tools"].items())
    ]
    return [_source(record["source"]), *pins, *tools]


def _source(source: Mapping[str, Any]) -> Mapping[str, JSON]:
    """The sdist, or the wheel that was uploaded; only one from an index has a package URL."""
    named = _package(
        "file", source["name"], source["version"], source["filename"], source["sha256"]
    )
    origin = source["origin"]
    if origin["kind"] != "index":
        del named["purl"]
    said = [
        {"name": f"wheelfarm:origin:{key}", "value": str(value)}
        for key, value in sorted(origin.items())
    ]
    # A wheel may be uploaded under the very name that it is published by.
    own: dict[str, JSON] = {"bom-ref": f"source:{source['filename']}"}
    return {**named, **own, "scope": "excluded", "properties": said}


def _package(kind: str, name: str, version: str, filename: str, sha256: str) -> dict[str, JSON]:
    return {
        "type": kind,
        "bom-ref": filename,
        "name": name,
        "version": version,
        "purl": purl(name, version, filename),
        "hashes": _hashes(sha256),
    }


def _vendored(member: Mapping[str, Any]) -> Mapping[str, JSON]:
    """A library that repair put into the wheel: its own version is not known."""
    return {
        "type": "library",
        "bom-ref": f"member:{member['path']}",
        "name": member["path"].rpartition("/")[2],
        "scope": "required",
        "hashes": _hashes(member["sha256"]),
        "properties": [{"name": "wheelfarm:member", "value": member["path"]}],
    }


def _hashes(sha256: str) -> JSON:
    return [{"alg": "SHA-256", "content": sha256}]


def _facts(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of members that the build recorded; wheels of older builds have none."""
    facts: list[Mapping[str, Any]] = record["environment"].get(name, [])
    return facts
