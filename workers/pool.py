"""Jobs over the machine's cores: one process for each job, so that one job's end is its own.

A job that is killed, or that dies of too little memory, becomes a WorkerDiedError for that job
alone. Processes come from a fork server that has imported the builder once, so a job starts in
some milliseconds and never inherits a thread or a database connection.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
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
    a thread of this process, when a job's process starts. Closing the iterator, an interrupt, or
    the death of this process stops the running jobs as an interrupt would, and starts no other.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)

    running: set[BaseProcess] = set()

    def run_one(job: Job) -> Finished[Job, Result]:
        started(job)
        return Finished(job, _in_a_process(context, work, job, running))

    with ThreadPoolExecutor(max_workers=processes) as threads:
        pending: list[Future[Finished[Job, Result]]] = [threads.submit(run_one, j) for j in jobs]
        try:
            for done in as_completed(pending):
                yield done.result()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            _interrupt(running)


def _in_a_process(
    context: multiprocessing.context.ForkServerContext,
    work: Callable[[Job], Result],
    job: Job,
    running: set[BaseProcess],
) -> Result | WheelfarmError:
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, work, job))
    with _REAPING:
        process.start()
        running.add(process)
    sender.close()
    try:
        answer: Result | WheelfarmError | None = receiver.recv()
    except EOFError:
        answer = None
    with _REAPING:
        process.join()
        running.discard(process)
    return _died(process.exitcode) if answer is None else answer


def _interrupt(running: set[BaseProcess]) -> None:
    with _REAPING:
        for process in running:
            if process.is_alive() and process.pid:
                os.kill(process.pid, signal.SIGINT)


def _answer(sender: Connection, work: Callable[[Job], Result], job: Job) -> None:
    threading.Thread(target=_stop_when_nobody_listens, args=(sender.fileno(),), daemon=True).start()
    try:
        sender.send(work(job))
    except WheelfarmError as error:
        sender.send(error)
    except (KeyboardInterrupt, BrokenPipeError):
        return  # nobody waits for an answer


def _stop_when_nobody_listens(descriptor: int) -> None:
    """Interrupt this process when the one that wants its answer is gone."""
    poll = select.poll()
    poll.register(descriptor, 0)  # an error on a pipe's writing end: its reading end is closed
    poll.poll()
    os.kill(os.getpid(), signal.SIGINT)


def _died(exitcode: int | None) -> WorkerDiedError:
    code = exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return WorkerDiedError(
        f"the worker process {how} before it gave an answer",
        hint="signal 9 is often the kernel's answer to too little memory: try fewer --jobs",
    )
