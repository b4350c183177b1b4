"""Real servers for tests: a PostgreSQL cluster and a Redis of the test process's own.

Each is started once for a test process, when the first test asks for it, on a free port of
127.0.0.1, without its safety against power cuts, and ends with the process whatever ends that.
`deploy/prerequisites.sh PYTHON test` installs the programs.
"""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, LiteralString

import psycopg
import pytest
import redis

INSTALL: Final = 'install them: bash deploy/prerequisites.sh "$(command -v python3)" test'
SECRET: Final = "pa55-w0rd"
"""The password of the tests' PostgreSQL user. It must never be seen in a message."""

_SECONDS: Final = 60
_ROOM: Final = 1 << 30  # bytes: several times what a cluster grows to
# The shell ends the server when this process is gone: a pipe closes, however its writer died.
_WATCHED: Final = '"$@" </dev/null & read _; kill -INT $!; wait $!'


class Server:
    """A server program that lives at most as long as this process."""

    def __init__(self, command: Sequence[str | Path], *, user: str | None, log: Path) -> None:
        self._command = ["sh", "-c", _WATCHED, "sh", *map(str, command)]
        self._user = user
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, answers: Callable[[], bool]) -> None:
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                **_identity(self._user),
            )
        ends = time.monotonic() + _SECONDS
        while not answers():
            assert time.monotonic() < ends, self._log.read_text()
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, and wait until it is gone."""
        if self._process is not None:
            self._process.communicate()
            self._process = None


class Postgresql:
    """A PostgreSQL cluster, and the URLs of databases in it.

    `loses_nothing`: what is committed survives the death of the server.
    """

    def __init__(self, folder: Path, *, loses_nothing: bool = False) -> None:
        self._programs = _postgresql_programs()
        self._folder = folder
        self._user = _unprivileged_user()
        self.port = free_port()
        self._make_cluster()
        settings = {
            "fsync": "off",
            "synchronous_commit": "on" if loses_nothing else "off",
            "full_page_writes": "off",
            "unix_socket_directories": "",
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "shared_buffers": "32MB",
            "max_wal_size": "64MB",  # it may lie in memory
            "min_wal_size": "32MB",
            # Neither UTC nor without summer time, so that a moment that loses its zone is seen.
            "timezone": "America/St_Johns",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        command: list[str | Path] = [self._programs / "postgres", "-D", folder / "data", *options]
        self._server = Server(command, user=self._user, log=folder / "server.log")

    def start(self) -> None:
        """Start the server, and wait until it takes logins."""
        self._server.start(self._answers)

    def stop(self) -> None:
        """Stop the server; every connection breaks."""
        self._server.stop()

    @property
    def pid(self) -> int:
        """The process of the server, above those of its connections."""
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def url(self, database: str = "postgres", *, password: str = SECRET) -> str:
        """The URL of a database."""
        return f"postgresql://wheelfarm:{password}@127.0.0.1:{self.port}/{database}"

    def create(
        self,
        database: LiteralString,
        *,
        template: LiteralString = "template0",
        more: LiteralString = "",
    ) -> str:
        """Make a database; give its URL."""
        # Its files copied, which costs less than to log each of their pages.
        copied = "STRATEGY file_copy" if self._version() >= 15 else ""
        self._run(f"CREATE DATABASE {database} TEMPLATE {template} {copied} {more}")
        return self.url(database)

    def drop(self, database: LiteralString) -> None:
        """Remove a database, and whoever is connected to it."""
        self._run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")

    def _version(self) -> int:
        return int((self._folder / "data" / "PG_VERSION").read_text())

    def _run(self, statement: LiteralString) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _make_cluster(self) -> None:
        if self._user is not None:
            shutil.chown(self._folder, self._user)
        secret = self._folder / "secret"
        secret.write_text(SECRET)
        help_text = subprocess.check_output([self._programs / "initdb", "--help"], text=True)
        # An order of names that is not that of their bytes, where this PostgreSQL has one.
        icu = ["--locale-provider=icu", "--icu-locale=en-US"] if "--icu-locale" in help_text else []
        command: list[str | Path] = [
            self._programs / "initdb", "--pgdata", self._folder / "data", "--username=wheelfarm",
            "--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--locale=C.UTF-8",
            "--no-sync", *icu,
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, **_identity(self._user))

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Postgresql]:
    """A running PostgreSQL cluster."""
    # Not in pytest's own folder: PostgreSQL refuses root, and another user cannot look in there.
    with tempfile.TemporaryDirectory(prefix="wheelfarm-test-", dir=_memory()) as folder:
        cluster = Postgresql(Path(folder))
        cluster.start()
        yield cluster
        cluster.stop()


@pytest.fixture
def new_database(postgresql: Postgresql) -> Iterator[str]:
    """The URL of an empty PostgreSQL database of the test's own."""
    yield postgresql.create("new_database")
    postgresql.drop("new_database")


class Redis:
    """A Redis that keeps nothing, and its URL."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        assert program, f"no redis-server; {INSTALL}"
        port = free_port()
        self.url = f"redis://127.0.0.1:{port}/0"
        command: list[str | Path] = [
            program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
            "--dir", folder,
        ]  # fmt: skip
        self._server = Server(command, user=None, log=folder / "redis.log")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        self._server.start(lambda: redis_answers(self.url))

    def stop(self) -> None:
        """Stop the server, which forgets everything."""
        self._server.stop()

    @property
    def pid(self) -> int:
        """The process of the server."""
        with redis.Redis.from_url(self.url) as client:
            return int(client.info("server")["process_id"])


@contextmanager
def running_redis() -> Iterator[str]:
    """The URL of a new Redis that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="wheelfarm-test-") as folder:
        server = Redis(Path(folder))
        server.start()
        yield server.url
        server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """The URL of a running Redis."""
    with running_redis() as url:
        yield url


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """The URL of an empty Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushall()
    return redis_server


def redis_answers(url: str) -> bool:
    """Whether a Redis is there."""
    try:
        with redis.Redis.from_url(url) as client:
            return bool(client.ping())
    except redis.ConnectionError:
        return False


def _postgresql_programs() -> Path:
    """The folder of the newest initdb: Debian has it off PATH, a folder for each version."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"),
        key=lambda path: int(path.parts[-3]) if path.parts[-3].isdigit() else 0,
    )
    on_path = shutil.which("initdb")
    programs = found[-1] if found else Path(on_path) if on_path else None
    assert programs, f"no initdb; {INSTALL}"
    return programs.parent


def _memory() -> Path | None:
    """A file system in memory with room for a cluster, if there is one.

    Each database of a test is some 300 files, made and removed: on a disk that is most of its cost.
    """
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK | os.X_OK):
        return None
    return memory if shutil.disk_usage(memory).free > _ROOM else None


def _unprivileged_user() -> str | None:
    """Whom PostgreSQL runs as: it refuses root. None stands for whoever runs the tests."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _identity(user: str | None) -> dict[str, Any]:
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "cwd": "/"}


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
