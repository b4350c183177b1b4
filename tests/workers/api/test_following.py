"""Submit to a real server, follow, interrupt, attach, cancel: real builds by a real station."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import requests
from fastapi.sse import ServerSentEvent

from store.access import Actor
from store.database import Database
from store.errors import StoreUnreachableError
from tests.workers.api.place import Place, wait_for
from tests.workers.farm.conftest import work
from tests.workers.test_run import building
from tests.workers.yard import Yard
from workers.api.shared import Shared
from workers.api.streams import SubmissionStream, until_trouble
from workers.farm import listing
from workers.farm.desk import FarmDesk
from workers.farm.line import Order
from workers.farm.submissions import Item

Pack = Callable[[str], Path]


def submission_in(text: str) -> str:
    found = re.search(r"^submission ([0-9a-f]{32})$", text, re.MULTILINE)
    assert found, text
    return found[1]


def test_submit_follow_and_install(place: Place, pack: Pack, tmp_path: Path) -> None:
    with place.worker():
        code, out, err = place.say(
            "build", pack("pure"), pack("raises"), "--junit", "junit.xml", "--summary", "sum.md",
            GITHUB_STEP_SUMMARY=str(tmp_path / "step.md"),
        )  # fmt: skip
        assert code == 1
        assert submission_in(err)
        assert re.search(r"^built    pure==1.0 +native", out, re.MULTILINE)
        assert "  first error: RuntimeError: the moon is in the wrong house" in out
        assert f"wheelfarm index-url --server {place.url.rstrip('/')} --channel dev/local" in out
        again, answer = place.ask("build", pack("pure"))
        assert (again, [end["status"] for end in answer["outcomes"]]) == (0, ["hit"])
    cases = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("testcase")
    assert {case.get("name"): [child.tag for child in case] for case in cases} == {
        "pure==1.0": ["system-out"],
        "raises==1.0": ["failure"],
    }
    summary = (tmp_path / "sum.md").read_text()
    assert "| <code>native</code> | 1 | 1 |" in summary
    assert (tmp_path / "step.md").read_text().startswith(summary)
    index = place.say("index-url", "--server", place.url, "--channel", "dev/local")[1].strip()
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--isolated", "--index-url",
         index, "--target", str(tmp_path / "site"), "pure"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_a_server_that_is_killed_and_comes_back_is_waited_for(place: Place, pack: Pack) -> None:
    client = place.start("build", pack("pure"), "--json")
    assert client.stderr is not None
    submission = submission_in(client.stderr.readline())
    port = int(place.url.rstrip("/").rpartition(":")[2])
    wait_for(lambda: "/events" in (place.folder / "server.log").read_text())
    # One that is killed over its plan holds the submission for the time of a lease.
    address = f"{place.url}api/submissions/{submission}"
    wait_for(lambda: requests.get(address, timeout=30).json()["state"] == "open")
    place.stop_server(kill=True)
    assert "trying again" in client.stderr.readline()
    place.serve(port)
    with place.worker():
        out, _ = client.communicate(timeout=120)
    assert [end["status"] for end in json.loads(out)["outcomes"]] == ["built"]
    assert client.returncode == 0


@pytest.mark.slow
def test_an_accepted_submission_survives_the_server(place: Place, pack: Pack) -> None:
    """Planned by the server that comes after the one that took it."""
    client = place.start("build", pack("pure"))
    assert client.stderr is not None
    submission = submission_in(client.stderr.readline())
    client.kill()
    client.communicate()
    place.stop_server(kill=True)
    place.serve()
    with place.worker():
        code, answer = place.ask("attach", submission)
    assert (code, [end["status"] for end in answer["outcomes"]]) == (0, ["built"])


def test_interrupted_attached_and_cancelled_with_its_processes(place: Place, pack: Pack) -> None:
    with place.worker():
        client = place.start("build", pack("hangs"))
        assert client.stderr is not None
        submission = submission_in(client.stderr.readline())
        wait_for(lambda: building(place.settings.cache))
        client.send_signal(signal.SIGINT)
        _, err = client.communicate(timeout=60)
        assert (client.returncode, f"wheelfarm attach {submission}" in err) == (130, True)
        assert wait_for(lambda: building(place.settings.cache)), "the farm goes on without it"
        reason = place.ask("why", "1")[1]
        assert (reason["code"], "has been building it since" in reason["sentence"]) == (
            "running", True,
        )  # fmt: skip
        attached = place.start("attach", submission, "--json")
        assert place.ask("cancel", submission) == (0, {"jobs": 1})
        out, _ = attached.communicate(timeout=60)
        assert attached.returncode == 1
        assert [end["status"] for end in json.loads(out)["outcomes"]] == ["cancelled"]
        wait_for(lambda: building(place.settings.cache) is None)
        assert place.ask("why", "1")[1]["sentence"] == (
            "it was cancelled: its submission was cancelled"
        )


@pytest.mark.slow
def test_a_hundred_clients_get_one_build_and_all_of_them_its_log(place: Place, pack: Pack) -> None:
    place.say("build", pack("cext"), "--dry-run")  # uploads it
    call = requests.get(f"{place.url}api/queues", timeout=30)
    assert call.status_code == 200
    words = _words(place, pack("cext"))
    made = [
        requests.post(
            f"{place.url}api/submissions", json={**words, "submitter": f"c{n}"}, timeout=60
        )
        for n in range(100)
    ]
    ids = [answer.json()["id"] for answer in made]
    wait_for(lambda: requests.get(f"{place.url}api/jobs/1", timeout=30).status_code == 200)
    streams = [
        requests.get(f"{place.url}api/submissions/{one}/events", stream=True, timeout=60)
        for one in ids
    ]
    logs = [requests.get(f"{place.url}api/jobs/1/log/events", stream=True, timeout=60) for _ in ids]
    with place.worker():
        ends = [_last(stream) for stream in streams]
        texts = {"".join(piece["text"] for piece in _data(log, "log")) for log in logs}
    assert {end["state"] for end in ends} == {"done"}
    assert len(place.ask("jobs")[1]["jobs"]) == 1, "one job for all of them"
    whole = requests.get(f"{place.url}api/jobs/1/log", timeout=30).content.decode()
    assert texts == {whole}
    assert whole


def _submit(place: Place, words: dict[str, object]) -> str:
    answer = requests.post(f"{place.url}api/submissions", json=words, timeout=60)
    return str(answer.json()["id"])


def _words(place: Place, sdist: Path) -> dict[str, object]:
    from store.digest import sha256_of_file
    from store.target import identity_of
    from workers.targets import resolve_identity

    target = resolve_identity("native", place.settings)
    return {
        "wanted": [{"kind": "upload", "sha256": sha256_of_file(sdist), "filename": sdist.name}],
        "targets": [{"name": "native", "identity": identity_of(target)}],
        "submitter": "me",
    }


def _data(stream: requests.Response, kind: str) -> list[dict[str, Any]]:
    from workers.farm.event_stream import read_events

    with stream:
        events = [each for each in read_events(stream.iter_lines()) if each.kind == kind]
    return [json.loads(event.data) for event in events]


def _last(stream: requests.Response) -> dict[str, Any]:
    (end,) = _data(stream, "end")
    return end


@pytest.mark.slow
def test_a_retried_job_is_built_again(place: Place, pack: Pack) -> None:
    with place.worker():
        assert place.say("build", pack("raises"))[0] == 1
        code, answer = place.ask("build", pack("raises"))
        assert (code, "not tried again before" in answer["outcomes"][0]["hint"]) == (1, True)
        assert place.ask("retry", "raises")[1] == {"jobs": [1], "forgotten": 1}
        wait_for(lambda: place.ask("jobs", "raises", "--state", "failed")[1]["jobs"])
        log = place.start("log", "1", "--follow").communicate(timeout=60)[0]
        assert log.count("\nRuntimeError: the moon is in the wrong house") == 1
    code, _, err = place.say("retry", "nothing")
    assert (code, "error[farm-refused]: no job of 'nothing'" in err) == (2, True)


@pytest.mark.slow
def test_without_a_farm_the_commands_ask_the_local_store(place: Place, pack: Pack) -> None:
    local = ("--store", place.settings.store)
    assert place.say("build", pack("raises"), *local)[0] == 1
    found = place.ask("jobs", *local)[1]["jobs"]
    assert [(job["label"], job["state"]) for job in found] == [("raises==1.0", "failed")]
    log = place.start("log", "1", *local).communicate(timeout=60)[0]
    assert "the moon is in the wrong house" in log
    assert "it failed (build)" in place.say("why", "1", *local)[1]
    assert place.ask("retry", "1", *local)[1] == {"jobs": [1], "forgotten": 1}
    assert place.ask("why", "1", *local)[1]["code"] == "no-worker"
    assert place.ask("cancel", "1", *local)[1] == {"jobs": 1}
    code, answer = place.ask("build", pack("pure"), pack("raises"), "--dry-run", *local)
    assert (code, [each["fate"] for each in answer["items"]]) == (0, ["build", "build"])


@pytest.mark.slow
def test_a_dry_run_says_what_is_there_what_is_built_and_what_nobody_can(
    place: Place, pack: Pack
) -> None:
    with place.worker():
        place.say("build", pack("pure"))
        code, answer = place.ask(
            "build", pack("pure"), pack("cext"), "--dry-run",
            "-t", "native", "-t", "macos-11.0-arm64:cp311",
        )  # fmt: skip
    fates = {(each["label"], each["target"]): each["fate"] for each in answer["items"]}
    mac = "macos-11.0-arm64:cp311"
    assert (code, fates) == (
        1,
        {
            ("pure==1.0", "native"): "hit", ("pure==1.0", mac): "nobody",
            ("cext==1.0", "native"): "build", ("cext==1.0", mac): "nobody",
        },
    )  # fmt: skip
    whys = {each["why"] for each in answer["items"] if each["fate"] == "nobody"}
    assert all(why.startswith("no worker offers cross-macos-cp311; the nearest: ") for why in whys)
    assert place.ask("jobs", "cext")[1]["jobs"] == []


def test_no_farm_serves_files_only(place: Place, pack: Pack) -> None:
    place.stop_server()
    place.serve(0, "--no-farm")
    code, _, err = place.say("build", pack("pure"))
    assert (code, "error[farm-refused]" in err, "--no-farm" in err) == (2, True, True)
    assert requests.get(f"{place.url}healthz", timeout=30).text == "ok\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["build", "six==1.17.0", "--farm", "ftp://x"], "error[usage]: not the URL of a farm"),
        (["build", "six==1.17.0", "--index-url", "http://x"], "a farm takes sdists from its own"),
        (["build", "absent-1.0.tar.gz"], "error[not-an-sdist]: no such file"),
        (["why", "x"], "error[usage]: not the number of a job"),
        (["why", "99"], "error[farm-refused]: there is no job 99 (unknown-job)"),
        (["attach", "f" * 32], "there is no submission"),
        (["attach", "9"], "error[usage]: not the id of a submission"),
        (["cancel", "f" * 32], "there is no submission"),
        (["workers", "drain", "nobody"], "the farm has no worker 'nobody'"),
        (["workers", "drain"], "drain which worker?"),
    ],
)
def test_wrong_usage_is_a_sentence(served: Place, arguments: list[str], sentence: str) -> None:
    code, out, err = served.say_inside(*arguments)
    assert (code, sentence in err) == (2, True), out + err


def test_a_stream_is_cut_off_quietly_when_the_store_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def events() -> AsyncIterator[ServerSentEvent]:
        yield ServerSentEvent(event="planned")
        raise StoreUnreachableError("the catalogue is away")

    async def heard() -> list[str | None]:
        return [event.event async for event in until_trouble(events())]

    assert asyncio.run(heard()) == ["planned"]
    assert "a stream is cut off: the catalogue is away" in caplog.text


def test_a_stream_knows_what_a_planner_adds_after_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does to a submission that is cancelled while it is planned, before it sees that."""
    yard = Yard(tmp_path / "yard")
    with yard.farm() as farm:
        submission = farm.submissions.create("ann", {"wanted": 2})
        farm.submissions.add(submission, 0, [_wanted("wheaty")])
        farm.submissions.cancel(submission, "not wanted")
        looked = listing.places_of_jobs

        def then_add(database: Database, name: str) -> Mapping[int, list[int]]:
            found = looked(database, name)
            farm.submissions.add(submission, 1, [_wanted("rye")])
            farm.submissions.cancel(submission, "it was cancelled while it was planned")
            return found

        monkeypatch.setattr(listing, "places_of_jobs", then_add)
        stream = SubmissionStream(FarmDesk(farm, Actor(who="ann")), Shared(0.1), submission, 0)

        async def heard() -> list[Any]:
            return [event.data async for event in stream.events() if event.event == "job"]

        events = asyncio.run(heard())
    yard.close()
    assert {place for event in events for place in event.places} == {0, 1}


def _wanted(name: str) -> Item:
    return Item(target="native", wanted=Order(work=work(name), submitter="ann"))
