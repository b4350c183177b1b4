"""Uploading as twine and uv do it, to a real server: what gets in, for whom, and what does not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from twine.commands.upload import skip_upload
from twine.package import PackageFile
from uv import find_uv_bin

from builder.interpreter import measure_self
from builder.verify import reverify
from store.access import Actor, ChannelPattern, Grant, Right
from store.accounts import Accounts, NewToken
from store.audit import AuditFilter, audit_rows
from store.channel import RELEASE, Channel, parse_channel
from store.digest import sha256_of_file
from store.fingerprint import fingerprint_of
from store.provenance import Origin
from store.publish import Store
from store.release import Release
from store.schema import metadata
from store.token import new_token
from store.verdict import VerifiedWheel
from tests.store.engines import empty_store, engine_of, over_both
from tests.store.wheelshop import OTHER_LINUX, make_wheel, provenance_for
from tests.workers.api.place import Place, wait_for

HERE = measure_self().target()
NAME = fingerprint_of(HERE)
MINE = parse_channel("dev/mine")
Pack = Callable[[str], Path]


def _verifier(path: Path) -> VerifiedWheel:
    seen = reverify(path)
    assert isinstance(seen, VerifiedWheel), seen
    return seen


@dataclass(frozen=True)
class Shop:
    """A server that knows the target `HERE`, and what its store has."""

    place: Place
    store: Store

    @property
    def url(self) -> str:
        return f"{self.place.url}{MINE}/legacy/"

    def token(self, scope: Right = "publish", channel: str = MINE) -> str:
        grant = Grant(scopes=frozenset({scope}), channels=(ChannelPattern(channel),))
        new = NewToken(name="ci of wheaty", grant=grant, life=timedelta(hours=1))
        return Accounts(self.store.database).create(new, Actor(who="test"))[1].text

    def listed(self, channel: Channel = MINE) -> list[Release]:
        return self.store.catalogue.listing(channel, NAME)

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs of what was uploaded."""
        found = self.place.ask("jobs", "--submitter", "ci of wheaty")[1]["jobs"]
        assert isinstance(found, list)
        return found

    def state(self) -> dict[str, int]:
        """How many rows each table has, and what lies on the disk."""
        with self.store.database.reading() as connection:
            found = {
                table.name: len(connection.execute(table.select()).all())
                for table in metadata.sorted_tables
                if table.name != "tokens"
            }
        for row in audit_rows(self.store.database, AuditFilter(action="token-create"), 1_000):
            found["audit"] -= bool(row)
        found["scratch"] = len(list((self.place.settings.cache / "scratch").glob("*")))
        found["staging"] = len(list((self.place.settings.store / "staging").glob("*/*")))
        return found

    def send(self, path: Path, *, url: str = "", token: str = "", **fields: Any) -> Any:
        """One upload by hand, with fields of the test's own."""
        name, version = path.name.removesuffix(".tar.gz").split("-")[:2]
        said = {
            ":action": "file_upload", "protocol_version": "1", "name": name, "version": version,
            "filetype": "sdist" if path.name.endswith(".tar.gz") else "bdist_wheel",
            "sha256_digest": sha256_of_file(path), **fields,
        }  # fmt: skip
        said = {key: value for key, value in said.items() if value is not None}
        with path.open("rb") as file:
            return requests.post(
                url or self.url, data=said, files={"content": (path.name, file)}, timeout=120,
                auth=("__token__", token or self.token()),
            )  # fmt: skip


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with empty_store(request, engine_of(request), tmp_path) as url, shop_in(tmp_path, url) as made:
        yield made


@contextmanager
def shop_in(folder: Path, database: str | None = None) -> Iterator[Shop]:
    place = Place(folder, database)
    opened = Store.open(place.settings.store, database=database, verifier=_verifier)
    with closing(opened) as store:
        store.catalogue.remember_target(HERE)
        place.serve()
        yield Shop(place, store)
        place.stop_server()
    assert "Traceback" not in (folder / "server.log").read_text()


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    return pure(tmp_path / "dist")


