import os
import signal
import threading
import time
from multiprocessing import forkserver

import pytest

from store.errors import UsageError, WheelfarmError
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


def test_one_that_is_stopped_ends_without_an_answer() -> None:
    process = JobProcess(sleep, 1)
    process.stop()
    assert isinstance(process.result(), WorkerDiedError)
    process.stop()  # one that is over is left alone


def test_a_fork_server_that_dies_costs_one_job_and_the_next_gets_a_new_one() -> None:
    assert JobProcess(abs, -1).result() == 1
    server = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    os.kill(server, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, [server, signal.SIGKILL]).start()
    with pytest.raises(WorkerDiedError, match="the fork server died"):
        JobProcess(abs, -2)
    assert JobProcess(abs, -3).result() == 3
