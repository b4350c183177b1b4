"""Stations over real builds: shared work, a stop that hands back, a lease that is lost."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from store.provenance import Recipe
from workers.farm.abilities import abilities_of
from workers.farm.farm import Farm, open_farm
from workers.farm.follow import follow
from workers.farm.line import Ask, Order
from workers.farm.reaper import reap
from workers.farm.station import Shift, Station
from workers.farm.submissions import Item
from workers.farm.work import Work
from workers.matrix import Silent
from workers.requirements import WantedFile
from workers.settings import FarmRules, Settings
from workers.sources import LOCAL, acquire, keep_by_digest
from workers.targets import BuildTarget, resolve_target

T = TypeVar("T")
Pack = Callable[[str], Path]


@pytest.fixture
def farm(database_url: str | None, tmp_path: Path) -> Iterator[Farm]:
    """An empty farm whose leases are short."""
    settings = Settings(
        store=tmp_path / "store",
        cache=tmp_path / "cache",
        database=database_url,
        farm=FarmRules(lease_seconds=2),
    )
    with open_farm(settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def native() -> BuildTarget:
    return resolve_target("native", Settings(store=Path("none"), cache=Path("none")))


def order(farm: Farm, sdist: Path, native: BuildTarget) -> Order:
    """The build of a local sdist, its bytes a blob, as a server keeps them."""
    found = acquire(WantedFile(path=sdist), farm.settings)
    keep_by_digest(found, farm.settings.cache)
    farm.store.keep(found.path)
    recipe = farm.settings.recipe(found.source.name)
    work = Work(
        source=found.source, target=native.target, recipe=recipe, channel=LOCAL, epoch=0, pins=None
    )
    return Order(work=work, submitter="ann")


def submit(farm: Farm, *orders: Order) -> str:
    name = farm.submissions.create("ann", {})
    farm.submissions.add(name, 0, [Item(target="native", wanted=each) for each in orders])
    farm.submissions.planned(name)
    return name


def station(farm: Farm, native: BuildTarget, slots: int = 1) -> Station:
    abilities = abilities_of([native], farm.settings.cache)
    made = Station(farm, abilities, Shift(slots=slots))
    made.start()
    return made


def wait_for(there: Callable[[], T | None]) -> T:
    for _ in range(1200):
        if found := there():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")


def test_two_stations_share_the_work_and_each_build_is_done_once(
    farm: Farm, pack: Pack, native: BuildTarget
) -> None:
    orders = [order(farm, pack(name), native) for name in ("pure", "two-minded", "raises")]
    first, second = submit(farm, *orders), submit(farm, *orders)
    stations = [station(farm, native) for _ in range(2)]
    try:
        ends = [follow(farm.submissions, name, Silent()) for name in (first, second)]
    finally:
        for each in stations:
            each.stop()
    assert [end.status for end in ends[0]] == ["built", "built", "failed"]
    assert ends[0] == ends[1]
    assert all(farm.ledger.job(job).token == 1 for job in (1, 2, 3))
    assert {row.state for row in farm.registry.all()} == {"gone"}
    failed = farm.ledger.job(3)
    assert failed.log_sha256 is not None
    assert ends[0][2].build_key in farm.failures.known([str(ends[0][2].build_key)])


def test_a_station_that_stops_hands_its_build_back(
    farm: Farm, pack: Pack, native: BuildTarget
) -> None:
    submit(farm, order(farm, pack("hangs"), native))
    working = station(farm, native)
    wait_for(lambda: building(farm.settings.cache))
    working.stop()
    row = farm.ledger.job(1)
    assert (row.state, row.owner, row.tries) == ("waiting", None, {})
    assert building(farm.settings.cache) is None
    assert list((farm.settings.cache / "scratch").iterdir()) == []


def test_a_build_that_nobody_wants_any_more_is_stopped(
    farm: Farm, pack: Pack, native: BuildTarget
) -> None:
    submission = submit(farm, order(farm, pack("hangs"), native))
    working = station(farm, native)
    hook = wait_for(lambda: building(farm.settings.cache))
    farm.submissions.cancel(submission, "enough")
    wait_for(lambda: not Path(f"/proc/{hook}").exists())
    wait_for(lambda: not working.busy)
    working.stop()
    assert farm.ledger.job(1).state == "cancelled"


def test_an_sdist_comes_from_the_store_where_the_cache_has_none(
    farm: Farm, pack: Pack, native: BuildTarget
) -> None:
    wanted = order(farm, pack("pure"), native)
    for path in (farm.settings.cache / "sdists").rglob("*.tar.gz"):
        path.unlink()
    submission = submit(farm, wanted)
    working = station(farm, native)
    (end,) = follow(farm.submissions, submission, Silent())
    working.stop()
    assert end.status == "built"


def test_a_job_whose_worker_went_silent_gets_another(
    farm: Farm, pack: Pack, native: BuildTarget
) -> None:
    submission = submit(farm, order(farm, pack("pure"), native))
    queues = tuple(farm.ledger.waiting())
    assert farm.ledger.claim(Ask(worker="the dead", queues=queues)) is not None
    reap(farm, wait_for(farm.ledger.expired))
    working = station(farm, native)
    (end,) = follow(farm.submissions, submission, Silent())
    working.stop()
    assert end.status == "built"
    assert farm.ledger.job(1).tries == {"lost": 1}


def test_a_job_that_its_own_worker_claims_anew_is_done_by_one_of_the_two(
    farm: Farm, pack: Pack, native: BuildTarget, tmp_path: Path
) -> None:
    wanted, gate = order(farm, pack("waits"), native), tmp_path / "gate"
    work = replace(wanted.work, recipe=Recipe(env={"GATE": str(gate)}))
    submit(farm, replace(wanted, work=work))
    working = Station(farm, abilities_of([native], farm.settings.cache), Shift(slots=2))
    logs = farm.settings.cache / "scratch"  # no heart beats: its lease lapses
    with ThreadPoolExecutor(2) as slots:
        first = slots.submit(working.work_once)
        wait_for(lambda: list(logs.glob("*/build.log")))
        reap(farm, wait_for(farm.ledger.expired))
        second = slots.submit(working.work_once)
        wait_for(lambda: len(list(logs.glob("*/build.log"))) == 2)
        gate.touch()
        assert first.result()
        assert second.result()
    row = farm.ledger.job(1)
    assert (row.state, row.token, row.tries) == ("succeeded", 2, {"lost": 1})
    assert not working.busy


def test_what_a_dead_publisher_left_is_swept_in_the_rounds_and_the_living_is_spared(
    farm: Farm, native: BuildTarget
) -> None:
    staging = farm.settings.store / "staging"
    working = station(farm, native)
    with farm.store.blobs.stage(io.BytesIO(b"alive"), "blob") as staged:
        (staging / "of-the-dead").mkdir()
        wait_for(lambda: not (staging / "of-the-dead").exists())
        assert staged.path.read_bytes() == b"alive"
    working.stop()


def test_a_fault_of_the_worker_ends_the_job_and_not_the_worker(
    farm: Farm, pack: Pack, native: BuildTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    submission = submit(farm, order(farm, pack("pure"), native))

    def broken(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr("workers.farm.station.find_by_digest", broken)
    working = station(farm, native)
    wait_for(lambda: farm.ledger.job(1).failure)
    monkeypatch.undo()
    (end,) = follow(farm.submissions, submission, Silent())
    working.stop()
    assert end.status in {"built", "trouble"}


def building(cache: Path) -> int | None:
    """The process of a backend's hook that runs below `cache`."""
    for process in Path("/proc").iterdir():
        try:
            if (process / "cwd").readlink().is_relative_to(cache / "scratch"):
                return int(process.name)
        except OSError:
            continue
    return None
