"""The server: every route, what its answers carry, and what a wrong request gets."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest

from store import server
from store.channel import Channel
from store.digest import sha256_of
from store.environment import Environment
from store.errors import StoreError
from store.fingerprint import fingerprint_of
from store.guard import MAX_HEADERS, check_request
from store.invalidate import Invalidation
from store.pages import HTML_V1, JSON_V1
from store.provenance import Origin
from store.publish import Store
from store.release import Release
from store.selection import Selection
from store.target import Target
from tests.store.client import Client
from tests.store.wheelshop import LINUX, MACOS, make_wheel, publish, read_wheel
from workers.cli.index_url import probe_json

DEV = Channel("dev/me")
LOCAL = Origin(kind="local", location="/src", pinned=False)
INDEX = f"/release/{fingerprint_of(LINUX)}"

# The server asks the catalogue alone, whose own tests are over both engines; what the two serve is
# compared in test_postgresql.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def wheel(store: Store, tmp_path: Path) -> Release:
    return publish(store, make_wheel(tmp_path, members={"big.py": b"#" * 5_000}))


@pytest.fixture
def client(store: Store, wheel: Release) -> Client:
    return Client(store)


def _error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["code"]) == (status, code), body
    assert body["message"]
    assert set(body) >= {"code", "message", "hint"}
    return body


def test_the_page_for_people(client: Client) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert fingerprint_of(LINUX) in page.text
    assert "<script" not in page.text
    policy = page.headers["content-security-policy"]
    style = re.findall("<style>(.*)</style>", page.text)[0]
    assert f"'sha256-{_base64_digest(style)}'" in policy
    assert "default-src 'none'" in policy


def _base64_digest(text: str) -> str:
    return base64.b64encode(bytes.fromhex(sha256_of(text.encode()))).decode()


def test_the_project_list_in_both_forms(client: Client) -> None:
    html = client.get(f"{INDEX}/simple/")
    assert html.headers["content-type"] == "text/html; charset=utf-8"
    assert '<a href="wheaty/">wheaty</a>' in html.text
    machine = client.get(f"{INDEX}/simple/", accept=JSON_V1)
    assert machine.headers["content-type"] == JSON_V1
    assert machine.json()["projects"] == [{"name": "wheaty"}]
    for answer in (html, machine):
        assert answer.headers["vary"] == "Accept, Accept-Encoding"
        assert answer.headers["cache-control"] == "no-cache"


def test_a_project_in_each_form_and_by_query(client: Client, wheel: Release) -> None:
    place = f"{INDEX}/simple/wheaty/"
    assert client.get(place, accept=JSON_V1).json()["files"][0]["filename"] == wheel.filename
    assert client.get(place, accept=HTML_V1).headers["content-type"] == HTML_V1
    assert client.get(f"{place}?format={JSON_V1}").json()["name"] == "wheaty"


def test_no_form_that_the_client_takes(client: Client) -> None:
    for page in (f"{INDEX}/simple/", f"{INDEX}/simple/wheaty/"):
        _error(client.get(page, accept="image/png"), 406, "not-acceptable")
        _error(client.get(f"{page}?format=yaml"), 406, "not-acceptable")


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        ("simple/Wheaty/", "../wheaty/"),
        ("simple/Wheat_._Y/", "../wheat-y/"),
        ("simple/Wheat_Y", "wheat-y/"),
        ("simple", "simple/"),
        ("links", "links/"),
        (f"simple/Wheaty/?format={JSON_V1}", f"../wheaty/?format={JSON_V1}"),
    ],
)
def test_other_spellings_lead_to_the_one_address(client: Client, asked: str, place: str) -> None:
    answer = client.get(f"{INDEX}/{asked}")
    assert (answer.status_code, answer.headers["location"]) == (301, place)


def test_every_link_leads_to_the_bytes_that_it_names(client: Client, wheel: Release) -> None:
    for page in ("simple/wheaty/", "links/"):
        base = httpx.URL(f"http://farm.example{INDEX}/{page}")
        [href] = re.findall('href="([^"]*)"', client.get(f"{INDEX}/{page}").text)
        place = base.join(href)
        assert sha256_of(client.get(place.path).content) == place.fragment.removeprefix("sha256=")
        metadata = client.get(f"{place.path}.metadata")
        assert sha256_of(metadata.content) == wheel.metadata_sha256
        assert metadata.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_file_may_be_kept_for_ever(client: Client, wheel: Release) -> None:
    answer = client.get(f"{INDEX}/files/{wheel.filename}")
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["etag"] == f'"{wheel.sha256}"'
    assert int(answer.headers["content-length"]) == wheel.size
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "page", ["/", "/probe.py", f"{INDEX}/simple/", f"{INDEX}/simple/wheaty/", f"{INDEX}/links/"]
)
def test_a_page_that_the_client_has_is_304(client: Client, page: str) -> None:
    etag = client.get(page).headers["etag"]
    for named in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(page, if_none_match=named)
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(page, if_none_match='"other"').status_code == 200


def test_a_file_that_the_client_has_is_304(client: Client, wheel: Release) -> None:
    for place in (wheel.filename, f"{wheel.filename}.metadata"):
        etag = client.get(f"{INDEX}/files/{place}").headers["etag"]
        assert client.get(f"{INDEX}/files/{place}", if_none_match=etag).status_code == 304


def test_the_two_forms_of_a_page_have_two_etags(client: Client) -> None:
    html, machine = (client.get(f"{INDEX}/simple/", accept=form) for form in ("*/*", JSON_V1))
    assert html.headers["etag"] != machine.headers["etag"]


def test_head_has_the_headers_and_no_body(client: Client, wheel: Release) -> None:
    for place in (f"{INDEX}/simple/", f"{INDEX}/files/{wheel.filename}"):
        head, get = client.ask("HEAD", place), client.get(place)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]
        assert head.headers["etag"] == get.headers["etag"]


@pytest.mark.parametrize(
    ("asked", "piece"),
    [("bytes=0-9", slice(0, 10)), ("bytes=100-", slice(100, None)), ("bytes=-7", slice(-7, None))],
)
def test_a_range(client: Client, wheel: Release, asked: str, piece: slice) -> None:
    place = f"{INDEX}/files/{wheel.filename}"
    whole, part = client.get(place).content, client.get(place, range=asked)
    assert (part.status_code, part.content) == (206, whole[piece])
    assert part.headers["content-range"].endswith(f"/{wheel.size}")


@pytest.mark.parametrize(
    "asked", ["bytes=9-1", "bytes=a-b", "lines=1-2", "bytes=0-1,3-4", "x" * 99]
)
def test_a_range_that_is_none_is_ignored(client: Client, wheel: Release, asked: str) -> None:
    answer = client.get(f"{INDEX}/files/{wheel.filename}", range=asked)
    assert (answer.status_code, len(answer.content)) == (200, wheel.size)


@pytest.mark.parametrize("asked", ["bytes=999999-", "bytes=-0", f"bytes={'9' * 18}-"])
def test_a_range_behind_the_end(client: Client, wheel: Release, asked: str) -> None:
    answer = client.get(f"{INDEX}/files/{wheel.filename}", range=asked)
    _error(answer, 416, "range")
    assert answer.headers["content-range"] == f"bytes */{wheel.size}"


def test_if_range_with_another_etag_gives_the_whole(client: Client, wheel: Release) -> None:
    place = f"{INDEX}/files/{wheel.filename}"
    assert client.get(place, range="bytes=0-1", if_range='"old"').status_code == 200
    same = client.get(place, range="bytes=0-1", if_range=f'"{wheel.sha256}"')
    assert same.status_code == 206


def test_the_probe_is_the_file_that_the_package_has(client: Client) -> None:
    assert client.get("/probe.py").text == Path(server.__file__).with_name("probe.py").read_text()


def test_health(client: Client) -> None:
    assert client.get("/healthz").text == "ok\n"


def test_provenance_says_where_a_wheel_comes_from(client: Client, wheel: Release) -> None:
    record = client.get(f"{INDEX}/provenance/{wheel.filename}").json()
    [publication] = record["publications"]
    assert publication["release"]["sha256"] == wheel.sha256
    assert publication["provenance"]["source"]["origin"]["kind"] == "index"
    assert [each["reason"] for each in record["serves"]] == ["built-for"]


def test_provenance_in_release_does_not_tell_of_other_channels(
    store: Store, client: Client, tmp_path: Path, wheel: Release
) -> None:
    publish(store, tmp_path / wheel.filename, channel=DEV, origin=LOCAL)
    record = client.get(f"{INDEX}/provenance/{wheel.filename}")
    assert "dev/me" not in record.text


def _as_probe(environment: Environment) -> bytes:
    return json.dumps(probe_json(environment)).encode()


@pytest.fixture
def mac_index(store: Store, tmp_path: Path, mac: Environment) -> Target:
    """The store has something for the Mac's own interpreter, for an older macOS."""
    target = replace(mac.target(), baseline=replace(mac.baseline, major=11, minor=0))
    python = mac.interpreter.python_tag
    publish(store, make_wheel(tmp_path, name="corny", tag=f"{python}-none-any"), target=target)
    return target


