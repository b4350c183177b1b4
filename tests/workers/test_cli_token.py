"""token, audit and serve as people use them, and pip, uv and wheelfarm with a token."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from uv import find_uv_bin

from builder.interpreter import measure_self
from store.channel import parse_channel
from store.fingerprint import fingerprint_of
from store.provenance import Origin
from store.publish import Store
from store.token import is_token_id, new_token
from tests.store.wheelshop import make_wheel, publish, read_wheel
from tests.workers.api.place import Place

HERE = measure_self().target()
NAME = fingerprint_of(HERE)
MINE = parse_channel("dev/mine")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A server that lets nobody read without a token, with a wheel in ``dev/mine``."""
    made = Place(tmp_path_factory.mktemp("accounts"))
    store = Store.open(made.settings.store, verifier=read_wheel)
    local = Origin(kind="local", location="/src", pinned=False)
    publish(store, make_wheel(made.folder), target=HERE, channel=MINE, origin=local)
    store.close()
    (made.folder / "wheelfarm.toml").write_text('[server]\nanonymous = "none"\n')
    made.serve()
    yield made
    made.stop_server()
    assert "Traceback" not in (made.folder / "server.log").read_text()


def create(place: Place, *options: str) -> str:
    """A new token, as the command prints it on standard output, alone."""
    code, out, err = place.say_inside("token", "create", "ci of mine", *options)
    assert (code, out.count("\n")) == (0, 1), err
    assert out.strip() not in err
    return out.strip()


@pytest.fixture(scope="module")
def token(place: Place) -> str:
    return create(place, "--scope", "read", "--channel", "dev/mine")