def pure(folder: Path, **more: Any) -> Path:
    return make_wheel(folder, **{"tag": "py3-none-any", "build": None, **more})


def twine(url: str, token: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable, "-m", "twine", "upload", "--non-interactive", "--disable-progress-bar",
        "--repository-url", url, "-u", "__token__", "-p", token, "--verbose", *words,
    ]  # fmt: skip
    return run(command)


def uv(url: str, token: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return run([find_uv_bin(), "publish", "--publish-url", url, "--token", token, *words])


def run(command: list[Any]) -> subprocess.CompletedProcess[str]:
    dropped = ("UV_", "PIP_", "TWINE_", "WHEELFARM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    more = {"UV_NO_CONFIG": "1", "PYTHON_KEYRING_BACKEND": "keyring.backends.null.Keyring"}
    return subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, check=False,
        env={**kept, **more},
    )  # fmt: skip


both = pytest.mark.parametrize("upload", [twine, uv])
uv_first = pytest.mark.parametrize("upload", [pytest.param(twine, marks=pytest.mark.slow), uv])
Client = Callable[..., subprocess.CompletedProcess[str]]


@over_both("shop")
@both
def test_a_wheel_gets_in_is_installed_and_says_who_brought_it(
    shop: Shop, wheel: Path, tmp_path: Path, upload: Client
) -> None:
    token = shop.token()
    done = upload(shop.url, token, wheel)
    assert done.returncode == 0, done.stdout + done.stderr
    (release,) = shop.listed()
    assert release.filename.startswith("wheaty-1.0-1_")
    index = f"{shop.place.url}{MINE}/{NAME}/simple/"
    where = ["--target", tmp_path / "site", "--index-url", index, "wheaty==1.0"]
    installed = run(
        [find_uv_bin(), "pip", "install", "--no-cache", "--python", sys.executable, *where]
    )
    assert installed.returncode == 0, installed.stderr
    assert (tmp_path / "site/wheaty.py").is_file()
    papers = requests.get(
        f"{shop.place.url}{MINE}/{NAME}/provenance/{release.filename}", timeout=30
    ).text
    assert f"uploaded by ci of wheaty (token {token[4:16]})" in papers
    assert token not in papers
    code, out, _ = shop.place.say("explain", release.filename)
    assert (code, "uploaded by ci of wheaty" in out) == (0, True)
    (row,) = audit_rows(shop.store.database, AuditFilter(action="upload"), 10)
    assert (row.who, row.token, row.object, row.result) == (
        "ci of wheaty", token[4:16], "dev/mine wheaty-1.0-py3-none-any.whl", "done",
    )  # fmt: skip
    assert row.detail["as"] == release.filename
    assert shop.listed(RELEASE) == []


@over_both("shop")
@uv_first
def test_the_same_file_again_is_fine_and_another_under_its_name_is_not(
    shop: Shop, wheel: Path, tmp_path: Path, upload: Client
) -> None:
    token = shop.token()
    assert upload(shop.url, token, wheel).returncode == 0
    before = shop.listed()
    assert upload(shop.url, token, wheel).returncode == 0
    other = pure(tmp_path / "other", members={"wheaty.py": b"ANSWER = 43\n"})
    assert other.name == wheel.name
    refused = upload(shop.url, token, other)
    assert refused.returncode != 0
    assert "409" in refused.stdout + refused.stderr
    assert shop.listed() == before
    answer = shop.send(other)
    # twine has the option for the public index alone; this is what it asks of an answer.
    assert skip_upload(answer, True, PackageFile.from_filename(str(other), None))
    lying = shop.send(other, sha256_digest="0" * 64)
    assert not skip_upload(lying, True, PackageFile.from_filename(str(other), None))


@uv_first
@pytest.mark.parametrize("kind", ["read", "submit", "elsewhere", "unknown"])
def test_who_may_not_publish_there_is_refused(
    shop: Shop, wheel: Path, upload: Client, kind: str
) -> None:
    token = {
        "read": lambda: shop.token("read", "*"),
        "submit": lambda: shop.token("submit", "*"),
        "elsewhere": lambda: shop.token("publish", "dev/yours"),
        "unknown": lambda: new_token().text,
    }[kind]()
    before = shop.state()
    done = upload(shop.url, token, wheel)
    assert done.returncode != 0
    assert ("401" if kind == "unknown" else "403") in done.stdout + done.stderr
    assert shop.state() == before


@over_both("shop")
@uv_first
def test_an_sdist_is_built_for_the_channels_targets(
    shop: Shop, pack: Pack, wheel: Path, upload: Client
) -> None:
    token = shop.token()
    refused = upload(shop.url, token, pack("pure"))
    assert refused.returncode != 0
    assert "422" in refused.stdout + refused.stderr, "the channel has no targets yet"
    assert upload(shop.url, token, wheel).returncode == 0
    done = upload(shop.url, token, pack("pure"))
    assert done.returncode == 0, done.stdout + done.stderr
    with shop.place.worker():
        wait_for(lambda: shop.jobs()[0]["state"] == "succeeded")
    built = next(each for each in shop.listed() if each.name == "pure")
    record = shop.store.catalogue.provenance(built)
    assert "uploaded by ci of wheaty" in str(record["source"])
    (job,) = shop.jobs()
    assert job["channel"] == "dev/mine"


def test_twine_uploads_a_whole_folder(shop: Shop, pack: Pack, tmp_path: Path, wheel: Path) -> None:
    shutil.copy(pack("pure"), wheel.parent)
    pure(wheel.parent, name="corny", requires=("wheaty>=1",))
    done = twine(shop.url, shop.token(), *sorted(wheel.parent.glob("[cw]*.whl")))
    assert done.returncode == 0, done.stdout + done.stderr
    assert twine(shop.url, shop.token(), wheel.parent / pack("pure").name).returncode == 0
    assert {release.name for release in shop.listed()} == {"wheaty", "corny"}


def test_uploads_that_name_no_channel_go_where_the_settings_say(shop: Shop, wheel: Path) -> None:
    url = f"{shop.place.url}legacy/"
    assert twine(url, shop.token(channel="dev/uploads"), wheel).returncode == 0
    assert [each.name for each in shop.listed(Channel("dev/uploads"))] == ["wheaty"]
    assert shop.send(wheel, url=url).status_code == 403


def test_nothing_uploaded_enters_the_release_channel(shop: Shop, wheel: Path, pack: Pack) -> None:
    before = shop.state()
    for path in (wheel, pack("pure")):
        answer = shop.send(
            path, url=f"{shop.place.url}release/legacy/", token=shop.token(channel="*")
        )
        assert (answer.status_code, answer.json()["code"]) == (403, "policy")
    assert shop.state() == before


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"sha256_digest": "0" * 64}, 422, "not-proven"),
        ({"md5_digest": "0" * 32}, 422, "not-proven"),
        ({"blake2_256_digest": "0" * 64}, 422, "not-proven"),
        ({"name": "corny"}, 422, "not-proven"),
        ({"version": "2.0"}, 422, "not-proven"),
        ({"version": "none"}, 422, "not-proven"),
        ({"requires_python": ">=3.12"}, 422, "not-proven"),
        ({"requires_dist": ["evil"]}, 422, "not-proven"),
        ({"metadata_version": "2.4"}, 422, "not-proven"),
        ({"summary": "another"}, 422, "not-proven"),
        ({"filetype": "bdist_egg"}, 400, "malformed"),
        ({"filetype": "sdist"}, 400, "not-an-sdist"),
        ({"filetype": None}, 400, "malformed"),
        ({":action": "submit"}, 400, "malformed"),
        ({"protocol_version": "2"}, 400, "malformed"),
        ({"name": ""}, 400, "malformed"),
        ({"name": ["wheaty", "wheaty"]}, 400, "malformed"),
        ({"name": "x" * 300}, 400, "malformed"),
        ({"description": "x" * (9 << 20)}, 413, "body-too-large"),
    ],
)
def test_a_form_that_lies_is_refused_and_leaves_nothing(
    lying: Shop, tmp_path: Path, change: dict[str, Any], status: int, code: str
) -> None:
    before = lying.state()
    answer = lying.send(pure(tmp_path), **change)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert answer.json()["message"]
    assert lying.state() == before
    assert lying.listed() == []