def test_resolve_gives_the_index_that_fits(
    client: Client, mac_index: Target, mac: Environment
) -> None:
    answer = client.ask("POST", "/resolve", content=_as_probe(mac))
    fingerprint = fingerprint_of(mac_index)
    assert answer.status_code == 200
    assert answer.json() == {
        "channel": "release",
        "fingerprint": fingerprint,
        "index_url": f"http://farm.example/release/{fingerprint}/simple/",
        "links_url": f"http://farm.example/release/{fingerprint}/links/",
    }
    assert client.get(answer.json()["index_url"]).status_code == 200


def test_resolve_behind_a_prefix_answers_with_it(
    store: Store, mac_index: Target, mac: Environment
) -> None:
    behind = Client(store, root_path="/wheels")
    answer = behind.ask("POST", "/wheels/resolve", content=_as_probe(mac))
    url = f"http://farm.example/wheels/release/{fingerprint_of(mac_index)}/simple/"
    assert answer.json()["index_url"] == url


def test_resolve_names_the_nearest_and_what_differs(
    client: Client, mac_index: Target, mac: Environment
) -> None:
    other = replace(mac, build=replace(mac.build, config_sha256=sha256_of(b"other")))
    answer = client.ask("POST", "/release/resolve", content=_as_probe(other))
    body = _error(answer, 404, "no-match")
    assert body["nearest"][0]["fingerprint"] == fingerprint_of(mac_index)
    assert [each["field"] for each in body["nearest"][0]["differences"]] == ["build.config_sha256"]


