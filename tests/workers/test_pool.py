import os
import signal

from store.errors import UsageError, WheelfarmError
from workers.errors import WorkerDiedError
from workers.pool import run_all


def square(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 4:
        raise UsageError("four is refused", hint="take five")
    if number == 5:
        os._exit(7)
    return number * number


def run(numbers: list[int], processes: int = 2) -> dict[int, int | WheelfarmError]:
    return {
        end.job: end.result
        for end in run_all(square, numbers, processes=processes, started=lambda _: None)
    }


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


def test_a_start_is_told_for_each_job() -> None:
    seen: list[int] = []
    assert len(list(run_all(square, [1, 2], processes=1, started=seen.append))) == 2
    assert seen == [1, 2]
