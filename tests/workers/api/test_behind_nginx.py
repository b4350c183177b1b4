"""Files on their way in through the real nginx with the real file of deploy/nginx: by twine, by uv,
by `wheelfarm build`; and what nginx or the farm behind it refuses before it has read all of it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from store.token import new_token
from tests.store.test_delivery import nginx_before
from tests.workers.api.place import wait_for
from tests.workers.api.test_upload import MINE, Client, Shop, pure, shop_in, twine, uv

Pack = Callable[[str], Path]
KIB = 1 << 10
ELSEWHERE = 128 * KIB
"""What nginx takes as the body of any other request."""


@dataclass(frozen=True)
class Front:
    """A farm, and the address of the nginx before it."""

    shop: Shop
    url: str

    @property
    def uploads(self) -> str:
        return f"{self.url}{MINE}/legacy/"


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    folder = tmp_path_factory.mktemp("front")
    (folder / "wheelfarm.toml").write_text('accel-prefix = "/_blobs"\n')
    with shop_in(folder) as shop, nginx_before(folder, shop.place.url) as url:
        yield Front(shop, url)


@pytest.mark.parametrize(("upload", "name"), [(twine, "wheaty"), (uv, "corny")])
def test_a_large_wheel_gets_in_and_out(
    front: Front, tmp_path: Path, upload: Client, name: str
) -> None:
    wheel = pure(
        tmp_path, name=name, members={"more.py": b"#" + os.urandom(900 * KIB).hex().encode()}
    )
    assert wheel.stat().st_size > 2 * ELSEWHERE
    token = front.shop.token()
    done = upload(front.uploads, token, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    (release,) = [each for each in front.shop.listed() if each.name == name]
    file = f"{front.url}{MINE}/{release.fingerprint}/files/{release.filename}"
    answer = requests.get(file, auth=("__token__", front.shop.token("read")), timeout=60)
    assert (answer.status_code, len(answer.content)) == (200, release.size)


def test_a_large_sdist_is_submitted_and_built(front: Front, pack: Pack, tmp_path: Path) -> None:
    sdist = pack("pure")
    sdist.write_bytes(sdist.read_bytes() + bytes(2 * ELSEWHERE))  # padding, which gzip passes over
    token = front.shop.token("submit", "*")
    with front.shop.place.worker():
        code, out, err = front.shop.place.say(
            "build", sdist, "--farm", front.url, WHEELFARM_TOKEN=token
        )
    assert code == 0, out + err
    assert "built    pure==1.0" in out


def test_a_body_that_only_uploads_may_have_is_refused_elsewhere(front: Front) -> None:
    for path in ("resolve", "api/yank", "api/jobs/1/cancel", "api/submissions/x", f"{MINE}/legacy"):
        answer = requests.post(f"{front.url}{path}", data=bytes(ELSEWHERE + 1), timeout=60)
        assert answer.status_code == 413, path
    below = requests.post(f"{front.url}api/yank", data=bytes(ELSEWHERE), timeout=60)
    assert below.status_code in {400, 401}, below.text


@pytest.mark.parametrize(
    ("path", "verb"), [(f"{MINE}/legacy/", "POST"), (f"api/sdists/{'0' * 64}/a-1.0.tar.gz", "PUT")]
)
def test_a_wrong_token_is_refused_before_the_body_is_there(
    front: Front, path: str, verb: str
) -> None:
    """nginx hands the head on at once, and the answer comes though the client sends no more."""
    front.shop.token()  # from the first one on, nobody may without
    before = _kept(front)
    parts = urlsplit(front.url)
    head = (
        f"{verb} /{path} HTTP/1.1\r\nHost: farm\r\nAuthorization: Bearer {new_token().text}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 900000000\r\n\r\n--b\r\n"
    )
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=60) as client:
        client.sendall(head.encode())
        answer = client.recv(64 * KIB).decode()
    assert answer.startswith("HTTP/1.1 401 "), answer
    wait_for(lambda: _kept(front) == before)


def _kept(front: Front) -> dict[str, int]:
    """How much there is of what an upload leaves. (Who was served what is written down later.)"""
    state = front.shop.state()
    return {name: state[name] for name in ("blobs", "uploads", "releases", "scratch", "staging")}
