"""A worker's life: it takes jobs that it can do, does them, and says how they ended.

A station has some slots, each of which does one job at a time in a process of its own; a heart
that renews the leases of what is running and hears what the farm wants of the worker; and it reaps
what other workers have let lie. Nothing here knows how a poke arrives: `nudge` wakes a free slot,
and without one it looks by itself.
"""

from __future__ import annotations

import logging
import os
import platform
import random
import secrets
import shutil
import socket
import threading
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final

from store.digest import JSON
from store.disk import disk_trouble, sweep
from store.errors import OutdatedError, StoreError, WheelfarmError
from workers.errors import (
    LeaseLostError,
    ToolchainChangedError,
    UnknownJobError,
    WorkerDiedError,
)
from workers.farm.abilities import Abilities
from workers.farm.farm import Farm
from workers.farm.jobs import Claim
from workers.farm.line import Ask
from workers.farm.patience import FOR_THE_STORE, Patience, patiently
from workers.farm.reaper import Reaper
from workers.farm.registry import WorkerFacts
from workers.farm.settle import settle
from workers.farm.stamp import check_unchanged
from workers.farm.work import Queue, queue_of
from workers.job import Ended, Job, run_job, scratch_of
from workers.outcome import Outcome, outcome_of, status_of
from workers.plan import hit, offered
from workers.pool import JobProcess
from workers.sources import copy_by_digest, find_by_digest

_LOG: Final = logging.getLogger("wheelfarm.worker")
_REAP_SECONDS: Final = 5.0
_LONGEST_PAUSE: Final = 5.0
_MIB: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """How a station works: `slots` jobs at a time, for one `submission` only where it is given.

    It looks for jobs about every `poll_seconds`; when it stops, builds get `grace_seconds` to
    finish. It takes no job while less than `min_free_mib` of disk are free.
    """

    slots: int
    memory_class: int = 1
    submission: str | None = None
    poll_seconds: float = 0.05
    grace_seconds: float = 0.0
    min_free_mib: int = 0


@dataclass(slots=True, eq=False)
class _Running:
    """A claim that is being worked on; `process` once it is started.

    Two may be of one job: a worker that was paused past its lease may claim the job again while
    another slot still has what it did for the first claim.
    """

    claim: Claim
    process: JobProcess[Job, Ended] | None = None
    stopped: str | None = None
    lost: bool = False

    @property
    def ending(self) -> bool:
        """Whether it is to be stopped: nobody here or nobody at all wants it to go on."""
        return self.stopped is not None or self.lost


