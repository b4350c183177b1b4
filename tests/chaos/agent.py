"""The agent of chaos: what it does to a farm, at random and by a seed."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

import redis

from tests.chaos import proc
from tests.chaos.crew import Crew, Member
from tests.services import Postgresql, Redis

_LONGEST_WAIT: Final = 1.5
_SECONDS_FOR_A_JOB: Final = 3.0
KILLS: Final = frozenset(
    {
        "worker killed",
        "job process killed",
        "fork server killed",
        "server killed",
        "PostgreSQL stopped at once",
        "PostgreSQL session killed",
        "Redis killed",
    }
)


class Agent:
    """Does one thing at a time; what must be mended later (resumed, restarted) is, by a thread.

    `done` counts what was done, by kind. Without servers it leaves the kinds out that need them.
    """

    def __init__(
        self, crew: Crew, seed: int, lease: int, postgresql: Postgresql | None, broker: Redis | None
    ) -> None:
        self._crew = crew
        self._random = random.Random(seed)
        self._lease = lease
        self._postgresql = postgresql
        self._redis = broker
        self._away: dict[str, Future[None]] = {}
        self._menders = ThreadPoolExecutor(max_workers=16)
        self._seen: list[tuple[str, Any]] = []
        self._acts = self._for_processes() | self._for_servers()
        self.done: Counter[str] = Counter()

    @property
    def kills(self) -> int:
        """How many kills were done."""
        return sum(count for kind, count in self.done.items() if kind in KILLS)

    def act(self, *, some: bool) -> None:
        """Wait a moment, then do `some` thing, if that thing can be done."""
        time.sleep(self._random.uniform(0.05, _LONGEST_WAIT))
        if not some:
            return
        weights = [weight for weight, _ in self._acts.values()]
        (kind,) = self._random.choices(list(self._acts), weights)
        if self._acts[kind][1]():
            self.done[kind] += 1

    def make_peace(self) -> None:
        """Wait until everything is resumed and restarted. Raises what went wrong with that."""
        for future in self._away.values():
            future.result()
        self._menders.shutdown()

    def _for_processes(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        return {
            "worker killed": (5, self._kill_worker),
            "job process killed": (12, self._kill_job),
            "fork server killed": (4, self._kill_fork_server),
            "server killed": (4, self._kill_server),
            "server told to stop": (1, self._stop_server),
            "server paused": (2, self._pause_server),
            "worker told to stop": (2, self._stop_worker),
            "worker paused past its lease": (3, self._pause_worker),
        }

    def _for_servers(self) -> dict[str, tuple[int, Callable[[], bool]]]:
        acts: dict[str, tuple[int, Callable[[], bool]]] = {}
        if self._postgresql is not None:
            acts |= {
                "PostgreSQL stopped at once": (4, self._stop_postgresql),
                "PostgreSQL session killed": (3, self._kill_session),
                "PostgreSQL paused": (3, self._pause_postgresql),
            }
        if self._redis is not None:
            acts |= {
                "Redis killed": (6, self._kill_redis),
                "Redis emptied": (4, self._with_redis(lambda client: bool(client.flushall()))),
                "Redis paused": (3, self._pause_redis),
                "message repeated": (8, self._with_redis(self._repeat)),
                "message dropped": (8, self._with_redis(self._drop)),
            }
        return acts

    def _some(self, role: str) -> Member | None:
        there = [each for each in self._crew.of(role) if not each.paused]
        return self._random.choice(there) if there else None

    def _kill_worker(self) -> bool:
        if member := self._some("worker"):
            self._crew.kill(member)
        return member is not None

    def _kill_server(self) -> bool:
        if member := self._some("server"):
            self._crew.kill(member)
        return member is not None

    def _stop_server(self) -> bool:
        if member := self._some("server"):
            self._crew.terminate(member)
        return member is not None

    def _stop_worker(self) -> bool:
        if member := self._some("worker"):
            self._crew.terminate(member)
        return member is not None

    def _kill_job(self) -> bool:
        """Wait for one, if there is none at this moment: most live no longer than a second."""
        ends = time.monotonic() + _SECONDS_FOR_A_JOB
        while not (jobs := self._crew.jobs()) and time.monotonic() < ends:
            time.sleep(0.02)
        return bool(jobs) and proc.signal_one(self._random.choice(jobs), signal.SIGKILL)

    def _kill_fork_server(self) -> bool:
        servers = self._crew.fork_servers()
        return bool(servers) and proc.signal_one(self._random.choice(servers), signal.SIGKILL)

    def _pause_worker(self) -> bool:
        member = self._some("worker")
        return member is not None and self._pause_member(
            member, self._lease + self._random.uniform(1, 6)
        )

    def _pause_server(self) -> bool:
        member = self._some("server")
        return member is not None and self._pause_member(
            member, self._random.uniform(0.5, 2 * self._lease)
        )

    def _pause_member(self, member: Member, seconds: float) -> bool:
        def resume() -> None:
            proc.signal_one(member.pid, signal.SIGCONT)
            member.paused = False

        member.paused = True
        member.process.send_signal(signal.SIGSTOP)
        return self._mend_later(f"{member.role} {member.pid}", seconds, resume)

    def _stop_postgresql(self) -> bool:
        """Its own "immediate" stop: no goodbye, and a recovery from the journal at the start."""
        if self._is_away("PostgreSQL"):
            return False
        server = self._server()
        proc.signal_one(server.pid, signal.SIGQUIT)
        server.stop()
        return self._mend_later("PostgreSQL", self._random.uniform(0, 3), server.start)

    def _kill_session(self) -> bool:
        """After that PostgreSQL ends all the others and recovers, as it cannot trust its memory."""
        if self._is_away("PostgreSQL"):
            return False
        sessions = [
            pid for pid in proc.below(self._server().pid) if b"127.0.0.1" in proc.command(pid)
        ]
        return bool(sessions) and proc.signal_one(self._random.choice(sessions), signal.SIGKILL)

    def _pause_postgresql(self) -> bool:
        if self._is_away("PostgreSQL"):
            return False
        pid = self._server().pid
        family = [pid, *proc.below(pid)]
        return self._pause("PostgreSQL", family)

    def _kill_redis(self) -> bool:
        if self._is_away("Redis"):
            return False
        broker = self._broker()
        proc.signal_one(broker.pid, signal.SIGKILL)
        broker.stop()
        return self._mend_later("Redis", self._random.uniform(0, 4), broker.start)

    def _pause_redis(self) -> bool:
        return not self._is_away("Redis") and self._pause("Redis", [self._broker().pid])

    def _with_redis(self, act: Callable[[Any], bool]) -> Callable[[], bool]:
        def with_client() -> bool:
            if self._is_away("Redis"):
                return False
            with redis.Redis.from_url(self._broker().url) as client:
                return act(client)

        return with_client

    def _repeat(self, client: Any) -> bool:
        """Push a message again: one that waits, or one that was seen before."""
        self._seen += self._messages(client)
        if not self._seen:
            return False
        queue, message = self._random.choice(self._seen[-200:])
        client.lpush(queue, message)
        return True

    def _drop(self, client: Any) -> bool:
        """Take a message away before a worker has it."""
        messages = self._messages(client)
        if not messages:
            return False
        queue, message = self._random.choice(messages)
        return bool(client.lrem(queue, 1, message))

    def _messages(self, client: Any) -> list[tuple[str, Any]]:
        names = [key.decode() for key in client.keys("*.m[123]")]
        queues = [name for name in names if not name.startswith("_kombu")]
        return [(queue, text) for queue in queues for text in client.lrange(queue, 0, 50)]

    def _pause(self, name: str, family: list[int]) -> bool:
        for pid in family:
            proc.signal_one(pid, signal.SIGSTOP)

        def resume() -> None:
            for pid in family:
                proc.signal_one(pid, signal.SIGCONT)

        return self._mend_later(name, self._random.uniform(0.5, self._lease), resume)

    def _mend_later(self, name: str, seconds: float, mend: Callable[[], None]) -> bool:
        def wait_and_mend() -> None:
            time.sleep(seconds)
            mend()

        self._away[name] = self._menders.submit(wait_and_mend)
        return True

    def _is_away(self, name: str) -> bool:
        return name in self._away and not self._away[name].done()

    def _server(self) -> Postgresql:
        assert self._postgresql is not None
        return self._postgresql

    def _broker(self) -> Redis:
        assert self._redis is not None
        return self._redis