@pytest.fixture(scope="module")
def lying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """A server that nothing gets into."""
    with shop_in(tmp_path_factory.mktemp("lying")) as made:
        yield made


@pytest.mark.parametrize(
    ("kind", "status", "code"),
    [
        ("no archive", 422, "upload-refused"),
        ("empty", 422, "upload-refused"),
        ("another name inside", 422, "upload-refused"),
        ("a version of Python that nobody has", 422, "upload-refused"),
        ("no wheel's name", 400, "malformed"),
        ("a path", 400, "malformed"),
        ("sdist, no archive", 422, "upload-refused"),
        ("sdist of another project", 422, "not-proven"),
    ],
)
def test_a_file_that_lies_is_refused_and_leaves_nothing(  # noqa: PLR0917
    lying: Shop, tmp_path: Path, pack: Pack, kind: str, status: int, code: str
) -> None:
    before = lying.state()
    answer = lying.send(_liar(kind, tmp_path, pack))
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    assert lying.state() == before


def _liar(kind: str, folder: Path, pack: Pack) -> Path:
    good = pure(folder)
    bad = folder / "liar-1.0-py3-none-any.whl"
    if kind == "no archive":
        bad.write_bytes(b"PK\3\4 no archive at all")
    elif kind == "empty":
        bad.write_bytes(b"")
    elif kind == "another name inside":
        bad.write_bytes(good.read_bytes())
    elif kind == "a version of Python that nobody has":
        return pure(folder, tag="cp38-none-any")
    elif kind == "no wheel's name":
        bad = folder / "liar-1.0.whl"
        bad.write_bytes(good.read_bytes())
    elif kind == "a path":
        bad = folder / "wheaty-1.0-py3-none-any;x.whl"
        bad.write_bytes(good.read_bytes())
    elif kind == "sdist, no archive":
        bad = folder / "liar-1.0.tar.gz"
        bad.write_bytes(b"\x1f\x8b no archive")
    else:
        bad = folder / "liar-1.0.tar.gz"
        bad.write_bytes(pack("pure").read_bytes())
    return bad


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{}"),
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="a"\r\n'),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\n\xff\xfe\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="content"; filename="../../x.whl"'
            b"\r\n\r\nx\r\n--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="content"\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\ncontent-disposition: form-data; name="a"\r\n\r\nx\r\n' * 1_001 + b"--b--\r\n",
        ),
    ],
)
def test_what_is_no_form_is_refused(lying: Shop, kind: str, body: bytes) -> None:
    before = lying.state()
    headers = {"content-type": kind, "authorization": f"Bearer {lying.token()}"}
    answer = requests.post(lying.url, data=body, headers=headers, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed"), answer.text
    assert lying.state() == before


def test_a_client_that_leaves_in_the_middle_leaves_nothing(lying: Shop) -> None:
    before = lying.state()
    parts = urlsplit(lying.url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {lying.token()}\r\n"
        "content-type: multipart/form-data; boundary=b\r\ncontent-length: 5000000\r\n\r\n"
        '--b\r\ncontent-disposition: form-data; name="content"; filename="a-1-py3-none-any.whl"'
        "\r\n\r\n" + "x" * 2_000_000
    )
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(head.encode())
        wait_for(lambda: lying.state()["scratch"] > before["scratch"])
    wait_for(lambda: lying.state() == before)


def test_a_large_upload_that_is_refused_gets_its_answer(lying: Shop, tmp_path: Path) -> None:
    """Not a broken connection: the client sends all of it before it looks."""
    big = tmp_path / "wheaty-1.0-py3-none-any.whl"
    big.write_bytes(b"\0" * (20 << 20))
    answer = lying.send(big, token=new_token().text)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad-token")
    answer = lying.send(big, token=lying.token("read", "*"))
    assert (answer.status_code, answer.json()["code"]) == (403, "not-allowed")


@over_both("shop")
def test_what_was_built_here_is_not_replaced_by_an_upload(
    shop: Shop, wheel: Path, tmp_path: Path
) -> None:
    content = shop.send(
        wheel, url=f"{shop.place.url}dev/first/legacy/", token=shop.token(channel="*")
    )
    ours = tmp_path / "ours" / content.json()["filename"]
    ours.parent.mkdir()
    digest = content.json()["sha256"]
    ours.write_bytes(shop.store.blobs.path(digest).read_bytes())
    _publish_as_built(shop.store, ours)
    before = shop.listed()
    other = pure(tmp_path / "other", members={"more.py": b"# other\n"})
    answer = shop.send(other)
    assert (answer.status_code, answer.json()["code"]) == (409, "name-taken"), answer.text
    assert shop.listed() == before


def _publish_as_built(store: Store, path: Path) -> None:
    log = path.with_suffix(".log")
    log.write_text("built\n")
    seen = _verifier(path)
    local = Origin(kind="local", location="/src", pinned=False)
    papers = provenance_for(seen, log, target=HERE, origin=local)
    store.put(seen, provenance=papers, channel=MINE, target=HERE, log=log)


@over_both("shop")
def test_of_two_uploads_the_one_that_fits_better_is_offered_whichever_comes_first(
    shop: Shop, tmp_path: Path
) -> None:
    narrow = pure(
        tmp_path / "a", tag=f"py{sys.version_info.major}{sys.version_info.minor}-none-any"
    )
    wide = pure(tmp_path / "b", members={"more.py": b"# wide\n"})
    assert shop.send(narrow).status_code == 200
    answer = shop.send(wide)
    assert (answer.status_code, answer.json()["code"]) == (409, "name-taken"), answer.text
    offered = [each.filename for each in shop.listed() if each.yanked is None]
    assert len(offered) == 1
    second = shop.token(channel="dev/second")
    url = f"{shop.place.url}dev/second/legacy/"
    assert shop.send(wide, url=url, token=second).status_code == 200
    assert shop.send(narrow, url=url, token=second).status_code == 200
    found = shop.listed(Channel("dev/second"))
    assert [each.filename for each in found if each.yanked is None] == offered


def test_an_upload_serves_every_known_target_that_takes_it(shop: Shop, wheel: Path) -> None:
    shop.store.catalogue.remember_target(OTHER_LINUX)
    told = shop.send(wheel).json()
    assert set(told["fingerprints"]) == {NAME, fingerprint_of(OTHER_LINUX)}
    assert told["sha256"] == shop.listed()[0].sha256
    native = shop.send(make_wheel(wheel.parent, name="tight", tag="cp38-cp38-any", build=None))
    assert native.status_code == 422, "no known target has that Python"


def test_a_disk_that_is_full_takes_nothing(shop: Shop, wheel: Path, tmp_path: Path) -> None:
    small = tmp_path / "cache" / "scratch"
    small.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small],
        check=False,
        capture_output=True,
    )
    if mounted.returncode != 0:
        pytest.skip("may not mount a small disk")
    try:
        big = pure(tmp_path / "big", members={"big.py": os.urandom(1 << 20)})
        before = shop.state()
        answer = shop.send(big)
        assert (answer.status_code, answer.json()["code"]) == (500, "store-trouble"), answer.text
        assert shop.state() == before
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)
    assert shop.send(wheel).status_code == 200
