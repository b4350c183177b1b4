"""The gate at the store's pages: how tokens are sent, what is refused, and what stays hidden."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from store.access import Actor, Anonymous, ChannelPattern, Grant, Right
from store.accounts import Accounts, NewToken
from store.channel import Channel
from store.fingerprint import fingerprint_of
from store.gate import Gate
from store.provenance import Origin
from store.publish import Store
from store.token import new_token
from tests.store.client import Client
from tests.store.wheelshop import LINUX, make_wheel, publish

MINE, YOURS = Channel("dev/mine"), Channel("dev/yours")
LOCAL = Origin(kind="local", location="/src", pinned=False)
NAME = fingerprint_of(LINUX)
INDEX = f"/{MINE}/{NAME}"

# The gate asks the accounts alone, whose own tests are over both engines.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    publish(store, make_wheel(tmp_path), channel=MINE, origin=LOCAL)
    publish(store, make_wheel(tmp_path, name="corny"), channel=YOURS, origin=LOCAL)
    return store


@pytest.fixture
def gate(filled: Store) -> Gate:
    return Gate(accounts=Accounts(filled.database), anonymous="none")


@pytest.fixture
def client(filled: Store, gate: Gate) -> Client:
    return Client(filled, gate=gate)


@pytest.fixture
def token(filled: Store) -> str:
    return make_token(filled, "read", MINE)


def make_token(store: Store, scope: Right, *channels: str) -> str:
    grant = Grant(scopes=frozenset({scope}), channels=tuple(map(ChannelPattern, channels)))
    new = NewToken(name="somebody", grant=grant, life=timedelta(days=1))
    return Accounts(store.database).create(new, Actor(who="test"))[1].text


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    "send",
    [
        lambda token: basic("__token__", token),
        lambda token: basic("anybody", token),
        lambda token: basic("", token),
        lambda token: basic(token, ""),
        lambda token: basic("ü", token),
        lambda token: "Bearer " + token,
        lambda token: "bearer  " + token,
        lambda token: basic("__token__", token).replace("Basic", "BASIC"),
    ],
)
def test_the_ways_in_which_clients_send_a_token(client: Client, token: str, send: object) -> None:
    assert callable(send)
    assert client.get(f"{INDEX}/simple/", authorization=send(token)).status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        "Basic",
        "Basic ===",
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        "Basic " + "A" * 4_000,
        "Bearer",
        "Bearer wfm_x",
        "Negotiate abc",
        "Digest username=x",
        basic("admin", "hunter2"),
        # Their ids must not be the tokens, which are others in each process of the tests.
        pytest.param(basic("__token__", new_token().text), id="unknown-basic"),
        pytest.param("Bearer " + new_token().text, id="unknown-bearer"),
    ],
)
@pytest.mark.parametrize("anonymous", ["none", "read", "all"])
def test_what_is_no_good_token_is_refused_and_never_told(
    filled: Store, gate: Gate, sent: str, anonymous: Anonymous, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(filled, gate=replace(gate, anonymous=anonymous))
    with caplog.at_level(logging.INFO):
        answer = client.get(f"{INDEX}/simple/", authorization=sent)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-token")
    assert answer.headers["www-authenticate"].startswith('Basic realm="wheelfarm"')
    secret = sent.partition(" ")[2]
    assert not secret or len(secret) < 4 or secret not in caplog.text + answer.text
    assert "bad-token" in caplog.text


def test_two_headers_are_refused(client: Client, token: str) -> None:
    headers = [("authorization", f"Bearer {token}"), ("authorization", f"Bearer {token}")]
    assert client.ask("GET", f"{INDEX}/simple/", headers=headers).status_code == 401


def test_without_a_token_clients_are_asked_for_one_and_public_pages_are_open(
    client: Client,
) -> None:
    answer = client.get(f"{INDEX}/simple/")
    assert (answer.status_code, answer.json()["code"]) == (401, "token-needed")
    assert answer.headers["www-authenticate"].startswith('Basic realm="wheelfarm"')
    assert "wheelfarm token create" in answer.json()["hint"]
    assert client.get("/keys.json").json()["code"] == "no-signing-key"
    for path in ("/healthz", "/probe.py"):
        assert client.get(path).status_code == 200
        assert client.get(path, authorization="Basic garbage").status_code == 200


@pytest.mark.parametrize(
    "page",
    ["simple/", "simple/wheaty/", "links/", "links", "simple/Wheaty/", "files/x.whl",
     "provenance/x.whl", "nothing"],
)  # fmt: skip
def test_a_token_of_another_channel_is_told_so_and_learns_nothing(
    client: Client, filled: Store, page: str
) -> None:
    other = make_token(filled, "admin", YOURS)
    answer = client.get(f"{INDEX}/{page}", authorization=f"Bearer {other}")
    assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")
    assert "in the channel dev/mine" in answer.json()["message"]
    assert "www-authenticate" not in answer.headers


def test_a_token_that_is_over_or_revoked(client: Client, filled: Store, token: str) -> None:
    accounts = Accounts(filled.database)
    sent = f"Bearer {token}"
    assert client.get(f"{INDEX}/simple/", authorization=sent).status_code == 200
    accounts.revoke(token[4:16], Actor(who="test"))
    answer = client.get(f"{INDEX}/simple/", authorization=sent)
    assert (answer.status_code, answer.json()["code"]) == (401, "token-revoked")


def test_the_page_for_people_and_resolve_name_only_what_the_caller_may_see(
    client: Client, filled: Store, token: str, answer: dict[str, Any]
) -> None:
    page = client.get("/", authorization=f"Bearer {token}")
    assert "dev/mine" in page.text
    assert "dev/yours" not in page.text
    both = make_token(filled, "read", "dev/*")
    assert "dev/yours" in client.get("/", authorization=f"Bearer {both}").text
    asked = client.ask(
        "POST",
        f"/{MINE}/resolve",
        content=json.dumps(answer),
        headers={"authorization": f"Bearer {token}"},
    )
    assert asked.status_code in {200, 404}
    assert "dev/yours" not in asked.text


def test_what_was_had_by_a_token_is_for_no_shared_cache(
    filled: Store, gate: Gate, client: Client, token: str
) -> None:
    name = filled.catalogue.listing(MINE, NAME)[0].filename
    open_ = Client(filled, gate=replace(gate, anonymous="read"))
    without = open_.get(f"{INDEX}/files/{name}").headers["cache-control"]
    sent = client.get(f"{INDEX}/files/{name}", authorization=f"Bearer {token}")
    assert without == "public, max-age=31536000, immutable"
    assert sent.headers["cache-control"] == "private, max-age=31536000, immutable"
