"""What serving costs: our server beside devpi, pypiserver and nginx, and as the store grows.

    python benchmarks/serve.py [peers] [growth] [install] [--seconds N] [--projects N]
                               [--releases N] [--programs DIR]

wrk asks one server process after the other, which has one core of its own, by 16 connections; wrk
has the next core. Pages are simple pages of one project, all projects in turn; files are its
wheels. Beside requests a second stands the processor time of a request, which says the same with
less noise on a machine that others use. `--programs` is where devpi-server and pypi-server are.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import http.client
import itertools
import json
import os
import random
import shutil
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urljoin, urlsplit

import requests
from uv import find_uv_bin

from store.digest import canonical_json, sha256_of
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.shelf import Blob
from store.target import Target, identity_of
from tests.store.wheelshop import LINUX, make_wheel, read_wheel

ROOT = Path(__file__).parents[1]
CONNECTIONS = 16
PER_PROJECT = 10
PAYLOAD = 12_000
SMALL = 2_000
FINGERPRINTS = 1_000
SAMPLE = 1_000
WARMING = 30
INSTALLED = 50
ROUNDS = 15
FINGERPRINT = fingerprint_of(LINUX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What wrk saw, and what the server spent; times in microseconds."""

    rate: float
    cost: float
    p50: int
    p99: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A server: its processes, its address, and what is asked of it."""

    pids: tuple[int, ...]
    url: str
    pages: Sequence[str]
    files: Sequence[str]


# What is served.


def make_wheels(folder: Path, projects: int) -> list[Path]:
    """So many projects of ten wheels each; their payload does not compress."""
    chance = random.Random(5)
    return [
        make_wheel(folder, name=f"bench{number:03}", version=f"1.{version}", tag="py3-none-any",
                   members={"payload.bin": chance.randbytes(PAYLOAD)})
        for number in range(projects)
        for version in range(PER_PROJECT)
    ]  # fmt: skip


def fill(root: Path, wheels: Sequence[Path]) -> None:
    """Our store of these wheels, by straight rows."""
    store = Store.open(root)
    log = store.blobs.put_bytes(b"log")
    kept = [(path, store.blobs.put_file(path), _metadata(store, path)) for path in wheels]
    store.close()
    with _rows(root) as insert:
        every = {blob.sha256: blob.size for blob in (log, *(b for _, *two in kept for b in two))}
        insert("blobs", [(sha256, size, None) for sha256, size in every.items()])
        insert("targets", [(FINGERPRINT, canonical_json(identity_of(LINUX)).decode())])
        insert("sources", [(1, log.sha256, "bench", "1", "b.tar.gz", "index", "here", 1)])
        insert("files", [_file(path.name, b.sha256, m.sha256) for path, b, m in kept])
        names = [path.name for path, *_ in kept]
        insert("releases", [_release(i, FINGERPRINT, n, log.sha256) for i, n in enumerate(names)])


def _metadata(store: Store, wheel: Path) -> Blob:
    return store.blobs.put_bytes(read_wheel(wheel).metadata)


def grow(root: Path, targets: Sequence[Target], count: int) -> None:
    """A store of `count` releases over these targets, by straight rows; no wheel has bytes."""
    store = Store.open(root)
    log, metadata = store.blobs.put_bytes(b"log"), store.blobs.put_bytes(b"Name: x\n")
    store.close()
    fingerprints = [fingerprint_of(target) for target in targets]
    names = [
        f"bench{number // PER_PROJECT % (count // len(targets) // PER_PROJECT):03}"
        f"-1.{number % PER_PROJECT}-1_{number:08}-py3-none-any.whl"
        for number in range(count)
    ]
    each = count // len(targets)
    with _rows(root) as insert:
        insert("blobs", [(one.sha256, one.size, None) for one in (log, metadata)])
        identities = [canonical_json(identity_of(target)).decode() for target in targets]
        insert("targets", list(zip(fingerprints, identities, strict=True)))
        insert("sources", [(1, log.sha256, "bench", "1", "b.tar.gz", "index", "here", 1)])
        insert("blobs", ((sha256_of(name.encode()), 1_000, None) for name in names))
        insert("files", (_file(n, sha256_of(n.encode()), metadata.sha256) for n in names))
        insert("releases", (_release(i, fingerprints[i // each], n, log.sha256)
                            for i, n in enumerate(names)))  # fmt: skip


@contextmanager
def _rows(root: Path) -> Iterator[Callable[..., None]]:
    connection = sqlite3.connect(root / "catalogue.sqlite")
    columns = {
        "blobs": "sha256 size condemned_at",
        "targets": "fingerprint identity",
        "sources": "id sha256 name version filename origin_kind origin_location origin_pinned",
        "files": "filename sha256 name version tags metadata_sha256 content_sha256 "
        "extension_modules interpreter_bound",
        "releases": "id channel fingerprint build_key filename project source_id log_sha256 "
        "provenance proof published_at",
    }

    def insert(table: str, rows: object) -> None:
        names = columns[table].split()
        marks = ", ".join("?" * len(names))
        connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})", rows)  # type: ignore[arg-type]

    yield insert
    connection.execute("ANALYZE")
    connection.commit()
    connection.close()


def _file(filename: str, sha256: str, metadata: str) -> tuple[object, ...]:
    name, version = filename.split("-")[:2]
    return (filename, sha256, name, version, '["py3-none-any"]', metadata, sha256, "[]", "[]")


def _release(number: int, fingerprint: str, filename: str, log: str) -> tuple[object, ...]:
    key = hashlib.sha256(b"%d" % number).hexdigest()
    moment = "2026-01-01 00:00:00.000000"
    project = filename.partition("-")[0]
    return (number + 1, "release", fingerprint, key, filename, project, 1, log, "{}", "x", moment)


# Who serves it. Each has one core.


@contextmanager
def running(
    command: Sequence[object], answers: str, cwd: Path = ROOT, **more: str
) -> Iterator[int]:
    """A server on the first core, once it answers at the URL; its process."""
    environment = {**os.environ, **more}
    log = Path(tempfile.gettempdir()) / "bench-serve.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["taskset", "-c", "0", *map(str, command)],
            stdout=output, stderr=output, env=environment, cwd=cwd,
        )  # fmt: skip
    try:
        for _ in range(1_200):
            with suppress(requests.ConnectionError):
                if requests.get(answers, timeout=10).status_code < 500:
                    break
            assert server.poll() is None, log.read_text()
            time.sleep(0.1)
        yield server.pid
    finally:
        server.terminate()
        server.communicate()


@contextmanager
def ours(root: Path, cwd: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Our server, with the settings in `cwd`."""
    port = free_port()
    command = [sys.executable, "-m", "workers.cli", "serve", "--store", root, "--port", port,
               "--no-farm", "--no-access-log"]  # fmt: skip
    path = os.pathsep.join([str(ROOT), *sys.path])
    url = f"http://127.0.0.1:{port}"
    with running(command, f"{url}/healthz", cwd=cwd, PYTHONPATH=path) as pid:
        yield pid, url


