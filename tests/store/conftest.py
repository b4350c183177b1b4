"""What the store's tests share: targets, measurements, a store of the test's own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.environment import Environment, parse_environment
from store.publish import Store
from store.target import Target, target_from_identity
from tests.store.buckets import Bucket, new_bucket, s3_server, use
from tests.store.wheelshop import read_wheel

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """The frozen fingerprints: name -> fingerprint, digest, identity."""
    found: dict[str, Any] = json.loads((GOLDEN / "fingerprints.json").read_text())
    return found


@pytest.fixture
def exact(golden: dict[str, Any]) -> Target:
    """An exact Linux target."""
    return target_from_identity(golden["linux, shared libpython"]["identity"])


@pytest.fixture
def portable(golden: dict[str, Any]) -> Target:
    """The portable target of the same interpreter."""
    return target_from_identity(golden["linux, portable"]["identity"])


@pytest.fixture
def answer() -> dict[str, Any]:
    """What the probe prints on a Mac: a new copy for each test, to be changed."""
    found: dict[str, Any] = json.loads((GOLDEN / "probe-macos.json").read_text())
    return found


@pytest.fixture
def mac(answer: dict[str, Any]) -> Environment:
    """The environment of that Mac."""
    return parse_environment(json.dumps(answer))


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to be copied: making its tables takes the longest."""
    folder = tmp_path_factory.mktemp("migrated") / "store"
    Store.open(folder).close()
    return folder


@pytest.fixture
def store(tmp_path: Path, migrated: Path) -> Iterator[Store]:
    """An empty store in ``tmp_path/store`` that verifies by reading."""
    shutil.copytree(migrated, tmp_path / "store")
    opened = Store.open(tmp_path / "store", verifier=read_wheel)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server that speaks S3 and believes everyone."""
    with s3_server(tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """An empty bucket that this process can reach."""
    made = new_bucket(s3_endpoint)
    use(made, monkeypatch)
    return made
