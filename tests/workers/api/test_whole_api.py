"""The one document of all addresses: what it says is there, and whatever is asked gets an answer of
the form that it says, never trouble."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from contextlib import closing, suppress
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
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from store.access import RULES
from store.channel import Channel
from store.fingerprint import fingerprint_of
from store.keyring import KeyRing
from store.provenance import Origin
from store.publish import Store
from tests.store.client import Client
from tests.store.wheelshop import LINUX, make_wheel, publish, read_wheel
from tests.workers.api.place import Place

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
GOLDEN = Path(__file__).parents[2] / "golden" / "probe-macos.json"
_STRIKE = {"selection": {"package": "wheaty"}, "by": "ada", "reason": "for a test"}
SOUND: dict[str, dict[str, Any]] = {
    "resolve": json.loads(GOLDEN.read_text()),
    "yank": _STRIKE,
    "disown": {**_STRIKE, "dry_run": True},
    "undo": {"selection": {"package": "wheaty"}, "by": "ada"},
}
"""Bodies that mean something, by the last word of the path: what is made up seldom does."""


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
def busy(place: Place, pack: Pack, tmp_path: Path) -> dict[str, Any]:
    """A farm with wheels, keys, jobs, a submission and an admin; what they are called."""
    with place.worker():
        place.say("build", pack("pure"), pack("raises"))
    log = (tmp_path / "server.log").read_text()
    submission = re.findall(r"submissions/([0-9a-f]{32})", log)[0]
    KeyRing(folder=place.settings.store / "keys").create("0" * 32)
    with closing(Store.open(place.settings.store, verifier=read_wheel)) as store:
        wheel = publish(store, make_wheel(tmp_path))
        local = Origin(kind="local", location="/here", pinned=True)
        publish(store, make_wheel(tmp_path, version="2.0"), channel=DEV, origin=local)
    token = place.say("token", "create", "ada", "--scope", "admin", "--channel", "*")[1]
    return {
        "token": token.split()[-1],
        "fingerprint": fingerprint_of(LINUX), "project": "wheaty", "filename": wheel.filename,
        "name": "me", "sha256": wheel.sha256, "submission_id": submission, "job_id": 1,
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_whatever_is_asked_gets_an_answer_of_the_documented_form(
    place: Place, busy: dict[str, Any], mode: GenerationMode
) -> None:
    schema = schemathesis.openapi.from_url(f"{place.url}openapi.json")
    operations = [each.ok() for each in schema.get_all_operations()]  # type: ignore[union-attr]
    assert len(operations) > 40
    seen: dict[str, set[int]] = {}
    for operation in sorted(operations, key=lambda each: each.method != "get"):
        seen[operation.label] = _ask(operation, place, busy, mode)
    statuses = set().union(*seen.values())
    assert {200, 400, 404} <= statuses
    assert not any(status >= 500 for status in statuses)
    if mode is GenerationMode.POSITIVE:
        assert all(seen.values())
        assert 200 in seen["POST /api/yank"] & seen["POST /api/disown"]


def _ask(operation: Any, place: Place, busy: dict[str, Any], mode: GenerationMode) -> set[int]:
    """Ask an address whatever the document lets one think of; the statuses that came."""
    seen = set()
    headers = {"Authorization": f"Bearer {busy['token']}"}

    @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    def one(case: Any, known: bool) -> None:
        if known:  # of what is there, or nearly nothing but 404 would come
            named = {name: busy[name] for name in case.path_parameters or {} if name in busy}
            case.path_parameters = {**(case.path_parameters or {}), **named}
            if sound := SOUND.get(operation.path.rpartition("/")[2]):
                case.body = sound
        answer = case.call(base_url=place.url.rstrip("/"), headers=headers, timeout=60)
        seen.add(answer.status_code)
        case.validate_response(answer, checks=CHECKS)

    with suppress(Unsatisfiable):  # an address that takes nothing can be asked nothing wrong
        one()
    return seen
