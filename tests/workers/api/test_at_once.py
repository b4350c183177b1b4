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
        """The files of that project in every channel that is used here."""
        rows = [*self.shop.listed(), *self.shop.listed(UPSTREAM)]
        return [row.sha256 for row in rows if row.name == name]

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
    answers = pair.answers(lambda client: pair.upload(client, files[client // 2 % 2]))
    assert set(statuses(answers)) == {200, 409}
    assert {answer.json().get("code") for answer in answers} == {None, "name-taken"}
    taken = {client // 2 % 2 for client in range(CLIENTS) if answers[client].status_code == 200}
    assert len(taken) == 1, "the same bytes got in, whoever sent them"
    refused = {client // 2 % 2 for client in range(CLIENTS) if answers[client].status_code == 409}
    assert refused == {0, 1} - taken
    if kind == "wheel":
        assert len(pair.named("twice")) == 1
    else:
        (job,) = _open_job(pair, "pure")
        assert _submissions(answers) == {200: (CLIENTS - len(refused)) // 1} or job
    assert pair.faults() == []


def _file(folder: Path, kind: str, number: int) -> Path:
    folder.mkdir()
    if kind == "wheel":
        return pure(folder, name="twice", members={"more.py": b"# %d\n" % number})
    sdist = pack_project("pure", folder, version="7.0")
    sdist.write_bytes(sdist.read_bytes() + bytes(512 * number))
    return sdist
