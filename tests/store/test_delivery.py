"""The ways of a file to its client: through the server, by a signed link, by nginx."""

from __future__ import annotations

import functools
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from store.digest import sha256_of
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.release import Release
from store.shelf import place_of
from tests.forked import forked
from tests.store.buckets import Bucket, new_bucket, use
from tests.store.test_clients import Install, both
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel

ROOT = Path(__file__).parents[2]
INDEX = f"release/{fingerprint_of(LINUX)}"
WAYS = ["stream", "redirect", "nginx"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A served store of one wheel that needs another."""

    url: str
    root: Path
    wheel: Release
    way: str
    bucket: Bucket | None

    @property
    def file(self) -> str:
        return f"{self.url}{INDEX}/files/{self.wheel.filename}"


Ways = Callable[[str], Served]


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Ways]:
    """One served store for each way, made when it is first asked for."""
    with ExitStack() as stack:

        @functools.cache
        def served(way: str) -> Served:
            bucket = _bucket_for(way, s3_endpoint)
            return stack.enter_context(_served(way, tmp_path_factory.mktemp(way), bucket))

        yield served


@pytest.fixture(params=WAYS)
def served(request: pytest.FixtureRequest, ways: Ways) -> Served:
    """The store of a way, for all tests that leave it as it was."""
    return ways(request.param)


@pytest.fixture
def alone(request: pytest.FixtureRequest, tmp_path: Path, s3_endpoint: str) -> Iterator[Served]:
    """A store of the test's own in `tmp_path`, which it may change."""
    with _served(request.param, tmp_path, _bucket_for(request.param, s3_endpoint)) as made:
        yield made


def _bucket_for(way: str, endpoint: str) -> Bucket | None:
    return None if way == "nginx" else new_bucket(endpoint)


@contextmanager
def _served(way: str, root: Path, bucket: Bucket | None) -> Iterator[Served]:
    with pytest.MonkeyPatch.context() as environment, ExitStack() as stack:
        if bucket is not None:
            use(bucket, environment)
        wheel = _fill(root, bucket)
        settings = {"redirect": "blob-redirects = true", "nginx": 'accel-prefix = "/_blobs"'}
        (root / "wheelfarm.toml").write_text(settings.get(way, ""))
        url = stack.enter_context(_serving(root))
        environment.undo()  # the server has it
        front = stack.enter_context(nginx_before(root, url)) if way == "nginx" else url
        yield Served(url=front, root=root, wheel=wheel, way=way, bucket=bucket)


def _fill(root: Path, bucket: Bucket | None) -> Release:
    store = Store.open(root / "store", blobs=bucket.url if bucket else None, verifier=read_wheel)
    wheel = publish(store, make_wheel(root, requires=("corny",), members={"b.py": b"#" * 5000}))
    publish(store, make_wheel(root, name="corny", tag="py3-none-any"))
    store.close()
    return wheel


@contextmanager
def _serving(root: Path) -> Iterator[str]:
    with (root / "serve.log").open("wb") as log:
        server = subprocess.Popen(
            forked("serve", "--store", "store", "--port", 0),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=root,
        )
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.communicate()


@contextmanager
def nginx_before(root: Path, behind: str) -> Iterator[str]:
    """The real nginx with the real file of deploy/nginx; only what it says to change is changed."""
    port = _free_port()
    text = (ROOT / "deploy/nginx/wheelfarm.conf").read_text()
    for old, new in (
        ("server 127.0.0.1:8484;", f"server {behind.removeprefix('http://').rstrip('/')};"),
        ("listen 80;", f"listen 127.0.0.1:{port};"),
        ("/var/cache/nginx/wheelfarm", f"{root}/pages"),
        ("alias /srv/wheelfarm/blobs/;", f"alias {root}/store/blobs/;"),
    ):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    (root / "wheelfarm.conf").write_text(text)
    scratch = "".join(
        f"{kind}_temp_path {root}/{kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;\n" if os.getuid() == 0 else ""  # pytest's folders are its owner's alone
    (root / "nginx.conf").write_text(
        f"{user}daemon off;\npid {root}/nginx.pid;\nerror_log {root}/nginx.log;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{scratch}include {root}/wheelfarm.conf;\n}}\n"
    )
    command = [_nginx_program(), "-e", f"{root}/nginx.log", "-c", f"{root}/nginx.conf"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        _wait_for(port, server)
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.communicate()


def _nginx_program() -> str:
    return "/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else "nginx"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


def _wait_for(port: int, server: subprocess.Popen[str]) -> None:
    for _ in range(600):
        assert server.poll() is None, server.communicate()[1]
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("nginx does not listen")


@both
def test_clients_install(served: Served, tmp_path: Path, install: Install) -> None:
    done = install(tmp_path / "site", "--index-url", f"{served.url}{INDEX}/simple/", "wheaty")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/wheaty.py").is_file()
    assert (tmp_path / "site/corny.py").is_file()


def test_the_bytes_are_those_of_the_store(served: Served) -> None:
    whole, metadata = (requests.get(served.file + end, timeout=30) for end in ("", ".metadata"))
    assert sha256_of(whole.content) == served.wheel.sha256
    assert sha256_of(metadata.content) == served.wheel.metadata_sha256
    head = requests.head(served.file, allow_redirects=True, timeout=30)
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == served.wheel.size


@pytest.mark.parametrize(
    ("asked", "piece"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
def test_a_range(served: Served, asked: str, piece: slice) -> None:
    whole = requests.get(served.file, timeout=30).content
    part = requests.get(served.file, headers={"Range": asked}, timeout=30)
    assert (part.status_code, part.content) == (206, whole[piece])
    assert part.headers["content-range"].endswith(f"/{served.wheel.size}")


def test_a_range_behind_the_end(served: Served) -> None:
    answer = requests.get(served.file, headers={"Range": "bytes=999999-"}, timeout=30)
    assert answer.status_code == 416


def test_what_the_client_has_is_304(served: Served) -> None:
    etag = {"If-None-Match": f'"{served.wheel.sha256}"'}
    assert requests.get(served.file, headers=etag, timeout=30).status_code == 304
    assert requests.get(served.file, timeout=30).status_code == 200  # it may be kept from now on
    again = requests.get(served.file, headers=etag, timeout=30)
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("served", ["stream", "nginx"], indirect=True)
def test_a_file_has_the_headers_of_the_farm(served: Served) -> None:
    answer = requests.get(served.file, timeout=30)
    assert answer.headers["etag"] == f'"{served.wheel.sha256}"'
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "content-encoding" not in answer.headers
    old = {"Range": "bytes=0-1", "If-Range": '"old"'}
    assert requests.get(served.file, headers=old, timeout=30).status_code == 200
    several = requests.get(served.file, headers={"Range": "bytes=0-1,3-4"}, timeout=30)
    assert (several.status_code, len(several.content)) == (200, served.wheel.size)


@pytest.mark.parametrize("served", ["redirect"], indirect=True)
def test_a_redirect_is_kept_for_less_long_than_its_signature_holds(served: Served) -> None:
    answer = requests.get(served.file, allow_redirects=False, timeout=30)
    assert answer.status_code == 307
    kept = re.fullmatch(r"private, max-age=(\d+)", answer.headers["cache-control"])
    good = re.search(r"X-Amz-Expires=(\d+)", answer.headers["location"])
    assert kept
    assert good
    assert int(kept[1]) < int(good[1])


@pytest.mark.parametrize("alone", ["stream"], indirect=True)
def test_changed_bytes_are_not_streamed_to_their_end(alone: Served) -> None:
    assert alone.bucket is not None
    alone.bucket.put(f"blobs/{place_of(alone.wheel.sha256)}", b"x" * alone.wheel.size)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        requests.get(alone.file, timeout=30)


@pytest.mark.parametrize("alone", ["stream"], indirect=True)
def test_a_bucket_that_is_gone_is_the_farms_trouble(alone: Served) -> None:
    assert alone.bucket is not None
    alone.bucket.destroy()
    answer = requests.get(alone.file, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (500, "store-trouble")
    assert alone.bucket.name not in answer.text
    assert "there is no such bucket" in (alone.root / "serve.log").read_text()


@pytest.mark.parametrize("served", ["nginx"], indirect=True)
@pytest.mark.parametrize(
    "path",
    [
        "/_blobs/", "/_blobs/../catalogue.sqlite", "/_blobs/%2e%2e/catalogue.sqlite",
        "/_blobs%2f..%2fcatalogue.sqlite", "/_blobs../catalogue.sqlite", "/%2e%2e/etc/passwd",
        "//etc/passwd", f"/{INDEX}/files/..%2f..%2fcatalogue.sqlite", "/_blobs/%00",
        "/_blobs/{blob}", "/x/../_blobs/{blob}", "//_blobs/{blob}", "/_BLOBS/{blob}",
    ],
)  # fmt: skip
def test_nginx_lets_no_trick_with_the_path_through(served: Served, path: str) -> None:
    path = path.format(blob=place_of(served.wheel.sha256))
    status = _raw_status(served.url, path)
    assert status in {400, 404}, (path, status)


def _raw_status(url: str, path: str) -> int:
    """The answer to a path that no client library sends as it stands."""
    host, port = url.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: farm\r\n\r\n".encode())
        return int(connection.recv(64).split()[1])


@pytest.mark.parametrize("served", ["nginx"], indirect=True)
def test_nginx_packs_pages_and_keeps_bodies_small(served: Served) -> None:
    page = requests.get(f"{served.url}{INDEX}/simple/wheaty/", timeout=30)
    assert page.headers["content-encoding"] == "gzip"
    etag = {"If-None-Match": page.headers["etag"]}
    again = requests.get(f"{served.url}{INDEX}/simple/wheaty/", headers=etag, timeout=30)
    assert again.status_code == 304
    large = requests.post(f"{served.url}resolve", data=b"x" * 200_000, timeout=30)
    assert large.status_code == 413


@pytest.mark.parametrize("alone", ["nginx"], indirect=True)
def test_what_is_published_is_on_the_page_behind_nginx_soon(alone: Served, tmp_path: Path) -> None:
    page = f"{alone.url}{INDEX}/simple/wheaty/"
    assert all("wheaty-7" not in requests.get(page, timeout=30).text for _ in range(3))
    with closing(Store.open(tmp_path / "store", verifier=read_wheel)) as store:
        release = publish(store, make_wheel(tmp_path, version="7", tag="py3-none-any"))
    ends = time.monotonic() + 60
    while release.filename not in requests.get(page, timeout=30).text:
        assert time.monotonic() < ends
        time.sleep(0.2)
    assert all(release.filename in requests.get(page, timeout=30).text for _ in range(3))


@pytest.mark.parametrize(
    ("settings", "key"),
    [("blob-redirects = true", "blob-redirects"), ('accel-prefix = "/x y"', "accel-prefix")],
)
def test_settings_that_do_not_fit(tmp_path: Path, settings: str, key: str) -> None:
    Store.open(tmp_path / "store").close()
    (tmp_path / "wheelfarm.toml").write_text(settings)
    done = subprocess.run(
        forked("serve", "--store", "store", "--port", 0),
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"error[bad-settings]: {key}" in done.stderr
