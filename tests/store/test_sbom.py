"""Bills of materials: held to CycloneDX's own schema, the same bytes each time."""

from __future__ import annotations

import copy
import json
from contextlib import closing
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from store.publish import Store
from store.release import Release
from store.sbom import purl, sbom
from tests.store.client import Client
from tests.store.wheelshop import make_wheel, publish, read_wheel

Published = tuple[Release, dict[str, Any]]
SCHEMA = JsonStrictValidator(SchemaVersion.V1_6)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    root = tmp_path_factory.mktemp("bill")
    with closing(Store.open(root / "store", verifier=read_wheel)) as store:
        release = publish(store, make_wheel(root))
        record = dict(store.catalogue.provenance(release))
        served = Client(store).get(
            f"/release/{release.fingerprint}/files/{release.filename}.cdx.json"
        )
    assert served.headers["content-type"].startswith("application/vnd.cyclonedx+json")
    assert served.content == sbom(release, record)
    return release, record


def _full(record: dict[str, Any]) -> dict[str, Any]:
    """The record of a build with requirements, vendored libraries and a bill in its wheel."""
    full = copy.deepcopy(record)
    full["inputs"]["build_requirements"] = [
        {"name": "flit", "version": "1!2+a", "filename": "flit-2.whl", "sha256": "c" * 64}
    ]
    full["environment"] = {
        "vendored": [{"path": "wheaty.libs/libz-1a.so.1", "sha256": "d" * 64}],
        "sboms": [{"path": "wheaty-1.0.dist-info/sboms/a b.cdx.json", "sha256": "e" * 64}],
    }
    return full


def _bill(release: Release, record: dict[str, Any]) -> dict[str, Any]:
    text = sbom(release, record)
    assert SCHEMA.validate_str(text.decode()) is None
    assert text == sbom(release, record)
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_schema_tells_a_bill_that_is_none(published: Published) -> None:
    bill = json.loads(sbom(*published))
    for wrong in ({**bill, "specVersion": 7}, {**bill, "odd": 1}, {**bill, "serialNumber": "x"}):
        assert SCHEMA.validate_str(json.dumps(wrong)) is not None


def test_the_wheel_is_the_main_component(published: Published) -> None:
    release, _ = published
    bill = _bill(*published)
    main = bill["metadata"]["component"]
    assert main["hashes"] == [{"alg": "SHA-256", "content": release.sha256}]
    assert (main["name"], main["version"], main["bom-ref"]) == ("wheaty", "1.0", release.filename)
    sdist, tool = bill["components"]
    assert (sdist["name"], sdist["type"], sdist["scope"]) == ("wheaty", "file", "excluded")
    assert (tool["name"], tool["version"]) == ("build", "1.4")


def test_what_went_in_is_named_by_digest(published: Published) -> None:
    release, record = published
    bill = _bill(release, _full(record))
    named = {each["name"]: each for each in bill["components"]}
    assert named["flit"]["hashes"][0]["content"] == "c" * 64
    assert PackageURL.from_string(named["flit"]["purl"]).version == "1!2+a"
    assert named["libz-1a.so.1"]["scope"] == "required"
    [edge] = bill["dependencies"]
    assert edge["dependsOn"] == ["member:wheaty.libs/libz-1a.so.1"]
    [inside] = bill["metadata"]["component"]["externalReferences"]
    assert inside["url"] == "wheaty-1.0.dist-info/sboms/a%20b.cdx.json"
    references = [each["bom-ref"] for each in bill["components"]]
    assert len(set(references)) == len(references)


def test_an_sdist_of_no_index_has_no_package_url(published: Published) -> None:
    release, record = published
    local = copy.deepcopy(record)
    local["source"]["origin"]["kind"] = "local"
    sdist, _ = _bill(release, local)["components"]
    assert "purl" not in sdist
    assert {"name": "wheelfarm:origin:kind", "value": "local"} in sdist["properties"]


def test_a_wheel_uploaded_under_its_own_name_has_one_reference(published: Published) -> None:
    release, record = published
    same = copy.deepcopy(record)
    same["source"]["filename"] = release.filename
    bill = _bill(release, same)
    assert bill["metadata"]["component"]["bom-ref"] not in {
        each["bom-ref"] for each in bill["components"]
    }


def test_another_build_has_another_number(published: Published) -> None:
    release, record = published
    import dataclasses

    other = dataclasses.replace(release, sha256="f" * 64)  # type: ignore[arg-type]
    assert _bill(release, record)["serialNumber"] != _bill(other, record)["serialNumber"]


def test_a_package_url_is_one() -> None:
    found = PackageURL.from_string(purl("zope-interface", "1.0+local", "a b.whl"))
    assert (found.type, found.name, found.version) == ("pypi", "zope-interface", "1.0+local")
    assert found.qualifiers == {"file_name": "a b.whl"}