@contextmanager
def wheelfarm(root: Path, wheels: Sequence[Path]) -> Iterator[Served]:
    """Our pages and files."""
    with ours(root / "store") as (pid, url):
        pages, files = _paths(wheels)
        yield Served(pids=(pid,), url=url, pages=pages, files=files)


def _paths(wheels: Sequence[Path]) -> tuple[list[str], list[str]]:
    base = f"/release/{FINGERPRINT}"
    pages = sorted({f"{base}/simple/{path.name.split('-')[0]}/" for path in wheels})
    return pages, [f"{base}/files/{path.name}" for path in wheels]


@contextmanager
def pypiserver(wheels: Sequence[Path], programs: Path) -> Iterator[Served]:
    """Pypiserver over the folder of the wheels, as it comes."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [programs / "pypi-server", "run", "-i", "127.0.0.1", "-p", port,
               "--disable-fallback", "-a", ".", "-P", ".", wheels[0].parent]  # fmt: skip
    pages = sorted({f"/simple/{path.name.split('-')[0]}/" for path in wheels})
    with running(command, f"{url}/") as pid:
        files = [f"/packages/{path.name}" for path in wheels]
        yield Served(pids=(pid,), url=url, pages=pages, files=files)


@contextmanager
def devpi(root: Path, wheels: Sequence[Path], programs: Path) -> Iterator[Served]:
    """devpi-server with an index of the wheels, as it comes."""
    folder, port = root / "devpi", free_port()
    url = f"http://127.0.0.1:{port}"
    make = [programs / "devpi-init", "--serverdir", folder, "--no-root-pypi"]
    subprocess.run(make, check=True, capture_output=True)
    command = [programs / "devpi-server", "--serverdir", folder, "--port", port]
    with running(command, f"{url}/+api") as pid:
        pages, files = _upload_to_devpi(url, wheels)
        yield Served(pids=(pid,), url=url, pages=pages, files=files)


def _upload_to_devpi(url: str, wheels: Sequence[Path]) -> tuple[list[str], list[str]]:
    with requests.Session() as session:
        session.put(f"{url}/bench", json={"password": "bench"}).raise_for_status()
        login = session.post(f"{url}/+login", json={"user": "bench", "password": "bench"}).json()
        token = f"bench:{login['result']['password']}".encode()
        session.headers["X-Devpi-Auth"] = base64.b64encode(token).decode()
        session.put(f"{url}/bench/wheels", json={"bases": []}).raise_for_status()
        for path in wheels:
            name, version = path.name.split("-")[:2]
            said = {
                ":action": "file_upload",
                "name": name,
                "version": version,
                "filetype": "bdist_wheel",
                "pyversion": "py3",
                "metadata_version": "2.1",
            }
            with path.open("rb") as file:
                sent = {"content": (path.name, file)}
                session.post(f"{url}/bench/wheels/", data=said, files=sent).raise_for_status()
        names = sorted({path.name.split("-")[0] for path in wheels})
        pages = [f"/bench/wheels/+simple/{name}/" for name in names]
        accept = {"Accept": "application/vnd.pypi.simple.v1+json"}
        files = []
        for page in pages:
            listed = session.get(url + page, headers=accept).json()["files"]
            files += [urlsplit(urljoin(url + page, each["url"])).path for each in listed]
    return pages, files


@contextmanager
def nginx(root: Path, config: str, port: int) -> Iterator[int]:
    """Nginx with one worker process; `config` is what is in its ``http`` block."""
    folder = root / f"nginx-{port}"
    folder.mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    scratch = "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    user = "user root;\n" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(
        f"{user}worker_processes 1;\ndaemon off;\npid {folder}/pid;\nerror_log {folder}/log;\n"
        "events { worker_connections 1024; }\n"
        f"http {{\naccess_log off;\nsendfile on;\nkeepalive_requests 1000000;\n"
        f"{scratch}{config}}}\n"
    )
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin") or "nginx"
    command = [program, "-e", folder / "log", "-c", folder / "nginx.conf"]
    with running(command, f"http://127.0.0.1:{port}/") as pid:
        yield pid


@contextmanager
def nginx_alone(root: Path, wheels: Sequence[Path], pages_of: Served) -> Iterator[Served]:
    """The same pages and files as plain files of a folder."""
    site = root / "site"
    for path in pages_of.pages:
        place = site / path.lstrip("/")
        place.mkdir(parents=True)
        (place / "index.html").write_bytes(requests.get(pages_of.url + path, timeout=30).content)
    files = site / f"release/{FINGERPRINT}/files"
    shutil.copytree(wheels[0].parent, files)
    for path in wheels:
        (files / f"{path.name}.metadata").write_bytes(read_wheel(path).metadata)
    port = free_port()
    config = f"server {{ listen 127.0.0.1:{port}; root {site}; default_type text/html; }}\n"
    with nginx(root, config, port) as pid:
        url = f"http://127.0.0.1:{port}"
        yield Served(pids=(pid,), url=url, pages=pages_of.pages, files=pages_of.files)


@contextmanager
def behind_nginx(root: Path, wheels: Sequence[Path]) -> Iterator[Served]:
    """Our server behind nginx as deploy/nginx/wheelfarm.conf has it; both on the one core."""
    port = free_port()
    (root / "wheelfarm.toml").write_text('accel-prefix = "/_blobs"\n')
    with ours(root / "store", cwd=root) as (upstream, url):
        config = (ROOT / "deploy/nginx/wheelfarm.conf").read_text()
        for old, new in (
            ("server 127.0.0.1:8484;", f"server {urlsplit(url).netloc};"),
            ("listen 80;", f"listen 127.0.0.1:{port};"),
            ("/var/cache/nginx/wheelfarm", f"{root}/pages"),
            ("alias /srv/wheelfarm/blobs/;", f"alias {root}/store/blobs/;"),
        ):
            config = config.replace(old, new)
        with nginx(root, config, port) as pid:
            pages, files = _paths(wheels)
            here = f"http://127.0.0.1:{port}"
            yield Served(pids=(pid, upstream), url=here, pages=pages, files=files)


# Measuring.


def measure(served: Served, paths: Sequence[str], seconds: int) -> Run:
    """What wrk gets of these paths, once as many as time allows were asked for."""
    _warm(served, paths)
    with tempfile.NamedTemporaryFile("w", suffix=".paths") as file:
        file.write("\n".join(paths) + "\n")
        file.flush()
        before = sum(map(_spent, served.pids))
        command = ["taskset", "-c", "1", "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s",
                   "--timeout", "60s",
                   "-s", str(ROOT / "benchmarks/rotate.lua"), served.url]  # fmt: skip
        text = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "PATHS": file.name},
        ).stdout
        spent = sum(map(_spent, served.pids)) - before
    found = json.loads(text.splitlines()[-1])
    assert found["wrong"] == 0, text
    count = found["requests"]
    return Run(
        rate=count / found["seconds"],
        cost=spent / count * 1e6,
        p50=found["p50"],
        p99=found["p99"],
    )


def _warm(served: Served, paths: Sequence[str]) -> None:
    """Ask for each once, as wrk does: without a header that an answer could depend on."""
    connection = http.client.HTTPConnection(urlsplit(served.url).netloc)
    ends = time.monotonic() + WARMING
    for path in itertools.takewhile(lambda _: time.monotonic() < ends, paths):
        connection.putrequest("GET", path, skip_accept_encoding=True)
        connection.endheaders()
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
    connection.close()


def _spent(pid: int) -> float:
    """Seconds of processor time of a process and its children."""
    total = 0
    for each in (pid, *_children(pid)):
        with suppress(FileNotFoundError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    direct = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(each) for each in direct]


def memory(pid: int) -> float:
    """MB that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


