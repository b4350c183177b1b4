"""A store's catalogue in each of the two engines: made once, and copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from store.publish import Store
from tests.services import Postgresql

ENGINES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, to be copied: making its tables takes the longest."""
    folder = tmp_path_factory.mktemp("migrated") / "store"
    Store.open(folder).close()
    return folder


@pytest.fixture(scope="session")
def migrated_apart(tmp_path_factory: pytest.TempPathFactory, postgresql: Postgresql) -> Path:
    """The same with its catalogue in PostgreSQL, in the database ``migrated``."""
    folder = tmp_path_factory.mktemp("migrated-apart") / "store"
    Store.open(folder, database=postgresql.create("migrated")).close()
    return folder


@contextmanager
def empty_store(request: pytest.FixtureRequest, engine: str, folder: Path) -> Iterator[str | None]:
    """What opens the empty store in FOLDER/store: None, or a URL."""
    if engine == "sqlite":
        shutil.copytree(request.getfixturevalue("migrated"), folder / "store")
        yield None
        return
    postgresql: Postgresql = request.getfixturevalue("postgresql")
    shutil.copytree(request.getfixturevalue("migrated_apart"), folder / "store")
    yield postgresql.create("store", template="migrated")
    postgresql.drop("store")


@pytest.fixture(params=ENGINES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """What opens the empty store in ``tmp_path/store``: None, or a URL. The test runs with both."""
    with empty_store(request, request.param, tmp_path) as url:
        yield url


def engine_of(request: pytest.FixtureRequest) -> str:
    """The engine that a test asks for by a fixture's parameter; without one, the one in a file."""
    engine: str = getattr(request, "param", "sqlite")
    return engine


def over_both(fixture: str) -> pytest.MarkDecorator:
    """Let a test run over each engine, which `fixture` takes as its parameter."""
    return pytest.mark.parametrize(fixture, ENGINES, indirect=True)