def test_resolve_looks_into_one_channel(
    client: Client, mac_index: Target, mac: Environment
) -> None:
    answer = client.ask("POST", "/dev/me/resolve", content=_as_probe(mac))
    body = _error(answer, 404, "no-match")
    assert (body["nearest"], body["other_channels"]) == ([], ["release"])
    assert body["hint"] == "another channel has one: --channel release"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff\xfe", b'{"schema": 1}', b"[" * 60_000])
def test_resolve_refuses_what_no_probe_prints(client: Client, body: bytes) -> None:
    _error(client.ask("POST", "/resolve", content=body), 400, "malformed")


def test_resolve_refuses_a_large_body(client: Client) -> None:
    _error(client.ask("POST", "/resolve", content=b" " * 70_000), 413, "body-too-large")


def test_resolve_gives_up_on_a_body_that_does_not_come(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nothing() -> AsyncIterator[bytes]:
        yield b"{"
        await anyio.sleep_forever()

    # httpx's transport reads the whole body first, so the request is made by hand.
    monkeypatch.setattr(server, "_BODY_SECONDS", 0)
    sent: list[Any] = []

    async def ask() -> None:
        body = nothing()

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": await anext(body), "more_body": True}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": "POST", "path": "/resolve", "raw_path": b"/resolve",
            "query_string": b"", "headers": [], "scheme": "http", "server": ("farm", 80),
        }  # fmt: skip
        await client.app(scope, receive, send)

    anyio.run(ask)
    assert sent[0]["status"] == 408
    assert json.loads(sent[1]["body"])["code"] == "body-timeout"


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        (f"{INDEX}/simple/nope/", 404, "unknown-project"),
        (f"{INDEX}/files/nope-1.0-py3-none-any.whl", 404, "unknown-file"),
        (f"{INDEX}/files/nope-1.0-py3-none-any.whl.metadata", 404, "unknown-file"),
        (f"{INDEX}/files/.metadata", 404, "unknown-file"),
        (f"{INDEX}/provenance/nope.whl", 404, "unknown-file"),
        (f"{INDEX}/else", 404, "not-found"),
        (f"{INDEX}/", 404, "not-found"),
        (f"/release/{fingerprint_of(MACOS)}/simple/", 404, "unknown-index"),
        (f"/release/{fingerprint_of(MACOS)}/simple/wheaty/", 404, "unknown-index"),
        (f"/release/{fingerprint_of(MACOS)}/links/", 404, "unknown-index"),
        (f"/release/{fingerprint_of(MACOS)}/files/a.whl", 404, "unknown-index"),
        (f"/dev/me/{fingerprint_of(LINUX)}/simple/", 404, "unknown-index"),
        (f"/dev/ME/{fingerprint_of(LINUX)}/simple/", 400, "malformed"),
        ("/release/cp311/simple/", 400, "malformed"),
        ("/release/cp311/links/", 400, "malformed"),
        ("/release/cp311/provenance/x", 400, "malformed"),
        ("/nightly/cp311/simple/", 404, "not-found"),
        ("/favicon.ico", 404, "not-found"),
        ("/resolve", 405, "method-not-allowed"),
    ],
)
def test_what_is_not_there(client: Client, path: str, status: int, code: str) -> None:
    answer = client.get(path)
    _error(answer, status, code)
    assert "content-security-policy" in answer.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"])