# The three parts.


def peers(options: argparse.Namespace) -> None:
    """Pages and files of every server, and the ratios."""
    found: dict[str, tuple[Run, Run]] = {}

    def run(name: str, served: Served) -> None:
        found[name] = (
            measure(served, served.pages, options.seconds),
            measure(served, served.files, options.seconds),
        )

    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        wheels = make_wheels(root / "wheels", options.projects)
        fill(root / "store", wheels)
        with devpi(root, wheels, options.programs) as served:
            run("devpi", served)
        with pypiserver(wheels, options.programs) as served:
            run("pypiserver", served)
        with wheelfarm(root, wheels) as served:
            run("wheelfarm", served)
            with nginx_alone(root, wheels, served) as alone:
                run("nginx alone", alone)
        with behind_nginx(root, wheels) as served:
            run("wheelfarm behind nginx", served)
    _show_peers(found)


def _show_peers(found: dict[str, tuple[Run, Run]]) -> None:
    print("\n| server | pages/s | µs of processor | p99, ms | files/s | µs of processor |")
    print("|---|---|---|---|---|---|")
    for name, (pages, files) in found.items():
        print(
            f"| {name} | {pages.rate:,.0f} | {pages.cost:,.0f} | {pages.p99 / 1e3:.1f} "
            f"| {files.rate:,.0f} | {files.cost:,.0f} |"
        )
    us, front = found["wheelfarm"], found["wheelfarm behind nginx"]
    for what, over, under, place in (
        ("pages over devpi's", us, found["devpi"], 0),
        ("pages over pypiserver's", us, found["pypiserver"], 0),
        ("files over devpi's", us, found["devpi"], 1),
        ("pages behind nginx over nginx alone", front, found["nginx alone"], 0),
        ("files behind nginx over nginx alone", front, found["nginx alone"], 1),
    ):
        ratio, cost = over[place].rate / under[place].rate, under[place].cost / over[place].cost
        print(f"- {what}: {ratio:.2f} (by processor time {cost:.2f})")


