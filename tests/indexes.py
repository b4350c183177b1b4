"""A package index of the test's own: a real HTTP server (PEP 691) over real wheels."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from packaging.utils import canonicalize_name

from store.digest import sha256_of, sha256_of_file

OLD = "2020-01-01T00:00:00.000000Z"
"""An upload time that no cool-down minds."""
_JSON = "application/vnd.pypi.simple.v1+json"


@dataclass
class Index:
    """What the index has, what is wrong with it, and what it was asked for.

    `down`: every answer is 503. `slow` is how many seconds each file takes, `slow_pages` each page.
    """

    folder: Path
    url: str = ""
    files: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    down: bool = False
    slow: float = 0.0
    slow_pages: float = 0.0
    running: int = 0
    most_running: int = 0

    def add(self, wheel: Path, *, name: str | None = None, **told: Any) -> dict[str, Any]:
        """Offer a wheel, by its own name or as the file `name`; `told` beats what is true."""
        name = name or wheel.name
        place = self.folder / str(len(list(self.folder.iterdir())))
        place.write_bytes(wheel.read_bytes())
        row: dict[str, Any] = {
            "filename": name,
            "url": f"/files/{place.name}/{wheel.name}",
            "hashes": {"sha256": sha256_of_file(place)},
            "size": place.stat().st_size,
            "upload-time": OLD,
            **{key.replace("_", "-"): value for key, value in told.items()},
        }
        if metadata := _metadata(place):
            row.setdefault("core-metadata", {"sha256": sha256_of(metadata)})
        row = {key: value for key, value in row.items() if value is not None}
        project = canonicalize_name(name.split("-")[0])
        self.files.setdefault(project, []).append(row)
        return row

    def drop(self, project: str) -> None:
        """Have the project no more."""
        del self.files[project]

    def fetched(self) -> list[str]:
        """The wheels that were asked for, in order."""
        return [path for path in self.asked if path.endswith(".whl")]

    def answer(self, path: str) -> tuple[int, str, bytes]:
        """Status, media type and body."""
        self.asked.append(path)
        parts = path.strip("/").split("/")
        if self.down:
            return 503, "text/plain", b"away"
        if parts[0] == "files":
            time.sleep(self.slow)
            place = self.folder / parts[1]
            body = _metadata(place) if path.endswith(".metadata") else place.read_bytes()
            return 200, "application/octet-stream", body or b""
        time.sleep(self.slow_pages)
        if len(parts) == 2 and parts[1] in self.files:
            files = self.files[parts[1]]
            page = {"meta": {"api-version": "1.1"}, "name": parts[1], "files": files}
            return 200, _JSON, json.dumps(page).encode()
        return 404, "text/plain", b"not found"


@contextmanager
def index_of(folder: Path) -> Iterator[Index]:
    """An index that listens on 127.0.0.1 while the ``with`` block lasts."""
    folder.mkdir(parents=True)
    index = Index(folder=folder)

    def answer(path: str, _headers: Message) -> tuple[int, str, bytes]:
        index.running += 1
        index.most_running = max(index.most_running, index.running)
        try:
            return index.answer(path)
        finally:
            index.running -= 1

    with answering(answer) as url:
        index.url = f"{url}simple/"
        yield index


@contextmanager
def answering(answer: Callable[[str, Message], tuple[int, str, bytes]]) -> Iterator[str]:
    """A server whose answers to GET are what `answer` says of path and headers; gives its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = answer(self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=[0.02])
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def _metadata(wheel: Path) -> bytes | None:
    try:
        with ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
            return archive.read(names[0]) if names else None
    except BadZipFile:
        return None
