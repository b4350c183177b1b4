"""Pages are packed as clients take them, and kept answers are never old."""

from __future__ import annotations

import asyncio
import gzip
import http.client
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
import zstandard
from sqlalchemy import event
from starlette.types import Message, Receive, Scope, Send

from store import protocol
from store.access import Actor, Grant, parse_pattern
from store.accounts import Accounts, NewToken
from store.answers import Answer, Answers, Asking, Question, pack
from store.audit import Deed, audited
from store.channel import RELEASE
from store.fingerprint import fingerprint_of
from store.front import Ready
from store.gate import Gate
from store.guard import Guard
from store.invalidate import Invalidation
from store.pages import JSON_V1
from store.protocol import BoundedProtocol
from store.publish import Store
from store.schema import SHOWN, metadata, servings
from store.selection import Selection
from store.server import create_app
from tests.store.client import Client
from tests.store.wheelshop import LINUX, OTHER_LINUX, make_wheel, publish, read_wheel

INDEX = f"/release/{fingerprint_of(LINUX)}"
PAGE = f"{INDEX}/simple/wheaty/"


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    publish(store, make_wheel(tmp_path))
    publish(store, make_wheel(tmp_path, version="2.0"))
    return store


@pytest.fixture
def client(filled: Store) -> Client:
    return Client(filled)


def raw(client: Client, path: str, **headers: str) -> httpx.Response:
    """An answer; without the headers that httpx would send by itself."""
    return client.get(path, **{"accept_encoding": "identity", **headers})


def unpacked(answer: httpx.Response) -> str:
    return answer.text  # httpx undoes what Content-Encoding says


# Packing.


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
@pytest.mark.parametrize("accept", ["text/html", JSON_V1])
def test_a_page_is_the_same_in_every_coding(client: Client, coding: str, accept: str) -> None:
    plain = raw(client, PAGE, accept=accept)
    packed = raw(client, PAGE, accept=accept, accept_encoding=coding)
    assert packed.headers["content-encoding"] == coding
    assert "content-encoding" not in plain.headers
    assert unpacked(packed) == plain.text
    assert int(packed.headers["content-length"]) < len(plain.content)
    for answer in (plain, packed):
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert not answer.headers["etag"].startswith("W/")
    assert packed.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("coding", ["identity", "gzip", "zstd"])
def test_each_coding_has_its_304_and_its_head(client: Client, coding: str) -> None:
    first = raw(client, PAGE, accept_encoding=coding)
    for _ in range(2):  # as it is made, and as it is kept
        known = raw(
            client, PAGE, accept_encoding=coding, if_none_match=f'"x", W/{first.headers["etag"]}'
        )
        assert (known.status_code, known.content) == (304, b"")
        assert known.headers["etag"] == first.headers["etag"]
        assert known.headers["vary"] == first.headers["vary"]
        assert "content-type" not in known.headers
        head = client.ask("HEAD", PAGE, headers={"accept-encoding": coding})
        assert head.content == b""
        assert dict(head.headers) == dict(first.headers)
    other = "gzip" if coding != "gzip" else "zstd"
    fresh = raw(client, PAGE, accept_encoding=other, if_none_match=first.headers["etag"])
    assert fresh.status_code == 200


def test_files_are_never_packed_nor_ranges_of_them(client: Client, filled: Store) -> None:
    wheel = filled.catalogue.listing(RELEASE, fingerprint_of(LINUX))[0]
    path = f"{INDEX}/files/{wheel.filename}"
    for _ in range(2):
        whole = raw(client, path, accept_encoding="gzip, zstd")
        assert "content-encoding" not in whole.headers
        assert whole.content == filled.blobs.read(wheel.sha256)
        piece = raw(client, path, accept_encoding="gzip", range="bytes=2-5")
        assert (piece.status_code, piece.content) == (206, whole.content[2:6])
        assert whole.headers["etag"] == piece.headers["etag"] == f'"{wheel.sha256}"'
        assert whole.headers["accept-ranges"] == "bytes"


def test_a_short_page_stays_as_it_is(filled: Store) -> None:
    answer = raw(Client(filled), f"{INDEX}/simple/", accept=JSON_V1, accept_encoding="gzip")
    assert "content-encoding" not in answer.headers


