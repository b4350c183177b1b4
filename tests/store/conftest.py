"""What the store's tests share: an open store in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from store.publish import Store
from tests.store.wheelshop import read_wheel


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store that verifies by reading."""
    opened = Store.open(tmp_path / "store", verifier=read_wheel)
    yield opened
    opened.close()