class Station:
    """One worker. `start` registers it and begins; `stop` ends it and leaves no job unowned."""

    def __init__(self, farm: Farm, abilities: Abilities, shift: Shift) -> None:
        self.id = f"{socket.gethostname()[:60]}-{os.getpid()}-{secrets.token_hex(3)}"
        self.queues = _queues(abilities, shift.memory_class)
        self._farm = farm
        self._abilities = abilities
        self._shift = shift
        self._running: list[_Running] = []
        self._guard = threading.Lock()
        self._free = threading.Semaphore(shift.slots)
        self._nudge = threading.Condition()
        self._stopping = threading.Event()
        self._hurried = False
        self._over = threading.Event()
        self._handing_back: str | None = None
        self._holding_off: str | None = None
        self._paused = False
        self._outdated: OutdatedError | None = None
        self._learned = set(abilities.ready)
        self._slots = [threading.Thread(target=self._work) for _ in range(shift.slots)]
        self._others = [threading.Thread(target=each) for each in (self._live, self._reap)]

    def start(self) -> None:
        """Clean up what a dead worker left here, register, and begin to work. Raises StoreError."""
        sweep(scratch_of(self._farm.settings.cache))
        self._farm.registry.enter(self._facts())
        for thread in (*self._slots, *self._others):
            thread.start()

    def stop(self) -> None:
        """Take no more jobs; let the running ones finish in time, or hand them back."""
        self.drain()
        deadline = time.monotonic() + self._shift.grace_seconds
        while self.busy and time.monotonic() < deadline and not self._hurried:
            time.sleep(0.05)
        self._stop_all("the worker stops")
        self.join()

    def hurry(self) -> None:
        """A `stop`, now or later, hands back at once. A signal's handler may call it."""
        self._hurried = True  # no Event: the handler may interrupt who waits for it

    def drain(self) -> None:
        """Take no more jobs. `join` waits for the running ones to end."""
        self._stopping.set()
        self.nudge()

    def join(self) -> None:
        """Wait until nothing runs any more, and sign off. To be called after `drain`."""
        for _ in range(self._shift.slots):
            self._free.acquire()  # each is held by whoever looks for a job or does one
        self._free.release(self._shift.slots)  # for who still waits to be told that it is over
        self._over.set()
        for thread in (*self._slots, *self._others):
            thread.join()
        self._leave()

    @property
    def busy(self) -> bool:
        """Whether a job is running."""
        with self._guard:
            return bool(self._running)

    @property
    def stopping(self) -> bool:
        """Whether it takes no more jobs, because somebody here or the farm said so."""
        return self._stopping.is_set()

    def check(self) -> None:
        """Raises OutdatedError when it stopped because the catalogue has a newer form: what it
        had is not handed back, since it may not write; the leases lapse."""
        if self._outdated is not None:
            raise self._outdated

    def nudge(self) -> None:
        """There may be a job: look at once."""
        with self._nudge:
            self._nudge.notify_all()

    def work_once(self, *, wait: bool = False) -> bool:
        """Take the next job, if there is one and a slot is free, and do it to its end.

        `wait` for a free slot. Raises StoreError when the jobs cannot be looked at.
        """
        if self._paused or not self._free.acquire(blocking=wait):
            return False
        try:
            claim = self._claim()
            if claim is not None:
                self._do(claim)
            return claim is not None
        finally:
            self._free.release()

    def _work(self) -> None:
        while not self._stopping.is_set():
            try:
                if self.work_once():
                    continue
            except OutdatedError as error:
                self._give_up(error)
            except StoreError as error:
                _LOG.warning("no look at the jobs: %s", error)
            with self._nudge:
                # Not in step with the other slots and workers, which look as well.
                self._nudge.wait(self._shift.poll_seconds * random.uniform(0.6, 1.4))  # noqa: S311

    def _claim(self) -> Claim | None:
        if self._stopping.is_set() or self._disk_is_low():
            return None
        if not self._farm.ledger.has_waiting(self.queues):
            return None  # a look without the lock that a claim takes
        ask = Ask(worker=self.id, queues=self.queues, submission=self._shift.submission)
        return self._farm.ledger.claim(ask)

    def _do(self, claim: Claim) -> None:
        with self._guard:
            running = _Running(claim, stopped=self._handing_back)
            self._running.append(running)
        try:
            ended = self._ended(running)
            self._settle(running, ended)
        finally:
            with self._guard:
                self._running.remove(running)

    def _ended(self, running: _Running) -> Ended:
        """Whatever comes of a claim, as an outcome."""
        work = running.claim.work
        try:
            with disk_trouble("write to", self._farm.settings.cache):
                result = self._result(running)
        except WheelfarmError as error:
            result = error
        except Exception:  # noqa: BLE001  a fault of ours ends one job, not the worker
            _LOG.exception("job %d met a fault of the worker", running.claim.job_id)
            result = WorkerDiedError("the worker met a fault of its own; its log has it")
        if not isinstance(result, WheelfarmError):
            return result
        if isinstance(result, ToolchainChangedError):
            self._measure_anew()
        name = str(work.fingerprint)
        return Ended(outcome=outcome_of(work, name, status_of(result), error=result))

    def _measure_anew(self) -> None:
        """The toolchains are not what they were: register with what is there now."""
        _LOG.warning("a toolchain was changed under this worker, which measures anew")
        try:
            if self._abilities.renew():
                self.queues = _queues(self._abilities, self._shift.memory_class)
                self._learned = set(self._abilities.ready)
                self._farm.registry.enter(self._facts())
        except WheelfarmError as error:
            _LOG.warning("nothing can be measured: %s", error)

    def _result(self, running: _Running) -> Ended | WheelfarmError:
        patience = Patience(FOR_THE_STORE, tell=_LOG.warning, given_up=lambda: running.ending)
        job = patiently(lambda: self._job(running.claim), patience)
        if known := patiently(lambda: self._known(job), patience):
            return Ended(outcome=known)
        return self._built(running, job)

    def _job(self, claim: Claim) -> Job:
        """The job with its toolchain and its sdist on this machine."""
        target = self._abilities.target(claim.work.target)
        stamp = self._abilities.stamp(target)
        check_unchanged(target.toolchain, stamp)
        if target.fingerprint not in self._learned:
            self._farm.registry.learn(self.id, self._abilities.facts(target))
            self._learned.add(target.fingerprint)
        source, cache = claim.work.source, self._farm.settings.cache
        sdist = find_by_digest(source, cache)
        if sdist is None:
            with self._farm.store.blobs.opened(source.sha256) as blob:
                sdist = copy_by_digest(source, blob, cache)
        return Job(
            claim=claim, sdist=sdist, target=target, stamp=stamp, settings=self._farm.settings
        )

    def _known(self, job: Job) -> Outcome | None:
        """The outcome where the store has the wheel, as a planner may not know or not know yet."""
        if job.work.pins is None:
            return None
        catalogue = self._farm.store.catalogue
        facts = self._abilities.facts(job.target)
        key = job.work.inputs(facts.identity, facts.tools).key
        release = catalogue.find_release(job.work.channel, job.work.fingerprint, key)
        if release is None or not offered(catalogue, release):
            return None
        return hit(job.work, job.target.name, release)

    def _built(self, running: _Running, job: Job) -> Ended | WheelfarmError:
        process = JobProcess(run_job, job)
        with self._guard:
            running.process = process
            ending = running.ending
        if ending:
            process.stop()
        return process.result()

    def _settle(self, running: _Running, ended: Ended) -> None:
        """Tell the farm, and do not rest before it knows, or somebody else has the job."""
        pause = 0.1
        while not self._told(running, ended):
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _told(self, running: _Running, ended: Ended) -> bool:
        job_id = running.claim.job_id
        try:
            if running.stopped and ended.outcome.status not in {"built", "hit"}:
                self._farm.ledger.hand_back(running.claim, running.stopped)
            else:
                settle(self._farm, running.claim, ended)
        except LeaseLostError as error:
            _LOG.info("job %d is not ours any more: %s", job_id, error)
        except OutdatedError as error:
            self._give_up(error)
        except StoreError as error:
            _LOG.warning("how job %d ended cannot be told yet: %s", job_id, error)
            return False
        return True

    def _live(self) -> None:
        """The heart: beats as long as there is anything to keep."""
        while not self._over.wait(self._farm.settings.farm.lease_seconds / 4):
            try:
                self._renew()
                self._hear()
            except OutdatedError as error:
                self._give_up(error)
            except StoreError as error:
                _LOG.warning("no heartbeat: %s", error)

    def _renew(self) -> None:
        with self._guard:
            held = list(self._running)
        lost = self._farm.ledger.beat([each.claim for each in held]) if held else []
        for running in held:
            if running.claim in lost:
                self._stop_one(running, lost=True)

    def _hear(self) -> None:
        """Say that it is alive, and do what the farm wants of it."""
        try:
            state = self._farm.registry.beat(self.id, self._facts_now())
        except UnknownJobError:
            state = "gone"
        if state == "gone":  # it was paused for so long that it was given up
            self._farm.registry.enter(self._facts())
        elif state == "draining" and not self.stopping:
            _LOG.info("drained by the farm: no job is taken any more")
            self.drain()
        self._paused = state == "set-aside"

    def _reap(self) -> None:
        """The rounds: sweep what dead processes left here, and reap what dead workers had."""
        reaper = Reaper(self._farm)
        pause = min(_REAP_SECONDS, self._farm.settings.farm.lease_seconds / 4)
        while not self._over.wait(pause):
            for act in (self._sweep, reaper.round):
                try:
                    act()
                except StoreError as error:
                    _LOG.warning("nothing is swept or reaped now: %s", error)

    def _sweep(self) -> None:
        sweep(scratch_of(self._farm.settings.cache))
        self._farm.store.blobs.sweep()

    def _give_up(self, error: OutdatedError) -> None:
        """The catalogue has a form that this code does not know: nothing can be done any more."""
        if self._outdated is None:
            _LOG.error("%s; no job is taken any more, and what runs is left to others", error)
        self._outdated = error
        self.drain()
        self._stop_all("the catalogue has a newer form")

    def _stop_all(self, reason: str) -> None:
        with self._guard:
            self._handing_back = reason
            held = list(self._running)
        for running in held:
            self._stop_one(running, reason=reason)

    def _stop_one(
        self, running: _Running, *, reason: str | None = None, lost: bool = False
    ) -> None:
        with self._guard:
            if running not in self._running or running.lost:
                return
            running.stopped, running.lost = reason, lost
            process = running.process
        if process is not None:
            process.stop()

    def _leave(self) -> None:
        try:
            self._farm.registry.set_state(self.id, "gone", "it was stopped")
        except (StoreError, UnknownJobError) as error:
            _LOG.warning("could not sign off: %s", error)

    def _disk_is_low(self) -> bool:
        free = _free_mib(self._farm)
        low = free < self._shift.min_free_mib
        if low and self._holding_off is None:
            self._holding_off = f"only {free} MiB of disk are free"
            _LOG.warning("no job is taken: %s", self._holding_off)
        elif not low:
            self._holding_off = None
        return low

    def _facts(self) -> WorkerFacts:
        return WorkerFacts(
            id=self.id,
            host=socket.gethostname(),
            version=version("wheelfarm"),
            slots=self._shift.slots,
            queues=self.queues,
            facts=self._facts_now(),
            toolchains=self._abilities.all_facts(),
        )

    def _facts_now(self) -> dict[str, JSON]:
        """What people want to know of it; ``takes_no_job`` says why, where it takes none."""
        return {**_machine(self._farm), "takes_no_job": self._holding_off}


def _queues(abilities: Abilities, memory_class: int) -> tuple[Queue, ...]:
    """The queues of every capability, for every class of memory up to the worker's own."""
    return tuple(
        queue_of(capability, memory)
        for capability in abilities.capabilities()
        for memory in range(1, memory_class + 1)
    )


def _free_mib(farm: Farm) -> int:
    return shutil.disk_usage(farm.settings.cache).free // _MIB


def _machine(farm: Farm) -> dict[str, JSON]:
    """What people want to know of a worker's machine."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "memory_mib": memory // _MIB,
        "disk_free_mib": _free_mib(farm),
    }