def test_other_methods(client: Client, wheel: Release, method: str) -> None:
    for path in ("/", f"{INDEX}/simple/", f"{INDEX}/files/{wheel.filename}", "/probe.py"):
        answer = client.ask(method, path)
        _error(answer, 405, "method-not-allowed")
        assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize(
    "raw",
    [
        b"/release/%2e%2e/simple/",
        b"/release/../simple/",
        b"/release/./simple/",
        b"/release//simple/",
        b"//etc/passwd",
        INDEX.encode() + b"/files/..%2f..%2fcatalogue.sqlite",
        INDEX.encode() + b"/files/%2Fetc%2Fpasswd",
        INDEX.encode() + b"/files/..%5c..%5cx",
        INDEX.encode() + b"/files/a%00.whl",
        INDEX.encode() + b"/files/a%0d%0aX-Evil:1.whl",
        INDEX.encode() + b"/files/%ff%fe.whl",
        INDEX.encode() + b"/files/a\\b.whl",
        INDEX.encode() + b"/files/%ed%b0%80",
        b"/%c0%ae%c0%ae/x",
    ],
)
def test_tricks_with_the_path(client: Client, raw: bytes) -> None:
    status, body = _raw(client, raw)
    assert (status, body["code"]) == (400, "malformed")


def _raw(client: Client, raw: bytes, **scope: Any) -> tuple[int, dict[str, Any]]:
    """The answer to a request whose path is `raw`, as uvicorn hands it over."""
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        given = {
            "type": "http", "method": "GET", "path": unquote(raw.decode("latin-1")),
            "raw_path": raw, "query_string": b"", "headers": [], "scheme": "http",
            "server": ("farm.example", 80), **scope,
        }  # fmt: skip
        await client.app(given, receive, send)

    anyio.run(ask)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


