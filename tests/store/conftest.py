"""What the store's tests share: targets, measurements, a store of the test's own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from store.environment import Environment, parse_environment
from store.publish import Store
from store.target import Target, target_from_identity
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


@pytest.fixture
def store(tmp_path: Path, database_url: str | None) -> Iterator[Store]:
    """An empty store in ``tmp_path/store`` that verifies by reading, over each engine."""
    opened = Store.open(tmp_path / "store", database=database_url, verifier=read_wheel)
    yield opened
    opened.close()
