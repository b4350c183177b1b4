"""Pull-through: what a server lists of an index upstream, what it serves, what it never does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from packaging.requirements import Requirement
from uv import find_uv_bin

from store.access import Actor
from store.channel import RELEASE, UPSTREAM, Channel
from store.digest import sha256_of, sha256_of_file
from store.errors import NotFoundError, WheelfarmError
from store.explain import explain
from store.fingerprint import Fingerprint, fingerprint_of
from store.invalidate import Invalidation
from store.provenance import Origin
from store.selection import Selection
from store.status import ProjectStatus
from tests.builder import forge
from tests.store.client import Client
from tests.store.engines import empty_store, engine_of, over_both
from tests.store.wheelshop import make_wheel, publish
from tests.workers.api.place import Place
from tests.workers.upstream_shop import DEV, HERE, NATIVE, Shop, shop_in
from workers.choose import Index as LockIndex
from workers.choose import choose
from workers.errors import UpstreamBusyError
from workers.locks import Place as LockPlace
from workers.locks import pylock_toml
from workers.pull import Flights, Pull, Spans

LOCAL = Origin(kind="local", location="/src", pinned=False)
JSON = "application/vnd.pypi.simple.v1+json"
WHEEL = "wheaty-1.0-py3-none-any.whl"


@pytest.fixture
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shop]:
    with empty_store(request, engine_of(request), tmp_path) as url, shop_in(tmp_path, url) as made:
        yield made


class Served:
    """A client of the server, with pull-through by the rules of a shop."""

    def __init__(self, shop: Shop, **spans: float) -> None:
        self.pull = Pull(shop.upstream, Spans(**spans))
        self.client = Client(shop.store, puller=self.pull)

    def page(
        self, project: str = "wheaty", channel: Channel = RELEASE, at: Fingerprint = HERE
    ) -> httpx.Response:
        return self.client.get(f"/{channel}/{at}/simple/{project}/", accept=JSON)

    def names(self, project: str = "wheaty", **where: Any) -> list[str]:
        answer = self.page(project, **where)
        assert answer.status_code == 200, answer.text
        return [each["filename"] for each in answer.json()["files"]]

    def file(
        self, filename: str = WHEEL, channel: Channel = RELEASE, at: Fingerprint = HERE
    ) -> httpx.Response:
        return self.client.get(f"/{channel}/{at}/files/{filename}")


@pytest.fixture
def served(shop: Shop) -> Served:
    return Served(shop)


def refused(answer: httpx.Response, status: int, code: str) -> bool:
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text
    return True


def test_a_page_lists_what_upstream_has_without_fetching_it(shop: Shop, served: Served) -> None:
    wheel = shop.wheel()
    row = shop.index.add(wheel)
    (file,) = served.page().json()["files"]
    assert file == {
        "filename": WHEEL,
        "url": f"../../files/{WHEEL}",
        "hashes": row["hashes"],
        "size": wheel.stat().st_size,
        "upload-time": row["upload-time"],
        "requires-python": None,
        "core-metadata": row["core-metadata"],
        "yanked": False,
    }
    assert (shop.index.fetched(), shop.listed()) == ([], [])
    html = served.client.get(f"/{DEV}/{HERE}/simple/wheaty/").text
    assert f"#sha256={row['hashes']['sha256']}" in html


@over_both("shop")
def test_the_first_who_asks_has_it_verified_and_all_get_the_same_bytes(
    shop: Shop, served: Served
) -> None:
    wheel = shop.wheel()
    shop.index.add(wheel)
    for channel in (RELEASE, DEV, UPSTREAM):
        assert served.file(channel=channel).content == wheel.read_bytes()
        assert served.names(channel=channel) == [WHEEL]
    assert len(shop.index.fetched()) == 1
    (release,) = shop.listed()
    assert (release.channel, release.sha256) == (UPSTREAM, sha256_of_file(wheel))
    assert shop.store.catalogue.provenance(release)["environment"] == {
        "adopted_by": "ada", "token": None,
    }  # fmt: skip


def test_metadata_is_served_before_the_wheel_and_held_against_its_hash(
    shop: Shop, served: Served
) -> None:
    row = shop.index.add(shop.wheel())
    for _ in range(2):
        got = served.file(f"{WHEEL}.metadata")
        assert sha256_of(got.content) == row["core-metadata"]["sha256"]
    assert shop.index.fetched() == []
    assert sum(path.endswith(".metadata") for path in shop.index.asked) == 1
    served.file()
    assert served.file(f"{WHEEL}.metadata").content == got.content
    shop.index.add(shop.wheel("corny"), core_metadata={"sha256": "0" * 64})
    served.names("corny")
    assert served.file("corny-1.0-py3-none-any.whl.metadata").status_code >= 400
    shop.index.add(shop.wheel("rye"), core_metadata=False)
    assert "core-metadata" not in served.page("rye").json()["files"][0]
    assert served.file("rye-1.0-py3-none-any.whl.metadata").status_code == 404


@over_both("shop")
def test_a_liar_is_refused_before_its_first_byte_and_listed_no_more(
    shop: Shop, served: Served
) -> None:
    place = shop.folder / "liar"
    place.mkdir()
    members = {f"w{forge.MAC_SUFFIX}": forge.elf()}
    shop.index.add(forge.wheel(place, WHEEL, members, purelib="true"))
    assert served.names() == [WHEEL]
    for _ in range(2):
        answer = served.file()
        assert refused(answer, 403, "adoption-refused")
        assert "is refused: " in answer.json()["message"]
    assert len(shop.index.fetched()) == 1
    assert refused(served.page(), 404, "unknown-project")
    assert refused(Served(shop).page(), 404, "unknown-project")  # another server knows it, too
    assert refused(Served(shop).file(), 403, "adoption-refused")
    assert shop.listed() == []


@over_both("shop")
def test_a_retagged_wheel_is_listed_under_its_true_name_from_then_on(
    shop: Shop, served: Served
) -> None:
    place = shop.folder / "tags"
    place.mkdir()
    name = "wheaty-1.0-py2.py3-none-any.whl"
    shop.index.add(forge.wheel(place, name, {"w.py": b"1\n"}, tags=["py3-none-any"]))
    assert served.names() == [name]
    assert refused(served.file(name), 403, "adoption-refused")
    (true,) = served.names()
    assert true.startswith("wheaty-1.0-1_")
    assert served.file(true).status_code == 200
    assert refused(served.file(name), 403, "adoption-refused")
    # Another target is offered the true name at once, and gets it without a fetch.
    other = shop.store.catalogue.remember_target(replace(NATIVE, build=None))
    assert served.names(at=other) == [true]
    assert served.file(f"{true}.metadata", at=other).status_code == 200
    assert served.file(true, at=other).status_code == 200
    assert len(shop.index.fetched()) == 1


def test_other_bytes_than_the_page_says_are_refused_and_not_fetched_again_and_again(
    shop: Shop, served: Served
) -> None:
    shop.index.add(shop.wheel(), hashes={"sha256": "0" * 64})
    for _ in range(3):
        assert refused(served.file(), 403, "adoption-refused")
    assert len(shop.index.fetched()) == 1
    assert refused(served.page(), 404, "unknown-project")


def test_more_bytes_than_the_page_says_are_not_read(shop: Shop, served: Served) -> None:
    shop.index.add(shop.wheel(), size=100)
    assert refused(served.file(), 503, "upstream-away")
    shop.index.add(shop.wheel("corny"), size=1 << 40)
    assert refused(served.page("corny"), 404, "unknown-project")


def test_upstream_down_serves_what_is_there(shop: Shop, served: Served) -> None:
    shop.index.add(shop.wheel())
    shop.index.add(shop.wheel(version="2.0"))
    served.file()
    shop.index.down = True
    fresh = Served(shop)
    answer = fresh.page()
    assert [each["filename"] for each in answer.json()["files"]] == [WHEEL]
    assert answer.headers["x-wheelfarm-upstream"] == "away"
    assert fresh.file().status_code == 200
    assert refused(fresh.page("corny"), 503, "upstream-away")
    two = fresh.file("wheaty-2.0-py3-none-any.whl")
    assert refused(two, 503, "upstream-away")
    assert int(two.headers["retry-after"]) > 0
    # Who heard of it before lists it still; who cannot have it is told.
    assert len(served.names()) == 2


def test_an_index_that_was_away_is_asked_again_after_a_while(shop: Shop) -> None:
    patient, hasty = Served(shop), Served(shop, away=0.0)
    shop.index.add(shop.wheel())
    shop.index.down = True
    for served in (patient, hasty):
        assert refused(served.page(), 503, "upstream-away")
    shop.index.down = False
    assert refused(patient.page(), 503, "upstream-away")  # not asked again at once
    assert hasty.names() == [WHEEL]


def test_a_page_that_comes_late_is_there_for_the_next_who_asks(shop: Shop) -> None:
    served = Served(shop, page=0.1)
    shop.index.add(shop.wheel())
    shop.index.slow_pages = 0.5
    assert refused(served.page(), 503, "upstream-away")
    for _ in range(200):
        if served.page().status_code == 200:
            break
        time.sleep(0.05)
    assert served.names() == [WHEEL]
    assert len(shop.index.asked) == 1


def test_a_slow_file_is_503_first_and_then_there(shop: Shop) -> None:
    served = Served(shop, file=0.1)
    shop.index.add(shop.wheel())
    shop.index.slow = 0.5
    assert refused(served.file(), 503, "upstream-busy")
    for _ in range(400):
        if served.file().status_code == 200:
            break
        time.sleep(0.05)
    assert served.file().status_code == 200
    assert len(shop.index.fetched()) == 1


def test_a_name_that_exists_here_is_never_looked_up(
    shop: Shop, served: Served, tmp_path: Path
) -> None:
    """The attack: a local name, registered upstream with version 99, asked for another target."""
    shop.index.add(shop.wheel(version="99.0"))
    other = shop.store.catalogue.remember_target(replace(NATIVE, build=None))
    mine = publish(shop.store, make_wheel(tmp_path), channel=DEV, target=NATIVE, origin=LOCAL)
    assert served.names(channel=DEV) == [mine.filename]
    for channel, at in ((DEV, other), (RELEASE, HERE), (UPSTREAM, other)):
        answer = served.page(channel=channel, at=at)
        assert refused(answer, 404, "not-from-upstream")
        assert "local" in answer.json()["message"]
        for name in ("wheaty-99.0-py3-none-any.whl", "wheaty-99.0-py3-none-any.whl.metadata"):
            assert refused(served.file(name, channel=channel, at=at), 404, "not-from-upstream")
    assert shop.index.asked == []
    assert shop.listed() == []


def test_what_a_channel_has_of_its_own_is_not_mixed_with_upstream(
    shop: Shop, served: Served, tmp_path: Path
) -> None:
    shop.index.add(shop.wheel(version="2.0"))
    own = publish(shop.store, make_wheel(tmp_path), channel=RELEASE, target=NATIVE)
    assert served.names() == served.names(channel=DEV) == [own.filename]
    assert refused(served.file("wheaty-2.0-py3-none-any.whl"), 404, "unknown-file")
    assert served.names(channel=UPSTREAM) == ["wheaty-2.0-py3-none-any.whl"]
    assert len(shop.index.asked) == 1


def test_rules_of_the_settings_answer_404_and_say_which(shop: Shop) -> None:
    shop.index.add(shop.wheel())
    for rules, word in (
        ({"deny": ("wh*",)}, "upstream.deny"),
        ({"local": ("wheaty",)}, "upstream.local"),
        ({"allow": ("corny",)}, "upstream.allow"),
    ):
        served = Served(shop.ruled(**rules))
        assert refused(served.page(), 404, "not-from-upstream")
        assert word in served.page().json()["message"]
        assert refused(served.file(), 404, "not-from-upstream")
    assert shop.index.asked == []


def test_the_cool_down_hides_young_files(shop: Shop) -> None:
    shop.index.add(shop.wheel(version="2.0"), upload_time="2100-01-01T00:00:00Z")
    shop.index.add(shop.wheel())
    served = Served(shop.ruled(min_age_days=7))
    assert served.names() == [WHEEL]
    young = served.file("wheaty-2.0-py3-none-any.whl")
    assert refused(young, 404, "not-from-upstream")
    assert "counts from 2100-01-08 on" in young.json()["message"]
    assert shop.index.fetched() == []


def test_a_channel_that_does_not_inherit_upstream_pulls_nothing(shop: Shop, served: Served) -> None:
    shop.index.add(shop.wheel())
    other = Channel("dev/other")
    assert refused(served.page(channel=other), 404, "unknown-index")
    assert refused(served.file(channel=other), 404, "unknown-index")
    unheard = Fingerprint(HERE[:-12] + "0" * 12)
    assert refused(served.page(at=unheard), 404, "unknown-index")
    assert refused(served.file(at=unheard), 404, "unknown-index")
    assert shop.index.asked == []


@over_both("shop")
def test_what_was_taken_back_does_not_come_again(shop: Shop, served: Served) -> None:
    shop.index.add(shop.wheel())
    served.file()
    orders = Invalidation(shop.store.database)
    orders.disown(Selection(package="wheaty"), reason="bad", by="ada")
    assert refused(served.page(), 404, "unknown-project")
    assert refused(served.file(), 410, "disowned")
    other = shop.store.catalogue.remember_target(replace(NATIVE, build=None))
    assert refused(served.page(at=other), 404, "unknown-project")
    assert served.file(at=other).status_code in {404, 410}
    assert len(shop.index.fetched()) == 1
    bad = ProjectStatus(status="quarantined", reason="malware")
    shop.index.add(shop.wheel("corny"))
    shop.store.catalogue.set_project_status(RELEASE, "corny", bad, Actor(who="ada"))  # type: ignore[arg-type]
    assert served.names("corny") == []
    assert served.file("corny-1.0-py3-none-any.whl").status_code == 404


def test_a_yank_upstream_shows_on_what_is_here(shop: Shop, served: Served) -> None:
    row = shop.index.add(shop.wheel())
    served.file()
    row["yanked"] = "breaks"
    fresh = Served(shop)
    assert [each["yanked"] for each in fresh.page().json()["files"]] == ["breaks"]


def test_a_refused_file_is_explained(shop: Shop, served: Served) -> None:
    place = shop.folder / "liar"
    place.mkdir()
    members = {f"w{forge.MAC_SUFFIX}": forge.elf()}
    shop.index.add(forge.wheel(place, WHEEL, members, purelib="true"))
    served.file()
    with pytest.raises(NotFoundError, match=r"is not here: .* is refused"):
        explain(shop.store, WHEEL)


def test_a_lock_of_a_channel_that_inherits_names_what_was_pulled(
    shop: Shop, served: Served
) -> None:
    row = shop.index.add(shop.wheel())
    served.file(channel=DEV)
    index = LockIndex.of(shop.store, DEV, HERE, NATIVE)
    (one,) = choose(index, [Requirement("wheaty")])
    assert one.release.sha256 == row["hashes"]["sha256"]
    place = LockPlace(server="http://farm", channel=DEV, fingerprint=HERE, target=NATIVE)
    assert f"http://farm/{DEV}/{HERE}/files/{WHEEL}" in pylock_toml([one], place)


@pytest.mark.parametrize(
    "name",
    ["..%2f..%2fetc%2fpasswd.whl", "wheaty-1.0-py3-none-any.whl%00", "wheaty%0d%0ax-1.whl", "-.whl",
     "x.whl", ".whl", f"{'a' * 3000}.whl", "w%C3%A9-1.0-py3-none-any.whl"],
)  # fmt: skip
def test_a_name_that_plays_tricks_finds_nothing(shop: Shop, served: Served, name: str) -> None:
    assert 400 <= served.file(name).status_code < 500
    assert shop.index.fetched() == []


@over_both("shop")
def test_many_who_ask_at_once_have_it_fetched_once(shop: Shop, served: Served) -> None:
    shop.index.add(shop.wheel())
    shop.index.slow = 0.3
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(served.pull.file(HERE, WHEEL).sha256))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(found), len(set(found)), len(shop.index.fetched())) == (8, 1, 1)


@over_both("shop")
def test_only_some_are_fetched_at_a_time(shop: Shop, served: Served) -> None:
    names = [f"wheaty-{number}.0-py3-none-any.whl" for number in range(1, 8)]
    for number in range(1, 8):
        shop.index.add(shop.wheel(version=f"{number}.0"))
    served.names()
    shop.index.slow, shop.index.most_running = 0.2, 0
    threads = [threading.Thread(target=served.pull.file, args=(HERE, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(shop.listed()) == 7
    assert shop.index.most_running <= 4


def test_who_waits_too_long_is_told_to_come_again_and_then_finds_it_done() -> None:
    gate = threading.Event()
    waiting = threading.BoundedSemaphore(2)
    flights: Flights[str, int] = Flights(1, waiting)

    def work() -> int:
        gate.wait(30)
        return 7

    with pytest.raises(UpstreamBusyError):
        flights.join("a", work, 0.05)
    held = [waiting.acquire(blocking=False) for _ in range(2)]
    with pytest.raises(UpstreamBusyError, match="too many"):
        flights.join("a", work, 0.05)
    for _ in held:
        waiting.release()
    gate.set()
    assert flights.join("a", work, 30) == 7

    def fail() -> int:
        raise WheelfarmError("no")

    for _ in range(2):  # a failure is not remembered here
        with pytest.raises(WheelfarmError, match="no"):
            flights.join("b", fail, 30)


Install = Callable[..., "subprocess.CompletedProcess[str]"]


def pip(site: Path, index: str, *wanted: str) -> subprocess.CompletedProcess[str]:
    base = [sys.executable, "-m", "pip", "--isolated", "--no-input", "install"]
    rest = ["--no-cache-dir", "--target", str(site), "--index-url", index, *wanted]
    return subprocess.run([*base, *rest], capture_output=True, text=True, timeout=300, check=False)


def uv(site: Path, index: str, *wanted: str) -> subprocess.CompletedProcess[str]:
    base = [
        find_uv_bin(),
        "--no-config",
        "pip",
        "install",
        "--python",
        sys.executable,
        "--no-cache",
    ]
    rest = ["--target", str(site), "--default-index", index, *wanted]
    return subprocess.run([*base, *rest], capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("install", [pip, uv])
def test_pip_and_uv_install_by_pull_through_and_after_it(
    shop: Shop, tmp_path: Path, install: Install
) -> None:
    """With dependencies, by the hash that the index gives, and once more with the index away."""
    made = tmp_path / "dist"
    made.mkdir()
    needs = forge.metadata("wheaty", "1.0") + b"Requires-Dist: corny>=1\n"
    shop.index.add(shop.wheel("corny"))
    shop.index.add(_needing(made, needs))
    (tmp_path / "place").mkdir()
    place = Place(tmp_path / "place")
    shop.store.close()
    (tmp_path / "place/wheelfarm.toml").write_text(
        f'[channels.release]\ninherit = ["upstream"]\n[upstream]\npull-through = true\n'
        f'index-url = "{shop.index.url}"\n'
    )
    code, _, err = place.say("adopt", "--target", "native")
    assert code == 0, err
    place.serve(0, "--no-farm")
    index = f"{place.url}release/{fingerprint_of(NATIVE)}/simple/"
    try:
        done = install(tmp_path / "site", index, "wheaty")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "site/corny.py").is_file()
        shop.index.down = True
        pinned = tmp_path / "pinned.txt"
        digest = shop.index.files["corny"][0]["hashes"]["sha256"]
        pinned.write_text(f"corny==1.0 --hash=sha256:{digest}\n")
        done = install(tmp_path / "again", index, "--require-hashes", "-r", str(pinned))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "again/corny.py").is_file()
    finally:
        place.stop_server()
    assert "Traceback" not in (tmp_path / "place/server.log").read_text()


def _needing(folder: Path, metadata: bytes) -> Path:
    name = "wheaty-1.0-py3-none-any.whl"
    info = "wheaty-1.0.dist-info"
    members = {
        "wheaty.py": b"import corny\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    members[f"{info}/RECORD"] = forge.record(members, info)
    path = folder / name
    forge.write_zip(path, members)
    return path