def growth(options: argparse.Namespace) -> None:
    """Pages of a small store and of a large one: as they are kept, and as they are made."""
    print("\n| releases | kept, p50, ms | p99 | made, p50, ms | p99 | memory, MB |")
    print("|---|---|---|---|---|---|")
    ends = {}
    for count, width in ((SMALL, 1), (options.releases, FINGERPRINTS)):
        with tempfile.TemporaryDirectory() as name:
            targets = [_target(number) for number in range(width)]
            grow(Path(name) / "store", targets, count)
            ends[count] = _growth_row(Path(name) / "store", targets, count, options.seconds)
    small, large = ends.values()
    print(f"- p99 of the large store over that of the small one: kept {large[0] / small[0]:.2f}, "
          f"made {large[1] / small[1]:.2f}")  # fmt: skip


def _target(number: int) -> Target:
    assert LINUX.build is not None
    return replace(LINUX, build=replace(LINUX.build, config_sha256=sha256_of(b"%d" % number)))


def _growth_row(
    root: Path, targets: Sequence[Target], count: int, seconds: int
) -> tuple[float, float]:
    chance = random.Random(7)
    projects = count // len(targets) // PER_PROJECT
    fingerprints = [fingerprint_of(target) for target in targets]
    some = [
        f"/release/{chance.choice(fingerprints)}/simple/bench{chance.randrange(projects):03}/"
        for _ in range(SAMPLE)
    ]
    with ours(root) as (pid, url):
        made = _one_by_one(url, some)
        kept = measure(Served(pids=(pid,), url=url, pages=some, files=()), some[:200], seconds)
        size = memory(pid)
    p50, p99 = statistics.median(made), statistics.quantiles(made, n=100)[98]
    print(f"| {count:,} | {kept.p50 / 1e3:.2f} | {kept.p99 / 1e3:.2f} | {p50:.2f} | {p99:.2f} "
          f"| {size:.0f} |")  # fmt: skip
    return kept.p99, p99


