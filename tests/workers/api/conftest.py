"""A farm with a server, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.store.engines import empty_store, engine_of
from tests.workers.api.place import Place


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """A farm whose server runs, over the engine that is the parameter, if there is one."""
    with empty_store(request, engine_of(request), tmp_path) as url:
        made = Place(tmp_path, url)
        made.serve()
        yield made
        if made.server is not None:
            made.stop_server()
    assert "Traceback" not in (tmp_path / "server.log").read_text()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The same, for all tests of a module that leave it as it was."""
    made = Place(tmp_path_factory.mktemp("served"))
    made.serve()
    yield made
    made.stop_server()
