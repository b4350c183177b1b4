"""The reaper's rounds: what the silent had is handed on, and nobody is robbed after an outage."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.workers.farm.conftest import QUEUE, work, worker
from tests.workers.yard import until
from workers.farm.farm import Farm, open_farm
from workers.farm.jobs import Claim
from workers.farm.line import Ask, Order
from workers.farm.reaper import _MOST_GRACES, Reaper
from workers.settings import FarmRules, Settings

LEASE = 2


@pytest.fixture
def farm(database_url: str | None, tmp_path: Path) -> Iterator[Farm]:
    """An empty farm whose leases are short."""
    rules = FarmRules(lease_seconds=LEASE)
    settings = Settings(
        store=tmp_path / "store", cache=tmp_path / "cache", database=database_url, farm=rules
    )
    with open_farm(settings) as opened:
        yield opened


def lapsed(farm: Farm) -> Claim:
    """A claim whose owner could not renew it in time."""
    farm.registry.enter(worker("w1"))
    farm.ledger.enqueue([Order(work=work(), submitter="ann")])
    claim = farm.ledger.claim(Ask(worker="w1", queues=(QUEUE,)))
    assert claim is not None
    until(farm.ledger.expired)
    return claim


def taken(farm: Farm, reaper: Reaper) -> bool:
    reaper.round()
    return farm.ledger.job(1).state == "waiting"


def buried(farm: Farm, reaper: Reaper) -> bool:
    reaper.round()
    return farm.registry.all()[0].state == "gone"


def test_after_an_outage_owners_may_renew_what_has_lapsed(farm: Farm) -> None:
    reaper = Reaper(farm)
    reaper.round()
    claim = lapsed(farm)  # and the reaper saw nothing for all of that lease
    reaper.round()
    assert farm.ledger.job(1).state == "running"
    assert farm.registry.all()[0].state == "ready"
    assert farm.ledger.beat([claim]) == []


def test_who_stays_silent_loses_its_jobs_all_the_same(farm: Farm) -> None:
    reaper = Reaper(farm)
    reaper.round()
    lapsed(farm)
    until(lambda: taken(farm, reaper))
    row = farm.ledger.job(1)
    assert (row.owner, row.tries) == (None, {"lost": 1})
    until(lambda: buried(farm, reaper))


def test_a_database_that_comes_and_goes_spares_nobody_for_ever(farm: Farm) -> None:
    reaper = Reaper(farm)
    reaper.round()
    lapsed(farm)
    assert not taken(farm, reaper)
    for _ in range(_MOST_GRACES):
        time.sleep(LEASE / 2 + 0.1)  # so long that it counts as away again
        reaper.round()
    assert farm.ledger.job(1).state == "waiting"


def test_the_first_round_spares_where_the_database_may_have_been_away(farm: Farm) -> None:
    lapsed(farm)
    assert taken(farm, Reaper(farm)) is not farm.store.database.in_postgresql
