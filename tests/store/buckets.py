"""A real server that speaks S3, moto's; buckets in it; a way to stand between it and a client."""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import obstore
import pytest
import requests
from obstore.store import S3Store

SECRET = "wheat-field-secret"
KEY = "wheat-field-key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A bucket, and the prefix in it that a test uses."""

    endpoint: str
    name: str
    prefix: str = "farm/one"

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{self.prefix}"

    def environment(self, **other: str) -> dict[str, str]:
        """What obstore reads to reach it."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            **other,
        }

    def put(self, key: str, data: bytes) -> None:
        """Write an object behind the store's back."""
        obstore.put(self._store(), key, data)

    def get(self, key: str) -> bytes:
        """The bytes of an object."""
        return obstore.get(self._store(), key).bytes().to_bytes()

    def remove(self, key: str) -> None:
        """Delete an object behind the store's back."""
        obstore.delete(self._store(), key)

    def keys(self) -> list[str]:
        """Every key under the prefix, without it."""
        page = requests.get(f"{self.endpoint}/{self.name}?list-type=2", timeout=30).text
        found = re.findall(r"<Key>([^<]*)</Key>", page)
        return sorted(key.removeprefix(f"{self.prefix}/") for key in found)

    def destroy(self) -> None:
        """Remove all of its objects, and the bucket itself."""
        obstore.delete(self._store(), self.keys())
        requests.delete(f"{self.endpoint}/{self.name}", timeout=30).raise_for_status()

    def _store(self) -> S3Store:
        return S3Store(
            self.name,
            prefix=self.prefix,
            endpoint=self.endpoint,
            access_key_id=KEY,
            secret_access_key=SECRET,
            region="us-east-1",
            client_options={"allow_http": True},
        )


def new_bucket(endpoint: str) -> Bucket:
    """An empty bucket of its own."""
    bucket = Bucket(endpoint=endpoint, name=f"wheat-{secrets.token_hex(6)}")
    requests.put(f"{endpoint}/{bucket.name}", timeout=30).raise_for_status()
    return bucket


def use(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, **other: str) -> None:
    """Let this process, and those that it starts, reach the bucket."""
    for name, value in bucket.environment(**other).items():
        monkeypatch.setenv(name, value)


@contextmanager
def s3_server(folder: Path, **environment: str) -> Iterator[str]:
    """Moto's server on a free port; its URL."""
    log = folder / "moto.log"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, stdout=file, stderr=file, env={**os.environ, **environment}
        )
    try:
        yield _address_in(log, server)
    finally:
        server.terminate()
        server.wait()


def _address_in(log: Path, server: subprocess.Popen[bytes]) -> str:
    for _ in range(1_200):
        if found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text()):
            return found[0]
        assert server.poll() is None, log.read_text()
        time.sleep(0.05)
    raise AssertionError(f"moto's server did not start: {log.read_text()}")


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


class Dam:
    """A proxy that lets `most` bytes of a connection's requests through, and then none.

    `full` is set when it holds something back.
    """

    def __init__(self, endpoint: str, most: int) -> None:
        split = urlsplit(endpoint)
        self._behind = (str(split.hostname), int(split.port or 0))
        self._most = most
        self.full = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for each in (self._listener, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._behind)
                self._open += [client, server]
                threading.Thread(target=self._pump_up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._pump, args=(server, client), daemon=True).start()

    def _pump_up(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while piece := client.recv(1 << 16):
                passed += len(piece)
                if passed > self._most:
                    self.full.set()
                    return
                server.sendall(piece)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while piece := source.recv(1 << 16):
                target.sendall(piece)
