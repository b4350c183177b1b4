"""What the store's tests share: stores and one with wheels in it; targets and measurements."""

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
from tests.store.wheelshop import read_wheel

GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture(scope="session")
def _migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to be copied: making its tables takes the longest."""
    folder = tmp_path_factory.mktemp("migrated") / "store"
    Store.open(folder).close()
    return folder


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
