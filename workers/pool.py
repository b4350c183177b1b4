"""Jobs over the machine's cores: one process for each job, so that one job's end is its own.

A job that is killed, or that dies of too little memory, becomes a WorkerDiedError for that job
alone. Processes come from a fork server that has imported the builder once, so a job starts in
some milliseconds and never inherits a thread or a database connection.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from typing import Final, Generic, NamedTuple, TypeVar

from store.errors import WheelfarmError
from workers.errors import WorkerDiedError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Starting a process reaps all that have ended; one that another thread is about to join would then
# give its exit status to the wrong reader, and the right one would read 255.
_REAPING: Final = threading.Lock()
_PRELOAD: Final = ["builder.build", "store.publish", "workers.job"]


class Finished(NamedTuple, Generic[Job, Result]):
    """A job and its end: a result, or the farm's trouble with it."""

    job: Job
    result: Result | WheelfarmError


def run_all(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    *,
    processes: int,
    started: Callable[[Job], None],
) -> Iterator[Finished[Job, Result]]:
    """The end of each job, in the order in which they end; `processes` of them at a time.

    `work` runs in a process of its own and must be a module's function. `started` is called, from
    a thread of this process, when a job's process starts. Closing the iterator, or an interrupt,
    starts no further job; the running ones see the same interrupt and stop themselves.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)

    def run_one(job: Job) -> Finished[Job, Result]:
        started(job)
        return Finished(job, _in_a_process(context, work, job))

    with ThreadPoolExecutor(max_workers=processes) as threads:
        pending: list[Future[Finished[Job, Result]]] = [threads.submit(run_one, j) for j in jobs]
        try:
            for done in as_completed(pending):
                yield done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _in_a_process(
    context: multiprocessing.context.ForkServerContext, work: Callable[[Job], Result], job: Job
) -> Result | WheelfarmError:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, work, job))
    with _REAPING:
        process.start()
    sender.close()
    try:
        answer: Result | WheelfarmError | None = receiver.recv()
    except EOFError:
        answer = None
    with _REAPING:
        process.join()
    return _died(process.exitcode) if answer is None else answer


def _answer(sender: Connection, work: Callable[[Job], Result], job: Job) -> None:
    try:
        sender.send(work(job))
    except WheelfarmError as error:
        sender.send(error)
    finally:
        sender.close()


def _died(exitcode: int | None) -> WorkerDiedError:
    code = exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return WorkerDiedError(
        f"the worker process {how} before it gave an answer",
        hint="signal 9 is often the kernel's answer to too little memory: try fewer --jobs",
    )
