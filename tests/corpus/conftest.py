"""The real wheels, one test for each, on one process for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.listed import Listed
from tests.corpus.shelf import fetch


@pytest.fixture
def path(listed: Listed) -> Path:
    """The file of the wheel that the test is about."""
    return fetch(listed)