def test_packing_gives_the_same_bytes_each_time() -> None:
    data = b"<a href=x>y</a>\n" * 100
    assert pack(data, "gzip") == pack(data, "gzip")
    assert gzip.decompress(pack(data, "gzip")) == data
    assert zstandard.ZstdDecompressor().decompress(pack(data, "zstd")) == data


# Keeping.


def held(client: Client) -> Any:
    return client.app.state.answers._kept


def test_what_is_kept_is_what_was_answered(client: Client) -> None:
    for path in (PAGE, f"{INDEX}/simple/", f"{INDEX}/links/", "/"):
        before = len(held(client))
        first = raw(client, path)
        assert len(held(client)) == before + 1
        again = raw(client, path)
        assert len(held(client)) == before + 1
        assert (again.status_code, again.content) == (first.status_code, first.content)
        assert sorted(again.headers.items()) == sorted(first.headers.items())


def test_every_write_is_seen_by_the_next_request(
    client: Client, filled: Store, tmp_path: Path, database_url: str | None
) -> None:
    with closing(
        Store.open(tmp_path / "store", database=database_url, verifier=read_wheel)
    ) as other:
        assert "wheaty-3.0" not in raw(client, PAGE).text
        release = publish(other, make_wheel(tmp_path, version="3.0"))
        assert "wheaty-3.0" in raw(client, PAGE).text
        other.catalogue.yank(RELEASE, release.filename, "broken")
        assert "broken" in raw(client, PAGE).text
        filled.catalogue.yank(RELEASE, release.filename, "by our own process")
        assert "by our own process" in raw(client, PAGE).text


def test_what_is_kept_is_made_of_tables_whose_changes_are_seen(
    client: Client, filled: Store
) -> None:
    wheel = filled.catalogue.listing(RELEASE, fingerprint_of(LINUX))[0]
    read: set[str] = set()

    def note(_c: object, _cursor: object, statement: str, *_more: object) -> None:
        read.update(re.findall(r"(?:FROM|JOIN) (\w+)", statement))

    event.listen(filled.database._engine, "before_cursor_execute", note)
    paths = (PAGE, f"{INDEX}/simple/", f"{INDEX}/links/", "/", f"{INDEX}/files/{wheel.filename}")
    for number, path in enumerate(paths, 1):
        assert raw(client, path).status_code == 200
        assert len(held(client)) == number
    known = {table.name for table in SHOWN} | {"generation"}
    assert {"releases", "files"} <= read
    # Of a blob only the size, which is that of its digest.
    assert read & metadata.tables.keys() <= known | {"blobs"}


def test_a_worker_s_sign_of_life_leaves_answers_ready(client: Client, filled: Store) -> None:
    raw(client, PAGE)
    (kept,) = held(client).values()
    with audited(filled.database, Deed(actor=Actor(who="ada"), action="look", object="store")):
        pass
    raw(client, PAGE)
    assert list(held(client).values()) == [kept]


def test_a_file_that_was_disowned_goes_out_no_more(client: Client, filled: Store) -> None:
    wheel = filled.catalogue.listing(RELEASE, fingerprint_of(LINUX))[0]
    path = f"{INDEX}/files/{wheel.filename}"
    assert [raw(client, path).status_code for _ in range(2)] == [200, 200]
    Invalidation(filled.database).disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert raw(client, path).status_code == 410
    assert raw(client, PAGE).status_code == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer nonsense"},
        {"user_agent": 'pip/1 {"python":"2.7","implementation":{"name":"CPython"}}'},
        {"cookie": "a=b"},
        {"accept": "text/html" + ";q=0.5" * 400},
    ],
)
def test_what_is_somebody_s_own_is_neither_kept_nor_given(
    client: Client, headers: dict[str, str]
) -> None:
    raw(client, PAGE)
    before = dict(held(client))
    answer = raw(client, PAGE, **headers)
    assert dict(held(client)) == before
    if "user_agent" in headers:
        assert "x-wheelfarm-mismatch" in answer.headers
        assert "x-wheelfarm-mismatch" not in raw(client, PAGE).headers
    if "authorization" in headers:
        assert answer.status_code == 401


