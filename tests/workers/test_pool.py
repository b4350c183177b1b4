import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import forkserver
from pathlib import Path

import pytest

from store.errors import UsageError, WheelfarmError
from tests.workers.yard import ROOT, processes_below, until
from workers.errors import WorkerDiedError
from workers.pool import JobProcess


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        raise UsageError("four is refused", hint="take five")
    if number == 5:
        os._exit(7)
    return number * number


def run(numbers: list[int]) -> dict[int, int | WheelfarmError]:
    running = {number: JobProcess(square, number) for number in numbers}
    return {number: process.result() for number, process in running.items()}


def test_every_job_has_an_end_and_one_that_dies_harms_no_other() -> None:
    ends = run([1, 2, 3, 4, 5, 6])
    assert {n: ends[n] for n in (1, 2, 6)} == {1: 1, 2: 4, 6: 36}
    assert isinstance(ends[3], WorkerDiedError)
    assert "signal 9" in str(ends[3])
    assert isinstance(ends[5], WorkerDiedError)
    assert "status 7" in str(ends[5])


def test_an_error_of_ours_comes_back_whole() -> None:
    error = run([4])[4]
    assert isinstance(error, UsageError)
    assert (error.message, error.hint) == ("four is refused", "take five")


def sleep(_: int) -> int:
    time.sleep(600)
    return 0


def wait_for_gate(gate: str) -> str:
    until(Path(gate).exists)
    return gate


def _server() -> int:
    return int(forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]


def _lives(pid: int) -> bool:
    """Whether it runs: one that nobody has buried yet does not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def _children(process: JobProcess[int, int]) -> list[int]:
    return _children_of(int(process._process.pid or 0))


def _children_of(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


@pytest.mark.slow
def test_one_that_is_stopped_ends_without_an_answer() -> None:
    process = JobProcess(sleep, 1)
    process.stop()
    assert isinstance(process.result(), WorkerDiedError)
    process.stop()  # one that is over is left alone


def stubborn(_: int) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    subprocess.Popen(["sleep", "600"])
    while True:
        time.sleep(1)


def test_what_does_not_heed_is_killed_with_its_group() -> None:
    process = JobProcess(stubborn, 1, grace_seconds=0.5)
    helper = until(lambda: _children(process))[0]
    process.stop()
    assert isinstance(process.result(), WorkerDiedError)
    until(lambda: not _lives(helper))


def test_one_whose_fork_server_is_dead_is_stopped_like_any_other() -> None:
    process = JobProcess(sleep, 1)
    os.kill(_server(), signal.SIGKILL)
    until(lambda: not _lives(_server()))
    process.stop()
    assert isinstance(process.result(), WorkerDiedError)
    process.stop()


def test_one_whose_fork_server_is_dead_gives_its_answer(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    process = JobProcess(wait_for_gate, str(gate))
    os.kill(_server(), signal.SIGKILL)
    until(lambda: not _lives(_server()))
    gate.touch()
    assert process.result() == str(gate)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("work", ["sleep", "stubborn"])
def test_nothing_is_left_when_the_worker_is_gone(
    number: signal.Signals, work: str, tmp_path: Path
) -> None:
    code = (
        "import sys, time; from tests.workers import test_pool as t; from workers.pool import *\n"
        f"process = JobProcess(t.{work}, 1, grace_seconds=1)\n"
        "print(process._process.pid, flush=True); time.sleep(600)"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert worker.stdout is not None
    job = int(worker.stdout.readline())
    if work == "stubborn":
        until(lambda: _children_of(job))
    family = processes_below(tmp_path)
    assert job in family
    worker.send_signal(number)
    worker.communicate()
    until(lambda: not processes_below(tmp_path), family)


def test_a_fork_server_that_dies_costs_one_job_and_the_next_gets_a_new_one() -> None:
    assert JobProcess(abs, -1).result() == 1
    server = _server()
    os.kill(server, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, [server, signal.SIGKILL]).start()
    with pytest.raises(WorkerDiedError, match="the fork server died"):
        JobProcess(abs, -2)
    assert JobProcess(abs, -3).result() == 3
