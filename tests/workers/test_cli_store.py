"""serve, export, index-url and explain, as a person calls them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from builder.interpreter import measure_self
from store.channel import RELEASE
from store.environment import parse_environment
from store.fingerprint import fingerprint_of
from store.publish import Store
from store.verdict import Finding
from tests.forked import forked
from tests.services import SECRET, Postgresql
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel
from tests.workers.inside import wheelfarm
from workers.cli.index_url import probe_json

HERE = measure_self().target()
FINDING = Finding(check="suffix", severity="note", message="odd\x1b[2J suffix", member="a.so")


def _environment(**more: str) -> dict[str, str]:
    ours = ("WHEELFARM_STORE", "WHEELFARM_DATABASE")
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    return {**kept, **more}


def run(
    *arguments: str | Path, cwd: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return wheelfarm(*arguments, folder=cwd, environment=_environment(**environment))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with wheaty for the running interpreter, and corny for another."""
    root = tmp_path_factory.mktemp("cli")
    store = Store.open(root / "store", verifier=read_wheel)
    publish(store, make_wheel(root), target=HERE, findings=(FINDING,))
    publish(store, make_wheel(root, name="corny"), target=LINUX)
    store.close()
    return root / "store"


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """The URL that `wheelfarm serve` prints."""
    process = subprocess.Popen(
        forked("serve", "--store", place, "--port", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=_environment(),
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    process.communicate()


def test_index_url_of_the_local_store(place: Path) -> None:
    done = run("index-url", "--store", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"http://127.0.0.1:8484/release/{fingerprint_of(HERE)}/simple/\n"


def test_the_store_is_found_by_the_environment(place: Path) -> None:
    assert run("index-url", WHEELFARM_STORE=str(place)).returncode == 0


def test_every_command_finds_a_catalogue_in_postgresql(tmp_path: Path, new_database: str) -> None:
    with closing(
        Store.open(tmp_path / "store", database=new_database, verifier=read_wheel)
    ) as store:
        release = publish(store, make_wheel(tmp_path), target=HERE)
    (tmp_path / "wheelfarm.toml").write_text(f'store = "store"\ndatabase = "{new_database}"\n')
    exporting = ("export", "--fingerprint", release.fingerprint, tmp_path / "out")
    for command in (("index-url",), ("explain", release.filename), exporting):
        done = run(*command, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out" / release.filename).is_file()


def test_a_store_without_its_database_is_told_from_an_empty_one(
    tmp_path: Path, new_database: str, postgresql: Postgresql
) -> None:
    Store.open(tmp_path / "store", database=new_database).close()
    command = ("explain", "x", "--store", tmp_path / "store")
    unnamed = run(*command)
    assert unnamed.returncode == 2
    assert unnamed.stderr.startswith("error[not-a-store]")
    assert "WHEELFARM_DATABASE" in unnamed.stderr
    away = run(*command, WHEELFARM_DATABASE=postgresql.url("absent"))
    assert away.returncode == 3
    assert away.stderr.startswith("error[store-unreachable]")
    wrong = run(*command, WHEELFARM_DATABASE=f"mysql://u:{SECRET}@host/x")
    assert wrong.returncode == 2
    for done in (unnamed, away, wrong):
        assert SECRET not in done.stderr
        assert "Traceback" not in done.stderr


def test_index_url_from_a_server(server: str) -> None:
    done = run("index-url", "--server", server, "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["index_url"] == f"{server}release/{fingerprint_of(HERE)}/simple/"


def test_index_url_says_what_is_nearest_and_why(place: Path, server: str) -> None:
    for where in (("--store", str(place)), ("--server", server)):
        done = run("index-url", *where, "--channel", "dev/me")
        assert (done.returncode, done.stdout) == (1, "")
        assert "has no index for this environment" in done.stderr


def test_index_url_for_another_interpreter_names_the_fields(
    place: Path, interpreters: list[Path]
) -> None:
    own = fingerprint_of(HERE)
    for python in interpreters:
        done = run("index-url", "--store", place, "--python", python)
        if done.returncode:
            assert (own in done.stderr) == (f"{own}/" not in done.stdout)
            assert ": wanted " in done.stderr
            return
    pytest.skip("every interpreter of this machine is of one build")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense", "ftp://x/", "http://["])
def test_a_server_that_does_not_answer(url: str) -> None:
    done = run("index-url", "--server", url)
    assert done.returncode == 3
    assert done.stderr.startswith("error[server-trouble]")
    assert "Traceback" not in done.stderr


def test_something_else_that_answers(tmp_path: Path) -> None:
    other = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "-d", tmp_path],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert other.stdout is not None
    url = other.stdout.readline().split("(")[1].split(")")[0]
    done = run("index-url", "--server", url)
    other.terminate()
    other.communicate()
    assert (done.returncode, done.stdout) == (3, "")
    assert "not as wheelfarm does" in done.stderr


def test_a_measurement_survives_the_way_to_the_server() -> None:
    environment = measure_self()
    assert parse_environment(json.dumps(probe_json(environment))) == environment


def test_export(place: Path, tmp_path: Path) -> None:
    fingerprint = fingerprint_of(HERE)
    command = ("export", "--store", place, "--fingerprint", fingerprint)
    done = run(*command, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == f"1 wheels of {fingerprint} in {tmp_path / 'out'}"
    assert second == "no signed statements: there is no key (`wheelfarm key create`)"
    assert run("key", "create", "--store", place).returncode == 0
    again = json.loads(run(*command, tmp_path / "out", "--json").stdout)
    [file] = again["files"]
    assert again["signed"]
    assert (tmp_path / "out" / file).is_file()
    assert (tmp_path / "out" / f"{file}.intoto.jsonl").is_file()


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (("--fingerprint", "cp311"), 2, "malformed"),
        (("--fingerprint", "cp399-macosx_11_0_arm64-0123456789ab"), 2, "unknown-index"),
        (("--fingerprint", fingerprint_of(HERE), "--channel", "Dev"), 2, "malformed"),
    ],
)
def test_export_of_nothing(
    place: Path, tmp_path: Path, arguments: tuple[str, ...], status: int, code: str
) -> None:
    done = run("export", "--store", place, *arguments, tmp_path / "out")
    assert done.returncode == status
    assert done.stderr.startswith(f"error[{code}]")
    assert not (tmp_path / "out").exists()


def test_explain_reads_well_and_moves_no_cursor(place: Path) -> None:
    name = make_wheel(place.parent).name
    done = run("explain", "--store", place, name)
    assert done.returncode == 0, done.stderr
    for line in (
        f"built for {fingerprint_of(HERE)}, channel {RELEASE}",
        "  origin      index https://index.example/simple (pinned by hash)",
        '    toolchain.kind = "native"',
        f"  {fingerprint_of(HERE)} in release: built-for",
        "    note suffix: odd?[2J suffix [a.so]",
    ):
        assert line in done.stdout.splitlines()
    assert "\x1b" not in done.stdout


def test_explain_a_file_by_its_bytes(place: Path, tmp_path: Path) -> None:
    same = tmp_path / "renamed.bin"
    same.write_bytes(make_wheel(tmp_path / "same").read_bytes())
    done = run("explain", "--store", place, same, "--json")
    assert json.loads(done.stdout)["filename"] == make_wheel(tmp_path / "same").name
    liar = make_wheel(tmp_path / "liar", members={"evil.py": b""})
    told = run("explain", "--store", place, liar)
    assert told.returncode == 1
    assert "is not the wheel that the store has under its name" in told.stderr
    stranger = make_wheel(tmp_path, name="stranger")
    assert run("explain", "--store", place, stranger, "--json").returncode == 2


@pytest.mark.parametrize(
    "command",
    [
        ("explain", "x"),
        ("serve", "--no-farm"),
        ("index-url",),
        ("export", "--fingerprint", "x", "out"),
    ],
)
def test_no_store(tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(*command, "--store", tmp_path / "absent")
    assert done.returncode == 2
    assert done.stderr.startswith(("error[not-a-store]", "error[malformed]"))
    assert not (tmp_path / "absent").exists()


def test_a_port_that_is_taken(place: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--store", place, "--port", str(port))
    assert done.returncode == 2
    assert done.stderr.startswith(f"error[usage]: cannot listen on 127.0.0.1:{port}")


def _say(server: str, request: bytes) -> bytes:
    """What the server answers to the bytes of a request."""
    host, _, port = server.removeprefix("http://").rstrip("/").partition(":")
    answer = b""
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request)
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer


_TAIL = b" HTTP/1.1\r\nHost: farm\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /release/..%2f..%2fx/simple/" + _TAIL + b"\r\n", 400, b'"malformed"'),
        (b"GET /../../etc/passwd" + _TAIL + b"\r\n", 400, b'"malformed"'),
        (b"GET /%ff%fe" + _TAIL + b"\r\n", 400, b'"malformed"'),
        (b"GET /" + b"a" * 5_000 + _TAIL + b"\r\n", 431, b'"headers-too-large"'),
        (b"GET /" + _TAIL + b"X: " + b"a" * 20_000 + b"\r\n\r\n", 431, b'"headers-too-large"'),
        (b"GET /" + _TAIL + b"X: \xff\xfe\r\n\r\n", 200, b"<h1>wheelfarm</h1>"),
        (b"GET /nope?\xff" + _TAIL + b"\r\n", 400, b""),
        (b"NONSENSE\r\n\r\n", 400, b""),
    ],
)
def test_hostile_bytes_on_the_wire(
    server: str, request_bytes: bytes, status: int, code: bytes
) -> None:
    answer = _say(server, request_bytes)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert code in answer
    assert _say(server, b"GET /healthz" + _TAIL + b"\r\n").endswith(b"ok\n")