def test_what_a_token_was_answered_is_ready_for_tokens_behind_the_gate(filled: Store) -> None:
    client = Client(filled, gate=Gate(accounts=Accounts(filled.database), anonymous="none"))
    mine, other, narrow = (token_for(filled, channel) for channel in ("*", "*", "dev/ada"))
    wheel = filled.catalogue.listing(RELEASE, fingerprint_of(LINUX))[0]
    for number, path in enumerate((PAGE, f"{INDEX}/simple/", f"{INDEX}/files/{wheel.filename}"), 1):
        first = raw(client, path, authorization=mine)
        again = raw(client, path, authorization=other)
        assert (again.status_code, again.content) == (200, first.content)
        assert sorted(again.headers.items()) == sorted(first.headers.items())
        assert len(held(client)) == number
        etag = first.headers["etag"]
        assert raw(client, path, authorization=mine, if_none_match=etag).status_code == 304
        assert raw(client, path).status_code == 401
        assert raw(client, path, authorization=narrow).status_code == 403
        assert raw(client, path, authorization="Bearer nonsense").status_code == 401
    assert first.headers["cache-control"].startswith("private")
    homes = [raw(client, "/", authorization=one).text for one in (mine, narrow)]
    assert [INDEX in home for home in homes] == [True, False]
    accounts = Accounts(filled.database)
    for account in accounts.all():
        accounts.revoke(account.id, Actor(who="ada"))
    assert raw(client, PAGE, authorization=mine).status_code == 401


def token_for(store: Store, channel: str) -> str:
    grant = Grant(scopes=frozenset({"read"}), channels=(parse_pattern(channel),))
    new = NewToken(name="ci", grant=grant, life=timedelta(days=1))
    return f"Bearer {Accounts(store.database).create(new, Actor(who='ada'))[1].text}"


def test_errors_are_not_kept(client: Client) -> None:
    for path in (f"{INDEX}/simple/none/", f"/release/{fingerprint_of(OTHER_LINUX)}/simple/"):
        assert raw(client, path).status_code == 404
    assert not held(client)


def test_memory_is_bounded_and_the_newest_stay() -> None:
    answers = Answers(most_bytes=100_000)
    for number in range(100):
        question = Question(key=(b"/%d" % number, b"", b"", False), known=b"")
        asking = Asking(question=question, generation=1)
        answers.keep(asking, Answer(etag='"a"', headers=(), body=bytes(9_000)))
        assert answers.find(question, 1)
        assert answers.find(question, 2) is None
    assert len(answers._kept) == 10
    huge = Answer(etag='"a"', headers=(), body=bytes(5 << 20))
    answers.keep(asking, huge)
    assert answers.find(question, 1) is not huge


@pytest.mark.parametrize(
    "target", [b"/x" * 400, b"/release/../files/x", b"/release/nonsense/simple/a/", b"//simple/"]
)
def test_odd_targets_are_no_trouble(target: bytes) -> None:
    agent = (b"user-agent", b'pip/1 {"python":"3.11"}')
    question = Answers().question(b"GET", target, [agent])
    assert question is None or question.key[0] == target


# The short way of the real server.


