"""What the farm's tests share: a database of each engine, and works to queue in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.channel import parse_channel
from store.database import Database
from store.digest import sha256_of
from store.provenance import Origin, Recipe, Source
from tests.services import Postgresql
from tests.store.wheelshop import LINUX, MACOS
from workers.farm.ledger import Ledger
from workers.farm.registry import Registry, WorkerFacts
from workers.farm.work import Queue, Work, queue_of


def work(name: str = "wheaty", *, portable: bool = False, channel: str = "release") -> Work:
    """The build of ``NAME==1.0`` for one of two targets."""
    source = Source(
        name=name,
        version="1.0",
        filename=f"{name}-1.0.tar.gz",
        sha256=sha256_of(name.encode()),
        origin=Origin(kind="index", location="https://index.example/simple/", pinned=True),
    )
    target = MACOS if portable else LINUX
    return Work(
        source=source, target=target, recipe=Recipe(), channel=parse_channel(channel), epoch=0,
        pins=None,
    )  # fmt: skip


QUEUE = queue_of(work().capability, 1)
LARGER = queue_of(work().capability, 2)
CROSS = queue_of(work(portable=True).capability, 1)


def worker(name: str, *queues: Queue, slots: int = 2) -> WorkerFacts:
    """A worker that takes jobs of those queues."""
    return WorkerFacts(id=name, host="here", version="0", slots=slots, queues=queues or (QUEUE,))


@pytest.fixture(scope="session")
def empty_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated SQLite catalogue, to be copied."""
    path = tmp_path_factory.mktemp("empty") / "catalogue.sqlite"
    database = Database(path)
    database.migrate()
    database.close()
    return path


@pytest.fixture(scope="session")
def empty_postgresql(postgresql: Postgresql) -> str:
    """The name of a migrated PostgreSQL database, to be a template."""
    database = Database(postgresql.create("farm_template"))
    database.migrate()
    database.close()
    return "farm_template"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty catalogue of either engine."""
    if request.param == "sqlite":
        path = tmp_path / "catalogue.sqlite"
        shutil.copy(request.getfixturevalue("empty_sqlite"), path)
        opened = Database(path)
        yield opened
        opened.close()
        return
    server: Postgresql = request.getfixturevalue("postgresql")
    request.getfixturevalue("empty_postgresql")
    opened = Database(server.create("farm", template="farm_template"))
    yield opened
    opened.close()
    server.drop("farm")


@pytest.fixture
def ledger(database: Database) -> Ledger:
    """The ledger of an empty farm."""
    return Ledger(database)


@pytest.fixture
def registry(database: Database) -> Registry:
    """The register of a farm without workers."""
    return Registry(database)