def _one_by_one(url: str, paths: Sequence[str]) -> list[float]:
    """Milliseconds of each page, made for it: no two requests ask alike."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc)
    found = []
    for number, path in enumerate(paths):
        accept = f"text/html, x-{number}/*;q=0.1"
        began = time.perf_counter()
        connection.request("GET", path, headers={"Accept": accept})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
        found.append((time.perf_counter() - began) * 1e3)
    connection.close()
    return found[20:]


def install(_options: argparse.Namespace) -> None:
    """Fifty wheels by uv and by pip, from us and from nginx, in turn."""
    print("\n| installer | from wheelfarm, s | from nginx, s | ratio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        wheels = make_wheels(root / "wheels", INSTALLED)
        fill(root / "store", wheels)
        with wheelfarm(root, wheels) as us, nginx_alone(root, wheels, us) as them:
            for tool in ("uv", "pip"):
                times: dict[str, list[float]] = {us.url: [], them.url: []}
                for _ in range(ROUNDS):
                    for url, seen in times.items():
                        seen.append(_installed(tool, url, root / "target"))
                here, there = times.values()
                ratio = statistics.median(a / b for a, b in zip(here, there, strict=True))
                middle = map(statistics.median, (here, there))
                print(f"| {tool} | {' | '.join(f'{each:.2f}' for each in middle)} | {ratio:.2f} |")


def _installed(tool: str, url: str, target: Path) -> float:
    index = f"{url}/release/{quote(FINGERPRINT)}/simple/"
    names = [f"bench{number:03}" for number in range(INSTALLED)]
    where = ["--target", str(target), "--index-url", index]
    commands = {
        "uv": [find_uv_bin(), "pip", "install", "--quiet", "--no-cache", "--no-config",
               "--python", sys.executable],
        "pip": [sys.executable, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--isolated",
                "--disable-pip-version-check"],
    }  # fmt: skip
    began = time.perf_counter()
    subprocess.run([*commands[tool], *where, *names], check=True)
    took = time.perf_counter() - began
    shutil.rmtree(target)
    return took


PARTS = {"peers": peers, "growth": growth, "install": install}


def main() -> None:
    """Run the parts that are named, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--projects", type=int, default=200)
    parser.add_argument("--releases", type=int, default=1_000_000)
    parser.add_argument("--programs", type=Path, default=ROOT / ".venv/peers/bin")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("there is no wrk: bash deploy/prerequisites.sh PYTHON bench installs it")
    for name in options.parts or PARTS:
        PARTS[name](options)


if __name__ == "__main__":
    main()
