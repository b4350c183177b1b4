"""A farm of the test's own: a server process, a station, and the commands that talk to them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from tests.forked import forked
from tests.workers.inside import wheelfarm
from workers.farm.abilities import find_abilities
from workers.farm.farm import Farm, open_farm
from workers.farm.station import Shift, Station
from workers.settings import FarmRules, Settings

T = TypeVar("T")
ROOT = Path(__file__).parents[3]


class Place:
    """Folders, a server's address, and the environment of its clients."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        self.folder = folder
        self.settings = Settings(
            store=folder / "store",
            cache=folder / "cache",
            database=database,
            farm=FarmRules(lease_seconds=4),
        )
        self.file = folder / "farm.toml"
        self.file.write_text('store = "store"\ncache = "cache"\n\n[farm]\nlease-seconds = 4\n')
        self.url = ""
        self.server: subprocess.Popen[str] | None = None

    def environment(self, **more: str) -> dict[str, str]:
        dropped = ("WHEELFARM_", "XDG_", "GITHUB_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
        return {
            **kept,
            "PYTHONPATH": str(ROOT),
            "WHEELFARM_STORE": str(self.settings.store),
            "WHEELFARM_CACHE": str(self.settings.cache),
            "WHEELFARM_DATABASE": self.settings.database or "",
            **more,
        }

    def serve(self, port: int = 0, *options: str) -> None:
        """Start the server and wait for its address."""
        with (self.folder / "server.log").open("a") as log:
            self.server = subprocess.Popen(
                forked("serve", "--port", port, *options),
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=self.environment(),
            )
        assert self.server.stdout is not None
        self.url = self.server.stdout.readline().strip()
        assert self.url, (self.folder / "server.log").read_text()

    def stop_server(self, *, kill: bool = False) -> None:
        assert self.server is not None
        if kill:
            self.server.kill()
        else:
            self.server.terminate()
        self.server.communicate(timeout=60)  # until nobody holds the pipe: its stand-in ends first
        self.server = None

    def start(self, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
        """One command, a client of the farm."""
        return subprocess.Popen(
            forked(*arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=self.environment(WHEELFARM_FARM=self.url, **environment),
        )

    def say(self, *arguments: str | Path, **environment: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **environment)
        out, err = process.communicate(timeout=300)
        assert "Traceback" not in out + err
        return process.returncode, out, err

    def say_inside(self, *arguments: str | Path) -> tuple[int, str, str]:
        """The same in this process, which costs less than one of its own."""
        environment = self.environment(WHEELFARM_FARM=self.url)
        done = wheelfarm(*arguments, folder=self.folder, environment=environment)
        return done.returncode, done.stdout, done.stderr

    def ask(self, *arguments: str | Path) -> tuple[int, Any]:
        """The status and the JSON of a command."""
        code, out, err = self.say(*arguments, "--json")
        assert out, err
        return code, json.loads(out)

    @contextmanager
    def worker(self, *words: str, slots: int = 1) -> Iterator[tuple[Farm, Station]]:
        """A station that works for as long as the ``with`` block lasts."""
        with open_farm(self.settings) as farm:
            abilities = find_abilities(words or ("native",), self.settings)
            station = Station(farm, abilities, Shift(slots=slots))
            station.start()
            try:
                yield farm, station
            finally:
                station.stop()


def wait_for(there: Callable[[], T | None]) -> T:
    for _ in range(1_200):
        if found := there():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come")
