"""A farm of the test's own whose workers are real processes of the command line."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from builder.interpreter import measure
from builder.local import local_sdist
from store.provenance import Recipe
from store.target import Target
from tests.forked import forked
from workers.farm.farm import Farm, open_farm
from workers.farm.jobs import JobRow
from workers.farm.line import Order
from workers.farm.poke import SILENT, Poker
from workers.farm.states import FINAL
from workers.farm.work import Work
from workers.settings import FarmRules, Settings
from workers.sources import LOCAL

T = TypeVar("T")
SECONDS = 60
ROOT = Path(__file__).parents[2]


class Yard:
    """Settings in a file, workers as processes, jobs by order."""

    def __init__(
        self,
        folder: Path,
        *,
        broker: str | None = None,
        database: str | None = None,
        blobs: str | None = None,
        lease: int = 8,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.settings_file = folder / "farm.toml"
        lines = ['store = "store"', 'cache = "cache"']
        more = {name: at for name, at in (("database", database), ("blobs", blobs)) if at}
        lines += [f'{name} = "{at}"' for name, at in more.items()]
        lines += ["[farm]", f"lease-seconds = {lease}"]
        lines += [f'broker = "{broker}"'] if broker else []
        self.settings_file.write_text("\n".join(lines) + "\n")
        rules = FarmRules(broker=broker, lease_seconds=lease)
        self.settings = Settings(store=folder / "store", cache=folder / "cache", farm=rules, **more)  # type: ignore[arg-type]
        self.native = measure(Path(sys.executable)).target()
        self._workers: list[Worker] = []

    @contextmanager
    def farm(self, poker: Poker = SILENT) -> Iterator[Farm]:
        with open_farm(self.settings, poker) as farm:
            yield farm

    def worker(
        self, *arguments: str, target: str = "native", apart: bool = False, **more: str
    ) -> Worker:
        """Start one; it takes jobs when this returns. `apart`: without a stand-in."""
        worker = self.start("--target", target, *arguments, apart=apart, **more)
        assert worker.offer, worker.log()
        return worker

    def start(self, *arguments: str, apart: bool = False, **more: str) -> Worker:
        worker = Worker(self, len(self._workers), arguments, more, apart=apart)
        self._workers.append(worker)
        return worker

    def close(self) -> None:
        for worker in self._workers:
            worker.end()

    def orders(
        self,
        sdist: Path,
        count: int = 1,
        *,
        target: Target | None = None,
        env: dict[str, str] | None = None,
    ) -> list[Order]:
        """So many different pieces of work over one sdist."""
        source = local_sdist(sdist, self.folder / "sdists").source
        work = Work(
            source=source,
            target=target or self.native,
            recipe=Recipe(env=env or {}),
            channel=LOCAL,
            epoch=0,
            pins=None,
        )
        works = [dataclasses.replace(work, epoch=number) for number in range(count)]
        return [Order(work=work, submitter="somebody") for work in works]

    def enqueue(self, farm: Farm, sdist: Path, count: int = 1, **env: str) -> list[int]:
        farm.store.keep(sdist)
        return farm.ledger.enqueue(self.orders(sdist, count, env=env))

    def left_over(self) -> list[str]:
        folders = (self.settings.cache / "scratch", self.settings.store / "staging")
        return [path.name for folder in folders if folder.is_dir() for path in folder.iterdir()]


class Worker:
    """A worker's process. `offer` is its first line."""

    def __init__(
        self,
        yard: Yard,
        number: int,
        arguments: tuple[str, ...],
        more: dict[str, str],
        *,
        apart: bool,
    ) -> None:
        start = [sys.executable, "-m", "workers.cli"] if apart else forked()
        self._log = yard.folder / f"worker-{number}.log"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHEELFARM_", "XDG_"))}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*start, "worker", "--settings", str(yard.settings_file), *arguments],
                env=kept | {"PYTHONPATH": str(ROOT)} | more, cwd=yard.folder,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.offer = self.process.stdout.readline()

    @property
    def id(self) -> str:
        return self.offer.split()[0]

    def log(self) -> str:
        text = self._log.read_text()
        assert "Traceback" not in text, text
        return text

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(SECONDS)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def until(there: Callable[[], T | None], seen: object = "it did not come") -> T:
    """What `there` gives once it gives something; what was `seen` is shown where it does not."""
    ends = time.monotonic() + SECONDS
    while not (found := there()):
        assert time.monotonic() < ends, seen
        time.sleep(0.05)
    return found


def ended(farm: Farm, jobs: list[int]) -> list[JobRow]:
    """The rows of the jobs once all are over."""

    rows: list[JobRow] = []

    def over() -> list[JobRow] | None:
        rows[:] = [farm.ledger.job(job) for job in jobs]
        return rows if all(row.state in FINAL for row in rows) else None

    return until(over, rows)


def running(farm: Farm, job: int) -> JobRow:
    """The job's row once it is running and its log shows that its backend is."""

    def there() -> JobRow | None:
        row = farm.ledger.job(job)
        return row if row.state == "running" else None

    return until(there)


def processes_below(folder: Path) -> list[int]:
    """The processes whose working folder is below `folder`."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and (process / "cwd").readlink().is_relative_to(folder):
                found.append(int(process.name))
    return found