def test_headers_paths_and_queries_beyond_the_limit(client: Client) -> None:
    many = [(b"x-%d" % number, b"y" * 100) for number in range(MAX_HEADERS // 100)]
    for status, body in (
        _raw(client, b"/", headers=many),
        _raw(client, b"/", headers=[(b"accept", b"a" * MAX_HEADERS)]),
        _raw(client, b"/" + b"a" * 3_000),
        _raw(client, b"/", query_string=b"a" * 3_000),
    ):
        assert (status, body["code"]) == (431, "headers-too-large")


@pytest.mark.usefixtures("store")
def test_an_honest_path_passes_the_guard() -> None:
    path = f"{INDEX}/files/wheaty-1.0%2Blocal-py3-none-any.whl".encode()
    check_request({"headers": [], "raw_path": path, "query_string": b"", "path": ""})


def test_a_client_of_another_kind_is_told_and_gets_the_same(
    client: Client, wheel: Release, caplog: pytest.LogCaptureFixture
) -> None:
    agent = 'pip/25.0 {"python": "3.8.1", "cpu": "riscv64", "system": {"name": "Linux"}}'
    for place in (f"{INDEX}/simple/wheaty/", f"{INDEX}/links/", f"{INDEX}/files/{wheel.filename}"):
        with caplog.at_level(logging.WARNING, "wheelfarm.serve"):
            told, plain = client.get(place, user_agent=agent), client.get(place)
        assert told.content == plain.content
        assert told.headers["etag"] == plain.headers["etag"]
        assert "machine: wanted x86_64, found riscv64" in told.headers["x-wheelfarm-mismatch"]
        assert "x-wheelfarm-mismatch" not in plain.headers
        assert "found riscv64" in caplog.text
        caplog.clear()


def test_trouble_with_the_store_tells_nothing_of_the_machine(
    store: Store, client: Client, wheel: Release, caplog: pytest.LogCaptureFixture
) -> None:
    store.blobs.path(wheel.sha256).unlink()
    answer = client.get(f"{INDEX}/files/{wheel.filename}")
    body = _error(answer, 500, StoreError.code)
    assert wheel.sha256 not in body["message"]
    assert wheel.sha256 in caplog.text


def test_links_and_redirects_hold_behind_a_prefix(store: Store, client: Client) -> None:
    behind = Client(store, root_path="/wheels")
    page = behind.get(f"/wheels{INDEX}/simple/wheaty/")
    assert page.status_code == 200
    assert page.text == client.get(f"{INDEX}/simple/wheaty/").text
    assert behind.get(f"/wheels{INDEX}/simple/Wheaty/").headers["location"] == "../wheaty/"
    assert 'href="./release/' in behind.get("/wheels/").text


def test_a_wheel_of_another_channel_is_no_file_of_this_one(
    store: Store, client: Client, tmp_path: Path
) -> None:
    path = make_wheel(tmp_path, name="secret")
    assert read_wheel(path).name == "secret"
    publish(store, path, channel=DEV, origin=LOCAL)
    _error(client.get(f"{INDEX}/files/{path.name}"), 404, "unknown-file")
    assert client.get(f"/dev/me/{fingerprint_of(LINUX)}/files/{path.name}").status_code == 200


def test_a_disowned_file_is_gone_and_says_so(
    store: Store, client: Client, wheel: Release, tmp_path: Path
) -> None:
    place = f"{INDEX}/files/{wheel.filename}"
    assert client.get(place).status_code == 200
    orders = Invalidation(store.database)
    order, _ = orders.disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert order is not None
    pages = (place, f"{place}.metadata", f"{INDEX}/provenance/{wheel.filename}")
    for page in pages:
        body = _error(client.get(page), 410, "disowned")
        assert "wheelfarm explain" in body["hint"]
    _error(client.get(f"{INDEX}/files/other-1.0-py3-none-any.whl"), 404, "unknown-index")
    for page in (f"{INDEX}/simple/", f"{INDEX}/simple/wheaty/", f"{INDEX}/links/"):
        _error(client.get(page), 404, "unknown-index")
    other = publish(store, make_wheel(tmp_path, name="corny"))
    for page in pages:
        _error(client.get(page), 410, "disowned")
    _error(client.get(f"{INDEX}/simple/wheaty/"), 404, "unknown-project")
    _error(client.get(f"{INDEX}/files/other-1.0-py3-none-any.whl"), 404, "unknown-file")
    for page in ("simple/", "links/"):
        assert "wheaty" not in client.get(f"{INDEX}/{page}").text
    orders.undo("disown", order.id, by="ada")
    assert client.get(place).status_code == 200
    assert other.filename in client.get(f"{INDEX}/links/").text


def test_who_was_given_a_file_is_noted_and_no_page_is(
    store: Store, client: Client, wheel: Release
) -> None:
    place = f"{INDEX}/files/{wheel.filename}"
    for page in (f"{INDEX}/links/", f"{place}.metadata", f"/dev/me/{fingerprint_of(LINUX)}/links/"):
        client.get(page)
    client.ask("HEAD", place)
    client.app.state.servings.flush()
    orders = Invalidation(store.database)
    assert orders.look(Selection(package="wheaty")).served == ()
    client.get(place)
    client.app.state.servings.flush()
    (served,) = orders.look(Selection(package="wheaty")).served
    assert (served.fingerprint, served.filename) == (wheel.fingerprint, wheel.filename)
