"""One process for each job, so that one job's end is its own.

A job that is killed, or that dies of too little memory, becomes a WorkerDiedError for that job
alone. Processes come from a fork server that has imported the builder once, so a job starts in
some milliseconds and never inherits a thread or a database connection.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import select
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Final, Generic, TypeVar

from store.errors import WheelfarmError
from workers.errors import WorkerDiedError

Job = TypeVar("Job")
Result = TypeVar("Result")

# Starting a process reaps all that have ended; one that another thread is about to join would then
# give its exit status to the wrong reader, and the right one would read 255.
_REAPING: Final = threading.Lock()
_PRELOAD: Final = ["builder.build", "store.publish", "workers.job"]
_GRACE_SECONDS: Final = 15.0


class JobProcess(Generic[Job, Result]):
    """`work(job)` in a process of its own, started at once. `work` must be a module's function.

    The death of this process stops it as `stop` would. Raises WorkerDiedError when the fork server
    dies as it starts the process; the next one gets a new server.
    """

    def __init__(self, work: Callable[[Job], Result], job: Job) -> None:
        context = _context()
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_answer, args=(sender, work, job))
        try:
            with _REAPING:
                self._process.start()
        except (EOFError, ConnectionError) as error:
            self._receiver.close()
            raise WorkerDiedError("the fork server died before the job was started") from error
        finally:
            sender.close()

    def result(self) -> Result | WheelfarmError:
        """Wait for its end: what it gave, its own error, or a WorkerDiedError."""
        try:
            answer: Result | WheelfarmError | None = self._receiver.recv()
        except EOFError:
            answer = None
        with _REAPING:
            self._process.join()
        self._receiver.close()
        return _died(self._process.exitcode) if answer is None else answer

    def stop(self) -> None:
        """Interrupt it, so that it cleans up; kill it when that takes too long. Returns at once."""
        self._signal(signal.SIGINT)
        killer = threading.Timer(_GRACE_SECONDS, self._signal, [signal.SIGKILL])
        killer.daemon = True
        killer.start()

    def _signal(self, number: signal.Signals) -> None:
        with _REAPING:
            if self._process.is_alive() and self._process.pid:
                os.kill(self._process.pid, number)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _answer(sender: Connection, work: Callable[[Job], Result], job: Job) -> None:
    # Whoever started us in the background may have had interrupts ignored; ours are orders.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    watch = threading.Thread(target=_stop_when_nobody_listens, args=(sender.fileno(),), daemon=True)
    try:
        watch.start()  # it may interrupt us at once
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
