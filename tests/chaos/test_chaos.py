"""`make chaos`: a farm whose parts are killed, paused and restarted loses nothing."""

from __future__ import annotations

import os
import random
from pathlib import Path

import click
import pytest

from tests.chaos.report import Plan
from tests.chaos.run import run

# It watches its own progress, and takes an hour on a machine that is busy with other things.
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(3_600)]
SEED = int(os.environ.get("CHAOS_SEED") or random.SystemRandom().randrange(1 << 32))


@pytest.mark.parametrize(
    "plan",
    [
        pytest.param(Plan(seed=SEED, jobs=300, kills=60), id="servers"),
        pytest.param(Plan(seed=SEED, jobs=48, kills=15, sqlite=True), id="sqlite"),
    ],
)
def test_nothing_is_lost_and_nothing_is_published_twice(plan: Plan, tmp_path: Path) -> None:
    report = run(plan, tmp_path)
    click.echo(report.text())
    assert report.faults == (), report.text()
    assert report.kills >= plan.kills
