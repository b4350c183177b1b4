"""The processes of the farm under chaos: workers and a server, started anew when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.chaos import proc
from tests.services import free_port
from tests.workers.yard import ROOT, Yard

_SECONDS: Final = 60
_NO_FARM: Final = 3  # what one ends with when the farm cannot be reached as it starts


@dataclass(slots=True, kw_only=True)
class Member:
    """A process of the crew, and what was done to it."""

    role: str
    process: subprocess.Popen[bytes]
    log: Path
    ending: str = ""
    paused: bool = False

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid


class Crew:
    """So many workers and one server, at `url`.

    `deaths` has the moment at which each worker was killed.
    """

    def __init__(self, yard: Yard, workers: int, mark: str) -> None:
        self._yard = yard
        self._wanted = {"worker": workers, "server": 1}
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}/"
        self._environment = _environment(mark)
        self._started: Counter[str] = Counter()
        self.members: list[Member] = []
        self.deaths: dict[int, float] = {}
        self.faults: list[str] = []

    def tend(self) -> None:
        """Bury who has ended, and start another in its place."""
        for member in [each for each in self.members if each.process.poll() is not None]:
            self.members.remove(member)
            self._judge(member)
        for role, wanted in self._wanted.items():
            for _ in range(wanted - len(self.of(role))):
                self._start(role)

    def of(self, role: str) -> list[Member]:
        """The members of a role that were not told to end."""
        return [each for each in self.members if each.role == role and not each.ending]

    def kill(self, member: Member) -> None:
        """SIGKILL."""
        member.ending = "killed"
        self.deaths[member.pid] = time.time()
        member.process.kill()

    def terminate(self, member: Member) -> None:
        """SIGTERM, as a service manager sends it."""
        member.ending = "terminated"
        member.process.terminate()

    def jobs(self) -> list[int]:
        """The processes of running jobs."""
        return [job for server in self.fork_servers() for job in proc.below(server)]

    def fork_servers(self) -> list[int]:
        """The processes that jobs are forked from."""
        return [
            pid
            for worker in self.of("worker")
            for pid in proc.below(worker.pid)
            if b"forkserver" in proc.command(pid)
        ]

    def dismiss(self) -> None:
        """End everybody as a service manager does; what does not end is a fault, and killed."""
        for member in self.members:
            self.terminate(member)
        ends = time.monotonic() + _SECONDS
        for member in self.members:
            try:
                member.process.wait(max(0.1, ends - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.faults.append(f"{member.log.name} did not stop")
                member.process.kill()
                member.process.wait()
            self._judge(member)
        self.members.clear()

    def _start(self, role: str) -> None:
        self._started[role] += 1
        log = self._yard.folder / f"{role}-{self._started[role]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *self._command(role)],
                env=self._environment, cwd=self._yard.folder, stdout=output, stderr=output,
            )  # fmt: skip
        self.members.append(Member(role=role, process=process, log=log))

    def _command(self, role: str) -> Sequence[str]:
        if role == "server":
            return ["workers.cli", "serve", "--port", str(self._port)]
        options = ["--target", "native", "--slots", "2", "--grace", "2", "--min-free", "1"]
        return ["workers.cli", "worker", *options]

    def _judge(self, member: Member) -> None:
        """Nobody ends but by what was done to it, or for want of a farm as it starts: that may have
        been a moment before anything was done to it."""
        status = member.process.returncode
        allowed: dict[str, set[int]] = {
            "": set(),
            "killed": {-signal.SIGKILL},
            "terminated": {0, -signal.SIGTERM},
        }
        if status not in allowed[member.ending] | {_NO_FARM}:
            self.faults.append(f"{member.log.name} ended with {status}, {member.ending or 'alone'}")


def _environment(mark: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("WHEELFARM_", "XDG_"))}
    return {**kept, "PYTHONPATH": str(ROOT), proc.MARK: mark}
