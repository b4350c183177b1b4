"""Many clients at the same moment, at two real servers of one farm: over both engines each of them
gets a right answer, and what comes of it is there once.

Two servers, because what keeps things apart in the memory of one does not in the other's.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from store.channel import UPSTREAM
from store.digest import sha256_of, sha256_of_file
from store.fsck import check
from store.target import identity_of
from tests.builder import forge
from tests.indexes import Index, index_of
from tests.sdists import pack_project
from tests.store.engines import ENGINES, empty_store
from tests.workers.api.place import Place, wait_for
from tests.workers.api.test_upload import HERE, MINE, NAME, Shop, pure, shop_in
from workers.farm.event_stream import read_events

CLIENTS = 6
TARGET = {"name": "native", "identity": identity_of(HERE)}


@dataclass(frozen=True)
class Pair:
    """A farm with an index upstream, and its two servers."""

    shop: Shop
    index: Index
    urls: tuple[str, str]
    token: str

    def url(self, client: int, path: str = "") -> str:
        return self.urls[client % 2] + path

    def ask(self, method: str, url: str, **more: Any) -> requests.Response:
        return requests.request(
            method, url, timeout=120, auth=("__token__", self.token), **more
        )  # fmt: skip

    def answers(self, of: Callable[[int], requests.Response]) -> list[requests.Response]:
        """What `of` gives for each client; all of them begin together."""
        gate = threading.Barrier(CLIENTS)

        def begin(client: int) -> requests.Response:
            gate.wait(60)
            return of(client)

        with ThreadPoolExecutor(CLIENTS) as threads:
            return list(threads.map(begin, range(CLIENTS)))

    def upload(self, client: int, path: Path) -> requests.Response:
        url = self.url(client, f"{MINE}/legacy/")
        answer: requests.Response = self.shop.send(path, url=url, token=self.token)
        return answer

    def named(self, name: str) -> list[str]:
        """The files of NAME==1.0 in every channel that is used here."""
        rows = [*self.shop.listed(), *self.shop.listed(UPSTREAM)]
        return [row.sha256 for row in rows if (row.name, row.version) == (name, "1.0")]

    def jobs(self, label: str) -> list[dict[str, Any]]:
        found = self.ask("GET", self.url(0, "api/jobs"), params={"label": label}).json()["jobs"]
        assert isinstance(found, list)
        return found

    def faults(self) -> list[object]:
        return [fault for fault in check(self.shop.store) if not fault.harmless]


_SETTINGS = """
[upload]
targets = ["native"]
[upstream]
pull-through = true
index-url = {index}
[channels.release]
inherit = ["upstream"]
"""


@pytest.fixture(scope="module", params=ENGINES)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("pair")
    with empty_store(request, request.param, folder) as url, index_of(folder / "index") as index:
        settings = _SETTINGS.format(index=json.dumps(index.url))
        (folder / "wheelfarm.toml").write_text(settings)
        with shop_in(folder, url) as shop:
            other = Place(folder, url)
            other.serve()
            urls = (shop.place.url, other.url)
            yield Pair(shop, index, urls, shop.token("admin", "*"))
            other.stop_server()


def statuses(answers: list[requests.Response]) -> dict[int, int]:
    texts = [answer.text for answer in answers]
    assert not any(answer.status_code >= 500 for answer in answers), texts
    return dict(Counter(answer.status_code for answer in answers))


def test_one_wheel_that_many_upload_is_there_once(pair: Pair, tmp_path: Path) -> None:
    wheel = pure(tmp_path, name="once")
    answers = pair.answers(lambda client: pair.upload(client, wheel))
    assert statuses(answers) == {200: CLIENTS}
    assert len({answer.text for answer in answers}) == 1
    assert pair.named("once") == [answers[0].json()["sha256"]]
    assert pair.faults() == []


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_of_two_files_with_one_name_one_gets_in(pair: Pair, tmp_path: Path, kind: str) -> None:
    files = [_file(tmp_path / str(number), kind, number) for number in range(2)]
    assert files[0].name == files[1].name
    which = [client // 2 % 2 for client in range(CLIENTS)]  # each server is sent both
    answers = pair.answers(lambda client: pair.upload(client, files[which[client]]))
    assert set(statuses(answers)) == {200, 409}
    got_in = {file for file, answer in zip(which, answers, strict=True) if answer.ok}
    assert len(got_in) == 1, "the same bytes get in, whoever sends them, and no others"
    told = {answer.json()["code"] for answer in answers if not answer.ok}
    assert told == {"name-taken"}
    if kind == "wheel":
        assert len(pair.named("twice")) == 1
    else:
        _planned(pair, [one for each in answers if each.ok for one in each.json()["submissions"]])
        assert [job["state"] for job in pair.jobs("pure==7.0")] == ["waiting"]
    assert pair.faults() == []


def _file(folder: Path, kind: str, number: int) -> Path:
    folder.mkdir()
    if kind == "wheel":
        return pure(folder, name="twice", members={"more.py": b"# %d\n" % number})
    sdist = pack_project("pure", folder, version="7.0")
    sdist.write_bytes(sdist.read_bytes() + bytes(512 * number))  # padding, which gzip passes over
    return sdist


def _planned(pair: Pair, submissions: list[str]) -> None:
    for each in submissions:
        url = pair.url(0, f"api/submissions/{each}")
        wait_for(lambda url=url: pair.ask("GET", url).json()["state"] in {"open", "done"})  # type: ignore[misc]


def test_what_many_submit_and_follow_is_built_once(pair: Pair, tmp_path: Path) -> None:
    sdist = pack_project("pure", tmp_path)
    path = f"api/sdists/{sha256_of_file(sdist)}/{sdist.name}"
    sent = pair.answers(
        lambda client: pair.ask("PUT", pair.url(client, path), data=sdist.read_bytes())
    )
    assert statuses(sent) == {204: CLIENTS}
    words = {"wanted": [_wanted(sdist)], "targets": [TARGET], "submitter": "me", "channel": MINE}
    made = pair.answers(
        lambda client: pair.ask("POST", pair.url(client, "api/submissions"), json=words)
    )
    assert statuses(made) == {201: CLIENTS}
    ids = [answer.json()["id"] for answer in made]
    assert len(set(ids)) == CLIENTS
    with pair.shop.place.worker():
        ends = [_end(pair, client, one) for client, one in enumerate(ids)]
    assert ends == ["done"] * CLIENTS
    assert [job["state"] for job in pair.jobs("pure==1.0")] == ["succeeded"]
    assert len(pair.named("pure")) == 1
    assert pair.faults() == []


def _wanted(sdist: Path) -> dict[str, str]:
    return {"kind": "upload", "sha256": sha256_of_file(sdist), "filename": sdist.name}


def _end(pair: Pair, client: int, submission: str) -> str:
    """The state in the last event of a stream that is followed to its end, at either server."""
    url = pair.url(client, f"api/submissions/{submission}/events")
    with pair.ask("GET", url, stream=True) as stream:
        *_, last = read_events(stream.iter_lines())
    assert last.kind == "end"
    return str(json.loads(last.data)["state"])


def test_of_many_who_cancel_or_retry_a_job_one_does(pair: Pair, tmp_path: Path) -> None:
    sdist = pack_project("raises", tmp_path)
    path = f"api/sdists/{sha256_of_file(sdist)}/{sdist.name}"
    assert pair.ask("PUT", pair.url(0, path), data=sdist.read_bytes()).status_code == 204
    words = {"wanted": [_wanted(sdist)], "targets": [TARGET], "submitter": "me", "channel": MINE}
    made = pair.ask("POST", pair.url(0, "api/submissions"), json=words).json()["id"]
    _planned(pair, [made])
    (job,) = pair.jobs("raises==1.0")
    for order, state in (("cancel", "cancelled"), ("retry", "waiting")):
        url = f"api/jobs/{job['id']}/{order}"
        answers = pair.answers(
            lambda client, url=url: pair.ask("POST", pair.url(client, url))  # type: ignore[misc]
        )
        assert statuses(answers) == {200: 1, 409: CLIENTS - 1}
        assert {answer.json()["code"] for answer in answers if not answer.ok} == {"wrong-state"}
        assert [each["state"] for each in pair.jobs("raises==1.0")] == [state]


def test_one_file_upstream_that_many_ask_for_is_taken_in_once(pair: Pair, tmp_path: Path) -> None:
    wheel = _upstream(pair, tmp_path, "rye")
    url = f"release/{NAME}/files/{wheel.name}"
    answers = pair.answers(lambda client: pair.ask("GET", pair.url(client, url)))
    assert statuses(answers) == {200: CLIENTS}
    assert {sha256_of(answer.content) for answer in answers} == {sha256_of_file(wheel)}
    assert pair.named("rye") == [sha256_of_file(wheel)]
    assert pair.faults() == []


def test_one_wheel_that_many_adopt_is_taken_in_once(pair: Pair, tmp_path: Path) -> None:
    wheel = _upstream(pair, tmp_path, "oats")
    words = {"wanted": [{"kind": "release", "name": "oats", "version": "1.0"}], "targets": [TARGET]}
    answers = pair.answers(
        lambda client: pair.ask("POST", pair.url(client, "api/adopt"), json=words)
    )
    assert statuses(answers) == {200: CLIENTS}
    told = [one["status"] for answer in answers for one in answer.json()["adoptions"]]
    assert "adopted" in told
    assert set(told) <= {"adopted", "there"}
    assert pair.named("oats") == [sha256_of_file(wheel)]
    assert pair.faults() == []


def _upstream(pair: Pair, folder: Path, name: str) -> Path:
    wheel = forge.wheel(folder, f"{name}-1.0-py3-none-any.whl", {f"{name}.py": b"V = 1\n"})
    pair.index.add(wheel)
    return wheel
