"""One run of chaos: a farm of processes, all that happens to it, and the reckoning.

    python -m tests.chaos.run [--seed N] [--jobs 300] [--kills 60] [--sqlite] [--record FILE]

Exit status 1 when anything is not as it must be; the seed and the ends of the logs are shown.
"""

from __future__ import annotations

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click

from tests.chaos.agent import Agent
from tests.chaos.client import Client
from tests.chaos.crew import Crew
from tests.chaos.orders import RECIPES, Catalogue
from tests.chaos.reckoning import faults, figures, still_open, untrue
from tests.chaos.record import record
from tests.chaos.report import Plan, Report
from tests.services import Postgresql, Redis
from tests.workers.yard import Yard
from workers.farm.farm import Farm
from workers.settings import FILE_NAME

LEASE: Final = 6
WORKERS: Final = 4
_SECONDS_WITHOUT_PROGRESS: Final = 90
_SHOWN: Final = 2_500
_SHOWN_LOGS: Final = 6
_TELL_EVERY: Final = 60


def main() -> int:
    """Run, tell, and record if it was asked for."""
    options = _options()
    plan = Plan(seed=options.seed, jobs=options.jobs, kills=options.kills, sqlite=options.sqlite)
    with tempfile.TemporaryDirectory(prefix="wheelfarm-chaos-") as folder:
        report = run(plan, Path(folder))
    click.echo(report.text())
    if options.record and not report.faults:
        record(report, options.record)
    return 1 if report.faults else 0


def run(plan: Plan, folder: Path) -> Report:
    """The whole of it, in an empty folder."""
    started, mark = time.monotonic(), secrets.token_hex(8)
    with _servers(plan) as (postgresql, broker):
        yard = Yard(
            folder / "yard",
            lease=LEASE,
            database=postgresql.create("chaos") if postgresql else None,
            broker=broker.url if broker else None,
        )
        settings = yard.settings_file.read_text() + RECIPES
        (yard.folder / FILE_NAME).write_text(settings)
        crew = Crew(yard, WORKERS, mark)
        agent = Agent(crew, plan.seed, LEASE, postgresql, broker)
        with yard.farm() as farm:
            catalogue = Catalogue(folder / "packed", yard.native)
            client = Client(crew.url, catalogue, plan.jobs, plan.seed)
            found = _chaos(plan, farm, crew, agent, client)
            found += untrue(farm, client.told())
            found += client.faults
            found += faults(farm, yard, mark)
            done = dict(agent.done + client.done)
            return Report(
                plan=plan,
                seconds=int(time.monotonic() - started),
                kills=agent.kills,
                done=done,
                figures=figures(farm, crew.deaths),
                faults=tuple(found),
                logs=_tails(yard.folder) if found else "",
            )


def _chaos(plan: Plan, farm: Farm, crew: Crew, agent: Agent, client: Client) -> list[str]:
    """Let it happen, let the farm come to rest, and send everybody home."""
    try:
        client.more.set()
        client.start()
        told = time.monotonic()
        while agent.kills < plan.kills or client.is_alive():
            crew.tend()
            agent.act(some=agent.kills <= plan.kills * client.progress)
            if agent.kills >= plan.kills:
                client.more.clear()
            if time.monotonic() - told > _TELL_EVERY:
                told = time.monotonic()
                click.echo(
                    f"{agent.kills} kills, {client.done['submission']} submissions", err=True
                )
        agent.make_peace()
        late = _come_to_rest(farm, crew, client)
    finally:
        client.more.clear()
        client.stop()
        crew.dismiss()
    return [*late, *crew.faults]


def _come_to_rest(farm: Farm, crew: Crew, client: Client) -> list[str]:
    """Wait until all work is over, what lies about is swept and the dead are buried."""
    ends, before = time.monotonic() + _SECONDS_WITHOUT_PROGRESS, -1
    while time.monotonic() < ends:
        crew.tend()
        left, dead = still_open(farm) + client.following, _dead(farm, crew)
        if left == dead == 0:
            time.sleep(LEASE)  # a round of sweeping
            return []
        if left != before:
            ends, before = time.monotonic() + _SECONDS_WITHOUT_PROGRESS, left
        time.sleep(0.5)
    return [f"nothing came to an end in {_SECONDS_WITHOUT_PROGRESS} s of peace: {left} are open"]


def _dead(farm: Farm, crew: Crew) -> int:
    """How many workers are dead that the register takes to be there."""
    alive = {member.pid for member in crew.of("worker")}
    there = [worker.id for worker in farm.registry.all() if worker.state != "gone"]
    return sum(int(name.split("-")[-2]) not in alive for name in there)


@contextmanager
def _servers(plan: Plan) -> Iterator[tuple[Postgresql | None, Redis | None]]:
    if plan.sqlite:
        yield None, None
        return
    with ExitStack() as stack:
        folders = [
            Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wheelfarm-test-")))
            for _ in range(2)
        ]
        postgresql, broker = Postgresql(folders[0], loses_nothing=True), Redis(folders[1])
        for server in (postgresql, broker):
            server.start()
            stack.callback(server.stop)
        yield postgresql, broker


def _tails(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"), key=lambda log: log.stat().st_mtime)[-_SHOWN_LOGS:]
    return "\n".join(f"--- {log.name}\n{log.read_text()[-_SHOWN:]}" for log in logs)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--sqlite", action="store_true")
    parser.add_argument("--record", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
