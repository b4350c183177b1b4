"""The one document of all addresses: what it says is there, and whatever is asked gets an answer of
the form that it says, never trouble."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core import NOT_SET
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from builder.interpreter import measure_self
from store import probe
from store.access import RULES
from store.channel import RELEASE, UPSTREAM, Channel
from store.digest import sha256_of_file
from store.fingerprint import fingerprint_of
from store.invalidate import Invalidation
from store.keyring import KeyRing
from store.provenance import Origin
from store.publish import Store
from store.selection import Selection
from store.target import identity_of
from tests.builder import forge
from tests.indexes import index_of
from tests.store.client import Client
from tests.store.wheelshop import make_wheel, publish, read_wheel
from tests.workers.api.place import Place, wait_for
from tests.workers.farm.conftest import worker

Pack = Callable[[str], Path]
EXAMPLES = int(os.environ.get("EXAMPLES", "12"))
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
DEV = Channel("dev/me")
PROBE = str(probe.__file__)
HERE = measure_self().target()
_STRIKE = {"selection": {"package": "wheaty"}, "by": "ada", "reason": "for a test"}
NEVER: dict[str, int] = {"POST /release/legacy/": 403, "POST /api/oidc/mint": 403}
"""What nobody may, with what it is answered: no upload enters that channel, and here the settings
trust no issuer (tests/workers/api/test_oidc.py has one)."""


_SUCCESS = set(range(200, 300))


@dataclass(frozen=True, slots=True)
class Busy:
    """A farm in which there is something of each kind, and what makes sense there.

    `names` are those of path parameters, `bodies` and `queries` go by the path of the operation.
    """

    url: str
    headers: dict[str, str]
    names: dict[str, Any]
    sdist: Path
    wheel: Path
    bodies: dict[str, dict[str, Any]]
    queries: dict[str, dict[str, Any]]


def test_every_route_is_in_the_document(served: Place) -> None:
    found = requests.get(f"{served.url}openapi.json", timeout=30).json()
    validate(found)
    there = {
        f"{method.upper()} {path}" for path, calls in found["paths"].items() for method in calls
    }
    for rule in RULES:
        if rule.endswith("{page:path}"):
            continue  # leads a page's address without its last slash to the page; else it is 404
        for channel in ("release", "dev/{name}"):
            assert rule.replace("{channel:channel}", channel) in there, rule
    operations = [
        call["operationId"] for calls in found["paths"].values() for call in calls.values()
    ]
    assert len(set(operations)) == len(operations)


def test_a_store_alone_has_a_document_of_its_own(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "store")) as store:
        found = Client(store).get("/openapi.json").json()
    validate(found)
    assert "/release/{fingerprint}/simple/{project}/" in found["paths"]
    assert not any(path.startswith("/api/") for path in found["paths"])


@pytest.fixture
def busy(place: Place, pack: Pack, tmp_path: Path) -> Iterator[Busy]:
    """A farm with wheels, keys, jobs of every end, submissions, a worker, an index, an admin."""
    with place.worker() as (farm, _):
        place.say("build", pack("pure"), pack("raises"))
        farm.registry.enter(worker("w1"))
    KeyRing(folder=place.settings.store / "keys").create("0" * 32)
    wheel = _stock(place, tmp_path)
    with index_of(tmp_path / "index") as index:
        index.add(forge.wheel(tmp_path, "corny-1.0-py3-none-any.whl", {"corny.py": b"1\n"}))
        (tmp_path / "wheelfarm.toml").write_text(
            f'index-url = "{index.url}"\n[upload]\ntargets = ["native"]\n'
        )
        place.stop_server()
        place.serve()
        yield _busy(place, pack("pure"), wheel)


def _stock(place: Place, folder: Path) -> Path:
    """Publish a wheel in a channel of each kind, and one that is disowned; give the first."""
    wheel, other, barley = (make_wheel(folder, name=name) for name in ("wheaty", "rye", "barley"))
    with closing(Store.open(place.settings.store, verifier=read_wheel)) as store:
        for channel, origin in _ORIGINS.items():
            publish(store, wheel, channel=channel, origin=origin, target=HERE)
        for each in (other, barley):
            publish(store, each, channel=DEV, origin=_ORIGINS[DEV], target=HERE)
        Invalidation(store.database).disown(Selection(package="rye"), reason="bad", by="ada")
    return wheel


_ORIGINS = {
    RELEASE: Origin(kind="index", location="https://index.example/", pinned=True),
    DEV: Origin(kind="local", location="/here", pinned=True),
    UPSTREAM: Origin(kind="index-wheel", location="https://index.example/", pinned=True),
}


def _busy(place: Place, sdist: Path, wheel: Path) -> Busy:
    log = (place.folder / "server.log").read_text()
    token = place.say("token", "create", "ada", "--scope", "admin", "--channel", "*")[1].split()[-1]
    names = {
        "fingerprint": fingerprint_of(HERE), "project": "wheaty", "filename": wheel.name,
        "name": "me", "sha256": sha256_of_file(sdist), "worker_id": "w1", "job_id": 1,
        "submission_id": re.findall(r"submissions/([0-9a-f]{32})", log)[0],
    }  # fmt: skip
    headers = {"Authorization": f"Bearer {token}"}
    dist = make_wheel(place.folder / "dist", name="oats", tag="py3-none-any", build=None)
    bodies = _bodies(sdist)
    queries = {"/api/jobs/retry": {"label": "raises"}}
    busy = Busy(place.url, headers, names, sdist, dist, bodies, queries)
    waiting = _submitted(busy, {**bodies["/api/submissions"], "channel": "dev/other"})
    busy.queries["waiting"] = {"job_id": waiting}
    return busy


def _bodies(sdist: Path) -> dict[str, dict[str, Any]]:
    """A body that is right, by the path that takes it."""
    upload = {"kind": "upload", "sha256": sha256_of_file(sdist), "filename": sdist.name}
    target = {"name": "native", "identity": identity_of(HERE)}
    call = {"wanted": [upload], "targets": [target], "submitter": "ada"}
    probe = json.loads(subprocess.check_output([sys.executable, PROBE]))
    adoption = {"wanted": [{"kind": "release", "name": "corny", "version": "1.0"}]}
    promotion = {"source": DEV, "target": "dev/team", "selection": {"package": "barley"}}
    resolves = (f"{channel}/resolve" for channel in ("", "/release", "/upstream", "/dev/{name}"))
    return {
        **dict.fromkeys(resolves, probe),
        "/api/submissions": call,
        "/api/plan": call,
        "/api/yank": _STRIKE,
        "/api/disown": {**_STRIKE, "dry_run": True},
        "/api/yank/undo": {"selection": {"package": "wheaty"}, "by": "ada"},
        "/api/disown/undo": {"selection": {"package": "rye"}, "by": "ada"},
        "/api/promote": {**promotion, "reason": "tested"},
        "/api/adopt": {**adoption, "fingerprints": [fingerprint_of(HERE)]},
    }


def _submitted(busy: Busy, call: dict[str, Any]) -> int:
    """The number of the job that a submission makes, which nobody does."""
    url = f"{busy.url}api/submissions"
    answer = requests.post(url, json=call, headers=busy.headers, timeout=60)
    place = f"{url}/{answer.json()['id']}/items"

    def job() -> int | None:
        items = requests.get(place, headers=busy.headers, timeout=60).json()["items"]
        return items[0]["job"] if items else None

    return wait_for(job)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_gets_an_answer_of_the_documented_form(
    busy: Busy, mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"{busy.url}openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 40
    seen: dict[str, set[int]] = {}
    for operation in sorted(operations, key=lambda each: each.method != "get"):
        seen[operation.label] = _ask(operation, busy, mode)
    statuses = set().union(*seen.values())
    assert {200, 400, 404} <= statuses
    assert not any(status >= 500 for status in statuses - {503})
    if mode is GenerationMode.POSITIVE:
        for label, status in NEVER.items():
            assert status in seen.pop(label), label
        without = {label: each for label, each in seen.items() if not each & _SUCCESS}
        assert without == {}, "what is right got in nowhere"


def _ask(operation: Any, busy: Busy, mode: GenerationMode) -> set[int]:
    """Ask an address what the document lets one think of, what is right there, and mixtures of
    both; the statuses that came."""
    seen = set()

    @given(
        case=operation.as_strategy(generation_mode=mode),
        known=st.sampled_from([True, True, False]),
        spoilt=st.one_of(st.just(0), st.integers(0, 255)),
        junk=st.text(max_size=40),
    )
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def one(case: Any, known: bool, spoilt: int, junk: str) -> None:
        more = _make_sense(case, busy, spoilt, junk) if known else {}
        headers = {**busy.headers, **more.pop("headers", {})}
        answer = case.call(base_url=busy.url.rstrip("/"), headers=headers, timeout=60, **more)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    with suppress(Unsatisfiable):  # an address that takes nothing can be asked nothing wrong
        one()
    return seen


def _make_sense(case: Any, busy: Busy, spoilt: int, junk: str) -> dict[str, Any]:
    """Have a made-up case ask of what is there; what else is to be sent.

    Each bit of `spoilt` lets one part stay as it was made up, or be `junk`.
    """
    path = case.operation.path
    names = {**busy.names, **(busy.queries["waiting"] if case.method == "POST" else {})}
    if path.startswith("/api/sdists/"):
        names["filename"] = busy.sdist.name
    own = case.path_parameters or {}
    case.path_parameters = {**own, **{name: names[name] for name in own if name in names}}
    if path in busy.queries:
        case.query = {**(case.query or {}), **busy.queries[path]}
    if path in busy.bodies:
        case.body = _mixed(busy.bodies[path], case.body, spoilt)
    if path.endswith("/legacy/"):
        return _form(case, busy.wheel, spoilt, junk)
    if path.startswith("/api/sdists/") and case.method == "PUT":
        return {"data": junk.encode() if spoilt & 1 else busy.sdist.read_bytes()}
    return {}


def _mixed(sound: dict[str, Any], made_up: Any, spoilt: int) -> dict[str, Any]:
    """The right body with some values of the one that was made up."""
    if not isinstance(made_up, dict):
        return sound
    names = sorted(sound.keys() | made_up.keys())
    taken = [name for bit, name in enumerate(names) if spoilt >> bit & 1 and name in made_up]
    return {**sound, **{name: made_up[name] for name in taken}}


def _form(case: Any, wheel: Path, spoilt: int, junk: str) -> dict[str, Any]:
    """An upload as twine sends it, with some of its fields spoilt."""
    fields = {
        ":action": "file_upload", "protocol_version": "1", "name": "oats", "version": "1.0",
        "filetype": "bdist_wheel", "sha256_digest": sha256_of_file(wheel), "summary": "",
    }  # fmt: skip
    for bit, name in enumerate(fields):
        if spoilt >> bit & 1:
            fields[name] = junk
    content = wheel.read_bytes()[: -1 if spoilt >> 7 & 1 else None]
    made = requests.Request(
        "POST", "http://farm/", data=fields, files={"content": (wheel.name, content)}
    )
    sent = made.prepare()
    case.body = NOT_SET
    return {"data": sent.body, "headers": {"Content-Type": sent.headers["Content-Type"]}}