@pytest.fixture
def port(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A real server on a port, in this process, with an impatient protocol."""
    shutil.copytree(migrated, tmp_path / "served")
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.3)
    with closing(Store.open(tmp_path / "served", verifier=read_wheel)) as store:
        publish(store, make_wheel(tmp_path))
        app = create_app(store)
        assert isinstance(app.state.ready, Ready)
        config = uvicorn.Config(
            app, http=partial(BoundedProtocol, ready=app.state.ready),  # type: ignore[arg-type]
            log_config=None, ws="none", server_header=False,
        )  # fmt: skip
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", 0))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield listener.getsockname()[1]
        server.should_exit = True
        thread.join()


def talk(port: int, data: bytes) -> bytes:
    """What comes back until the server closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def ask(port: int, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, headers=named)
        answer = connection.getresponse()
        found = {name.lower(): value for name, value in answer.getheaders() if name != "date"}
        return answer.status, found, answer.read()


def test_the_short_way_gives_what_the_long_one_gave(port: int) -> None:
    for method in ("GET", "HEAD"):
        for headers in ({}, {"accept_encoding": "gzip"}, {"accept": JSON_V1}):
            first = ask(port, "GET", PAGE, **headers)
            again = ask(port, method, PAGE, **headers)
            assert again[:2] == first[:2]
            assert again[2] == (first[2] if method == "GET" else b"")
            known = ask(port, method, PAGE, **headers, if_none_match=first[1]["etag"])
            assert (known[0], known[2]) == (304, b"")
            assert "content-security-policy" in known[1]


def test_requests_that_come_together_are_answered_in_order(port: int) -> None:
    one = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    other = f"GET {INDEX}/simple/none/ HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    last = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    ask(port, "GET", PAGE)
    said = talk(port, one + one + other + one + last)
    statuses = re.findall(rb"HTTP/1.1 (\d+) ", said)
    assert statuses == [b"200", b"200", b"404", b"200", b"200"]


def test_a_head_that_is_too_long_or_never_ends_is_refused(port: int) -> None:
    long = b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 100_000
    assert talk(port, long).startswith(b"HTTP/1.1 431")
    many = b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(9_000))
    assert talk(port, many).startswith(b"HTTP/1.1 431")
    assert talk(port, b"GET / HTTP/1.1\r\nHost: x\r\n") == b"", "it is closed after a while"
    assert talk(port, b"") == b""
    assert talk(port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
    assert ask(port, "GET", PAGE)[0] == 200


def test_a_body_with_a_page_is_read_over(port: int) -> None:
    ask(port, "GET", PAGE)
    body = b"GET / HTTP/1.1\r\n\r\n"
    head = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    last = f"GET {PAGE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    assert talk(port, head + body + last).count(b"HTTP/1.1 200 OK") == 2


def test_files_that_are_ready_are_noted_as_served(port: int, tmp_path: Path) -> None:
    listed = json.loads(ask(port, "GET", PAGE, accept=JSON_V1)[2])["files"][0]["filename"]
    for _ in range(3):
        status, headers, body = ask(port, "GET", f"{INDEX}/files/{listed}")
        assert (status, len(body)) == (200, int(headers["content-length"]))
    with closing(Store.open(tmp_path / "served")) as store:
        app = create_app(store)
        app.state.servings.note(RELEASE, fingerprint_of(LINUX), listed)
        app.state.servings.flush()
        with store.database.reading() as connection:
            assert len(connection.execute(servings.select()).all()) == 1


_YANK = """
import sys; from pathlib import Path; from store.publish import Store
store = Store.open(Path(sys.argv[1])); name = sys.argv[2]
for line in sys.stdin:
    store.catalogue.yank("release", name, line.strip()); print(line.strip(), flush=True)
"""


def test_what_another_process_has_committed_is_on_the_next_page(port: int, tmp_path: Path) -> None:
    listed = json.loads(ask(port, "GET", PAGE, accept=JSON_V1)[2])["files"][0]["filename"]
    writer = subprocess.Popen(
        [sys.executable, "-c", _YANK, str(tmp_path / "served"), listed],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert writer.stdin
    assert writer.stdout
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    for number in range(100):
        writer.stdin.write(f"reason-{number}\n")
        writer.stdin.flush()
        assert writer.stdout.readline() == f"reason-{number}\n"
        for _ in range(2):
            connection.request("GET", PAGE)
            assert f"reason-{number}" in connection.getresponse().read().decode()
    connection.close()
    writer.communicate()


@pytest.mark.parametrize("begins", [False, True])
def test_a_request_that_a_stopping_server_gives_up_is_no_crash(begins: bool) -> None:
    sent: list[Message] = []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        if begins:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    async def stop() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
        request = asyncio.create_task(Guard(app)(scope, receive, send))
        await asyncio.sleep(0)
        request.cancel()
        await request

    asyncio.run(stop())
    assert [each.get("status") for each in sent] == ([200] if begins else [503, None])
    assert begins or json.loads(sent[-1]["body"])["code"] == "stopping"