def test_a_token_is_made_listed_and_revoked(place: Place) -> None:
    code, made = place.ask(
        "token", "create", "for a while", "--scope", "submit", "--scope", "publish",
        "--channel", "dev/a*", "--channel", "release", "--days", "7",
    )  # fmt: skip
    assert (code, made["scopes"], made["channels"]) == (
        0, ["publish", "submit"], ["dev/a*", "release"],
    )  # fmt: skip
    listed = place.ask("token", "list")[1]["tokens"]
    (row,) = [each for each in listed if each["id"] == made["id"]]
    assert row == {name: value for name, value in made.items() if name != "token"}
    code, out, _ = place.say("token", "list")
    assert (code, made["token"] in out) == (0, False)
    assert is_token_id(made["id"])
    code, revoked = place.ask("token", "revoke", made["id"])
    assert (code, revoked["revoked_at"] is not None) == (0, True)
    code, rows = place.ask("audit", "--object", f"token {made['id']}")
    assert [each["action"] for each in rows["rows"]] == ["token-revoke", "token-create"]
    assert made["token"] not in json.dumps(rows)
    code, out, _ = place.say("audit", "--action", "token-revoke", "--since", "1h", "--limit", "1")
    assert (code, made["id"] in out) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["token", "create", "x", "--scope", "write", "--channel", "*"], "'write' is not one of"),
        (["token", "create", "x", "--scope", "read", "--channel", "d*"], "error[malformed]"),
        (["token", "create", "x", "--scope", "read"], "Missing option '--channel'"),
        (["token", "create", "x", "--channel", "*"], "Missing option '--scope'"),
        (["token", "create", " ", "--scope", "read", "--channel", "*"], "error[malformed]"),
        (["token", "create", "x", "--scope", "read", "--channel", "*", "--days", "0"], "0 is not"),
        (["token", "revoke", "nothing"], "error[not-found]"),
        (["token", "list", "--store", "/nowhere/at/all"], "error[not-a-store]"),
        (["audit", "--since", "yesterday"], "error[usage]"),
        (["audit", "--since", "99999d"], ""),
        (["audit", "--who", "a\nb"], "error[usage]"),
        (["audit", "--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_words_are_refused(place: Place, words: list[str], said: str) -> None:
    code, _, err = place.say_inside(*words)
    assert (code, said in err) == (2 if said else 0, True), err


def index(place: Place, token: str | None = None, user: str = "__token__") -> str:
    url = f"{place.url}{MINE}/{NAME}/simple/"
    return url.replace("://", f"://{user}:{token}@") if token else url


def install(
    place: Path, program: str, url: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Pip or uv install wheaty from an index, with a home of its own."""
    where = ["--target", str(place / "site"), "--index-url", url, "--no-deps", "wheaty"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-cache-dir"]
    command = {
        "pip": [*pip, "install", "--no-input", *where],
        "uv": [
            find_uv_bin(), "pip", "install", "--python", sys.executable, "--no-cache",
            "--keyring-provider", "disabled", *where,
        ],
    }[program]  # fmt: skip
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "WHEELFARM_"))}
    home = {"HOME": str(place), "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**kept, **home, **environment}
    )


both = pytest.mark.parametrize("program", ["pip", "uv"])


@both
def test_an_installer_with_the_token_in_the_url(
    place: Place, token: str, tmp_path: Path, program: str
) -> None:
    done = install(tmp_path, program, index(place, token))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/wheaty.py").is_file()


@both
def test_an_installer_with_the_token_in_netrc(
    place: Place, token: str, tmp_path: Path, program: str
) -> None:
    netrc = tmp_path / ".netrc"
    host = urlsplit(place.url).hostname
    netrc.write_text(f"machine {host} login __token__ password {token}\n")
    netrc.chmod(0o600)
    done = install(tmp_path, program, index(place), NETRC=str(netrc))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/wheaty.py").is_file()


@both
@pytest.mark.parametrize("kind", ["none", "wrong", "of another channel", "revoked"])
def test_an_installer_without_a_good_token_gets_nothing(
    place: Place, tmp_path: Path, program: str, kind: str
) -> None:
    text = None if kind == "none" else new_token().text
    if kind == "of another channel":
        text = create(place, "--scope", "admin", "--channel", "dev/yours")
    if kind == "revoked":
        text = create(place, "--scope", "read", "--channel", "dev/mine")
        place.say("token", "revoke", text[4:16])
    done = install(tmp_path, program, index(place, text))
    assert done.returncode != 0
    assert not (tmp_path / "site/wheaty.py").exists()
    assert text is None or text not in (place.folder / "server.log").read_text()


@pytest.mark.slow
def test_the_commands_send_a_token_from_wherever_it_is_set(place: Place, tmp_path: Path) -> None:
    token = create(place, "--scope", "read", "--channel", "*")
    file = tmp_path / "mine.toml"
    file.write_text(f'store = "x"\n[farm]\ntoken = "{token}"\n')
    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login x password {token}\n")
    (tmp_path / ".netrc").chmod(0o600)
    with_token = place.url.replace("://", f"://me:{token}@")
    netrc = {"HOME": str(tmp_path), "NETRC": str(tmp_path / ".netrc")}
    assert place.say("jobs", WHEELFARM_TOKEN=token)[0] == 0
    assert place.say("jobs", "--settings", file)[0] == 0
    assert place.say("jobs", "--farm", with_token)[0] == 0
    assert place.say("jobs", **netrc)[0] == 0
    code, out, err = place.say("jobs", HOME=str(tmp_path), NETRC=str(tmp_path / "none"))
    assert (code, "(token-needed)" in err) == (2, True)
    wrong = place.url.replace("://", f"://me:{new_token().text}@")
    code, out, err = place.say("jobs", "--farm", wrong)
    assert (code, "(bad-token)" in err, "wfm_" in out + err) == (2, True, False)
    code, out, err = place.say("jobs", "--farm", f"http://me:{token}@127.0.0.1:1/")
    assert (code, token in out + err) == (3, False)
    assert place.say("workers", "drain", "nobody", WHEELFARM_TOKEN=token)[0] == 2


def test_a_local_order_is_in_the_log_as_its_users(place: Place) -> None:
    code, _, err = place.say("workers", "drain", "nobody", "--store", place.settings.store)
    assert (code, "unknown-job" in err) == (2, True)
    code, _, _ = place.say("retry", "999", "--store", place.settings.store)
    assert code == 2
    rows = place.ask("audit", "--who", "nobody at all")[1]["rows"]
    assert rows == []


def test_an_address_that_others_reach_is_read_only_until_there_is_a_token(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.serve(0, "--host", "0.0.0.0")
    url = place.url.replace("0.0.0.0", "127.0.0.1")
    try:
        assert requests.get(url, timeout=30).status_code == 200
        assert requests.get(f"{url}api/jobs", timeout=30).status_code == 200
        answer = requests.post(f"{url}api/jobs/retry?label=x", timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (401, "token-needed")
        assert "wheelfarm token create" in (tmp_path / "server.log").read_text()
        token = create(place, "--scope", "submit", "--channel", "*")
        headers = {"authorization": f"Bearer {token}"}
        answer = requests.post(f"{url}api/jobs/retry?label=x", headers=headers, timeout=30)
        assert (answer.status_code, answer.json()["code"]) == (404, "unknown-job")
    finally:
        place.stop_server()
