"""From a real build to an offline proof: published, served, fetched, and every lie refused."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from store.digest import sha256_of_file
from store.keyring import KeyRing
from store.publish import Store
from store.release import Release
from tests.forked import forked
from tests.sdists import pack_project
from tests.workers.inside import wheelfarm


@dataclass(frozen=True)
class Fetched:
    """What a client got over HTTP, in a folder of its own; and the store, for its keys."""

    folder: Path
    wheel: Path
    store: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return run(self.folder.parent, *arguments)

    def verify(self, *arguments: str | Path, wheel: Path | None = None) -> tuple[int, str]:
        """Status, and the code of the error or what is proved; no store is at hand."""
        words = ("verify", *arguments, wheel or self.wheel, "--json")
        done = wheelfarm(*words, folder=self.folder, environment=_environment(self.folder))
        said = json.loads(done.stdout)
        return done.returncode, said["error"]["code"] if "error" in said else said["wheel"]

    def written(self, name: str, said: object) -> Path:
        path = self.folder / name
        path.write_text(json.dumps(said))
        return path


def run(cwd: Path, *arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return wheelfarm(*arguments, folder=cwd, environment=_environment(cwd, **more))


def _environment(cwd: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WHEELFARM")}
    ours = {"WHEELFARM_STORE": str(cwd / "store"), "WHEELFARM_CACHE": str(cwd / "cache")}
    return {**kept, **ours, **more}


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Fetched:
    """A sdist built, published, served, and what a client fetched; the server has ended."""
    place = tmp_path_factory.mktemp("attested")
    built = run(place, "build", pack_project("pure", place), "--json")
    assert built.returncode == 0, built.stdout + built.stderr
    with closing(Store.open(place / "store")) as store:
        [index] = store.catalogue.indexes()
        [release] = store.catalogue.listing(index.channel, index.fingerprint)
    assert run(place, "key", "create").returncode == 0
    with _serving(place) as url:
        return _fetch(url, place, release)


@contextmanager
def _serving(cwd: Path) -> Iterator[str]:
    process = subprocess.Popen(
        forked("serve", "--port", 0),
        cwd=cwd,
        env=_environment(cwd),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    yield process.stdout.readline().strip()
    process.send_signal(signal.SIGINT)
    process.communicate()


def _fetch(url: str, place: Path, release: Release) -> Fetched:
    folder = place / "client"
    folder.mkdir()
    file = f"{url}{release.channel}/{release.fingerprint}/files/{release.filename}"
    wheel = folder / release.filename
    for address, path in (
        (file, wheel),
        (f"{file}.intoto.jsonl", folder / "statement"),
        (f"{file}.cdx.json", folder / "bill"),
        (f"{url}keys.json", folder / "keys.json"),
    ):
        with urllib.request.urlopen(address) as answer:
            path.write_bytes(answer.read())
    return Fetched(folder, wheel, place / "store")


def test_a_built_wheel_is_proved_without_store_and_network(fetched: Fetched) -> None:
    proved = fetched.verify("--provenance", "statement", "--key", "keys.json")
    assert proved == (0, fetched.wheel.name)
    done = fetched.run("verify", "--provenance", fetched.folder / "statement", fetched.wheel)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"PROVED  {fetched.wheel.name}\n")
    assert "  built from  pure-1.0.tar.gz, sha256 " in done.stdout


def test_what_is_signed_is_what_was_done(fetched: Fetched) -> None:
    envelope = json.loads((fetched.folder / "statement").read_bytes())
    said = json.loads(base64.b64decode(envelope["payload"]))
    run = said["predicate"]["runDetails"]
    assert run["metadata"]["startedOn"] <= run["metadata"]["finishedOn"]
    assert run["metadata"]["finishedOn"][:19] <= run["metadata"]["wheelfarm_publishedOn"][:19]
    assert said["subject"][0]["digest"]["sha256"] == sha256_of_file(fetched.wheel)
    bill = next(each for each in run["byproducts"] if each["name"].endswith(".cdx.json"))
    assert bill["digest"]["sha256"] == sha256_of_file(fetched.folder / "bill")
    parameters = said["predicate"]["buildDefinition"]["externalParameters"]
    assert (parameters["channel"], parameters["source"]["name"]) == ("dev/local", "pure")


def test_the_keys_may_be_one_in_pem_or_chosen_by_id(fetched: Fetched) -> None:
    statement = ("--provenance", "statement")
    pem = fetched.run("key", "export", "--pem").stdout
    (fetched.folder / "key.pem").write_text(pem)
    assert fetched.verify(*statement, "--key", "key.pem")[0] == 0
    [line] = fetched.run("key", "list").stdout.splitlines()
    keyid = line.split()[0]
    assert fetched.verify(*statement, "--key", "keys.json", "--key", keyid)[0] == 0
    strange = fetched.verify(*statement, "--key", "keys.json", "--key", "0" * 64)
    assert strange == (2, "no-signing-key")


def test_every_lie_has_a_code_of_its_own(fetched: Fetched, tmp_path: Path) -> None:
    keys = ("--key", "keys.json")
    held = json.loads((fetched.folder / "statement").read_bytes())
    payload = base64.b64decode(held["payload"])
    edited = base64.b64encode(payload.replace(b'"dev/local"', b'"release"')).decode()
    lies = {
        "bad-signature": fetched.written("edited", {**held, "payload": edited}),
        "wrong-statement": fetched.written("typed", {**held, "payloadType": "text/plain"}),
        "unsigned": fetched.written("unsigned", {**held, "signatures": []}),
        "bad-provenance": fetched.written("torn", held["payload"]),
    }
    for code, path in lies.items():
        assert fetched.verify("--provenance", path, *keys) == (1, code)
    assert fetched.verify("--provenance", fetched.folder / "bill", *keys) == (1, "bad-provenance")


def test_another_wheel_and_another_name_are_refused(fetched: Fetched, tmp_path: Path) -> None:
    keys = ("--provenance", "statement", "--key", "keys.json")
    same_name = tmp_path / fetched.wheel.name
    same_name.write_bytes(fetched.wheel.read_bytes() + b"\0")
    assert fetched.verify(*keys, wheel=same_name) == (1, "wrong-subject")
    renamed = tmp_path / "pure-2.0-py3-none-any.whl"
    renamed.write_bytes(fetched.wheel.read_bytes())
    assert fetched.verify(*keys, wheel=renamed) == (1, "wrong-subject")
    assert fetched.verify(*keys, wheel=tmp_path) == (2, "usage")


def test_keys_of_another_store_and_keys_of_the_past(fetched: Fetched, tmp_path: Path) -> None:
    statement = ("--provenance", "statement", "--key")
    strange = KeyRing(folder=tmp_path / "strange")
    strange.create("0" * 32)
    assert fetched.verify(*statement, strange.folder / "keys.json") == (1, "unknown-key")
    past = json.loads((fetched.folder / "keys.json").read_bytes())
    past["keys"][0]["until"] = past["keys"][0]["since"][:4].replace("2", "1") + "-01-01T00:00:00Z"
    assert fetched.verify(*statement, fetched.written("past", past)) == (1, "key-expired")
    for absent in ("absent", fetched.folder, fetched.wheel):
        status, code = fetched.verify(*statement, absent)
        assert (status, code in {"usage", "malformed"}) == (2, True)


def test_who_trusts_nobody_is_told_so(fetched: Fetched) -> None:
    assert fetched.verify("--provenance", "statement") == (2, "no-signing-key")
    assert fetched.verify("--key", "keys.json") == (2, "usage")
    two = fetched.verify("--provenance", "statement", "--key", "keys.json", fetched.wheel)
    assert two == (2, "usage")


@pytest.mark.slow
def test_a_rotated_key_still_proves_what_people_hold(fetched: Fetched, tmp_path: Path) -> None:
    ring = KeyRing(folder=tmp_path / "keys")
    shutil.copytree(fetched.store / "keys", ring.folder)
    more = {"WHEELFARM_KEYS": str(ring.folder), "WHEELFARM_STORE": str(fetched.store)}
    [old] = ring.public().keys
    done = run(tmp_path, "key", "rotate", **more)
    assert done.stdout.strip() == ring.public().keys[-1].keyid != old.keyid
    place = fetched.folder / "statement"
    proved = run(tmp_path, "verify", "--provenance", place, fetched.wheel, **more)
    assert proved.returncode == 0, proved.stderr
    run(tmp_path, "key", "rotate", "--distrust", **more)
    one = run(tmp_path, "key", "export", old.keyid, **more)
    assert json.loads(one.stdout)["keys"][0]["until"]
    listed = json.loads(run(tmp_path, "key", "list", "--json", **more).stdout)
    assert len(listed["keys"]) == 2
    assert run(tmp_path, "key", "export", "x", **more).returncode == 2
