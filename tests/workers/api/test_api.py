"""The API as strangers see it: its document, its answers, and what garbage gets."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from builder.toolchain.macos import parse_macos_target
from store.target import identity_of
from tests.workers.api.place import Place, wait_for
from workers.farm.answers import End
from workers.farm.calls import MOST_THINGS
from workers.outcome import Outcome

Pack = Callable[[str], Path]
IDENTITY = identity_of(parse_macos_target("macos-11.0-arm64:cp311"))
RELEASE = {"kind": "release", "name": "six", "version": "1.17.0"}


def words(**more: Any) -> dict[str, Any]:
    target = {"name": "mac", "identity": dict(IDENTITY)}
    return {"wanted": [RELEASE], "targets": [target], "submitter": "me", **more}


def document(place: Place) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{place.url}api/openapi.json", timeout=30).json()
    return found


def test_the_document_is_valid_and_names_every_answer(place: Place) -> None:
    api = document(place)
    validate(api)
    for path, calls in api["paths"].items():
        for call in calls.values():
            assert {"4XX", "5XX"} <= call["responses"].keys(), path
            trouble = call["responses"]["4XX"]["content"]["application/json"]["schema"]
            assert trouble == {"$ref": "#/components/schemas/Trouble"}
            assert call["description"], path


def test_the_answers_have_the_form_that_the_document_gives_them(place: Place, pack: Pack) -> None:
    with place.worker():
        place.say("build", pack("pure"), pack("raises"))
        submission = re.findall(r"submissions/([0-9a-f]{32})", _log(place))[0]
        api = document(place)
        for path in (
            f"/submissions/{submission}", f"/submissions/{submission}/items",
            f"/submissions/{submission}/why", "/jobs", "/jobs/1", "/jobs/2/why", "/workers",
            "/queues",
        ):  # fmt: skip
            _check(place, api, path)


def _log(place: Place) -> str:
    return (place.folder / "server.log").read_text()


def _check(place: Place, api: dict[str, Any], path: str) -> None:
    answer = requests.get(f"{place.url}api{path}", timeout=30)
    known = re.sub(r"/([0-9a-f]{32})", "/{submission_id}", path)
    known = re.sub(r"/[0-9]+", "/{job_id}", known)
    schema = api["paths"][known]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    whole = {**schema, "components": api["components"]}
    assert list(Draft202012Validator(whole).iter_errors(answer.json())) == [], path


def test_an_end_has_every_field_of_an_outcome() -> None:
    assert set(End.model_fields) == set(Outcome.__dataclass_fields__)


@pytest.mark.parametrize(
    ("change", "place_of_it"),
    [
        ({"wanted": []}, "wanted"),
        ({"targets": []}, "targets"),
        ({"wanted": [RELEASE] * (MOST_THINGS + 1)}, "wanted"),
        ({"wanted": [{**RELEASE, "kind": "magic"}]}, "wanted.0"),
        ({"wanted": [{**RELEASE, "name": "../x"}]}, "wanted[0]"),
        ({"wanted": [{**RELEASE, "version": "latest"}]}, "wanted[0]"),
        ({"wanted": [{**RELEASE, "hashes": ["ff"]}]}, "hashes"),
        ({"wanted": [{**RELEASE, "marker": "(" * 3_999}]}, "wanted[0]"),
        ({"wanted": [{**RELEASE, "marker": "os_name ~= 'x'"}]}, "wanted[0]"),
        ({"wanted": [{**RELEASE, "place": "a\nb"}]}, "place"),
        ({"wanted": [{"kind": "upload", "sha256": "0" * 64, "filename": "../../x"}]}, "wanted[0]"),
        ({"targets": [{"name": "mac", "identity": {}}]}, "targets[0].implementation"),
        ({"targets": [{"name": "mac", "identity": {**IDENTITY, "arch": "../.."}}]}, "targets[0]"),
        ({"targets": [{"name": "m", "identity": dict(IDENTITY)}] * 2}, "targets"),
        ({"channel": "mine"}, "not a channel"),
        ({"priority": "1"}, "priority"),
        ({"priority": 10**9}, "priority"),
        ({"retry": 1}, "retry"),
        ({"submitter": ""}, "submitter"),
        ({"shell": "rm"}, "shell"),
    ],
)
def test_a_call_that_is_wrong_is_refused_with_its_place(
    served: Place, change: dict[str, Any], place_of_it: str
) -> None:
    for path in ("submissions", "plan"):
        answer = requests.post(f"{served.url}api/{path}", json=words(**change), timeout=60)
        assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), answer.text
        assert place_of_it in answer.json()["message"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "submissions", b"", 400, "malformed"),
        ("POST", "submissions", b"{", 400, "malformed"),
        ("POST", "submissions", b"\xff\xfe", 400, "malformed"),
        ("POST", "submissions", b"[" * 100_000, 400, "bad-request"),
        ("POST", "submissions", b"x" * (33 << 20), 413, "body-too-large"),
        ("GET", "submissions/x", None, 400, "malformed"),
        ("GET", f"submissions/{'0' * 32}/events", None, 404, "unknown-job"),
        ("GET", "jobs/7/log/events", None, 404, "unknown-job"),
        ("GET", "jobs/0", None, 400, "malformed"),
        ("GET", f"jobs/{10**30}", None, 400, "malformed"),
        ("GET", "jobs?state=asleep", None, 400, "malformed"),
        ("GET", "nothing", None, 404, "not-found"),
        ("DELETE", "jobs/1", None, 405, "method-not-allowed"),
        ("POST", "jobs/1/cancel", None, 404, "unknown-job"),
        ("POST", "workers/x/drain", None, 404, "unknown-job"),
        ("PUT", f"sdists/{'0' * 64}/a-1.0.tar.gz", b"x", 422, "not-proven"),
        ("PUT", f"sdists/{'0' * 64}/a.exe", b"x", 400, "not-an-sdist"),
        ("PUT", "sdists/0/a-1.0.tar.gz", b"x", 400, "malformed"),
    ],
)
def test_garbage_gets_the_right_answer(  # noqa: PLR0917
    served: Place, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    headers = {"content-type": "application/json"}
    answer = requests.request(
        method, f"{served.url}api/{path}", data=body, headers=headers, timeout=60
    )
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json().keys() == {"code", "message", "hint"}
    assert list((served.settings.cache / "incoming").glob("*")) == []


def test_a_client_that_leaves_in_the_middle_of_a_body_or_a_stream_harms_nobody(
    served: Place, pack: Pack
) -> None:
    host, _, port = served.url.rstrip("/").removeprefix("http://").rpartition(":")
    for start in (
        f"PUT /api/sdists/{'0' * 64}/a-1.0.tar.gz",
        "POST /api/submissions",
    ):
        with socket.create_connection((host, int(port))) as connection:
            head = f"{start} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\n{{"
            connection.sendall(head.encode())
    made = requests.post(f"{served.url}api/submissions", json=words(), timeout=60).json()["id"]
    with requests.get(
        f"{served.url}api/submissions/{made}/events", stream=True, timeout=60
    ) as stream:
        assert stream.status_code == 200
    wait_for(lambda: not list((served.settings.cache / "incoming").glob("*")))
    assert requests.get(f"{served.url}api/queues", timeout=30).status_code == 200


@pytest.mark.slow
def test_five_thousand_lines_are_taken_and_said_to_be_unobtainable(
    served: Place, pack: Pack
) -> None:
    """Each its own item: none of them is in an index that does not answer."""
    lines = [{**RELEASE, "name": f"absent-{number}"} for number in range(5_000)]
    skipped = [{**line, "marker": "sys_platform == 'win32'"} for line in lines]
    made = requests.post(f"{served.url}api/submissions", json=words(wanted=skipped), timeout=120)
    assert made.status_code == 201
    place = f"{served.url}api/submissions/{made.json()['id']}"
    wait_for(lambda: requests.get(place, timeout=60).json()["state"] == "done")
    assert requests.get(place, timeout=60).json()["counts"] == {"done": 5_000}
    page = requests.get(f"{place}/items", params={"first": 4_000}, timeout=60).json()
    assert (len(page["items"]), page["items"][-1]["end"]["status"]) == (1_000, "skipped")


@pytest.mark.slow
def test_why_names_the_missing_capability_and_the_place_in_line(place: Place, pack: Pack) -> None:
    mac = ("-t", "macos-11.0-arm64:cp311")
    clients = [
        place.start("build", pack(name), *aim) for name, aim in (("pure", mac), ("cext", ()))
    ]
    wait_for(lambda: len(place.ask("jobs")[1]["jobs"]) == 2)
    by_label = {job["label"]: str(job["id"]) for job in place.ask("jobs")[1]["jobs"]}
    alone = place.ask("why", by_label["pure==1.0"])[1]
    assert alone["sentence"] == (
        "no worker offers cross-macos-cp311: the farm has no worker at all"
    )
    with place.worker(slots=1) as (farm, station):
        farm.registry.set_state(station.id, "set-aside", "to be seen")
        aside = place.ask("why", by_label["pure==1.0"])[1]
        assert (aside["code"], list(aside["details"]["nearest"])) == ("no-worker", [station.id])
    for client in clients:
        client.kill()
        client.communicate()


def test_the_metrics_are_what_the_queues_say(place: Place, pack: Pack) -> None:
    client = place.start("build", pack("pure"))
    wait_for(lambda: place.ask("jobs")[1]["jobs"])
    (queue,) = requests.get(f"{place.url}api/queues", timeout=30).json()["queues"]
    assert (queue["waiting"], queue["running"], queue["workers"]) == (1, 0, 0)
    answer = requests.get(f"{place.url}metrics", timeout=30)
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert f'wheelfarm_queue_waiting{{queue="{queue["queue"]}"}} 1' in answer.text.splitlines()
    assert 'wheelfarm_jobs{state="waiting"} 1' in answer.text.splitlines()
    client.kill()
    client.communicate()


@pytest.mark.slow
def test_workers_are_drained_and_readmitted(place: Place) -> None:
    with place.worker() as (farm, station):
        farm.registry.set_state(station.id, "set-aside", "failed 3 jobs that others built")
        assert place.ask("workers")[1]["workers"][0]["reason"].startswith("failed 3 jobs")
        assert place.ask("workers", "readmit", station.id)[1]["workers"][0]["state"] == "ready"
        assert place.ask("workers", "drain", station.id)[1]["workers"][0]["state"] == "draining"
        wait_for(lambda: station.stopping)
    assert json.loads(place.say("workers", "--json")[1]) == {"workers": []}
