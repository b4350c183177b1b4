"""One process for each job, so that one job's end is its own.

A job that is killed, or that dies of too little memory, becomes a WorkerDiedError for that job
alone. Processes come from a fork server that has imported the builder once, so a job starts in
some milliseconds and never inherits a thread or a database connection.

Nothing is left of a process whose worker is gone: it watches the pipe on which its worker waits
for an answer. Its foreign programs are kept by `builder.process`, and end with it. A fork server
ends with its worker by a pipe of its own; when it dies before that, its jobs go on, and are stopped
like all others.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Final, Generic, TypeVar

from store.errors import WheelfarmError
from workers.errors import WorkerDiedError
from workers.interrupts import interrupts_as_such

Job = TypeVar("Job")
Result = TypeVar("Result")

# Starting a process reaps all that have ended; one that another thread is about to join would then
# give its exit status to the wrong reader, and the right one would read 255.
_REAPING: Final = threading.Lock()
_PRELOAD: Final = ["builder.build", "store.publish", "workers.job"]
_GRACE_SECONDS: Final = 15.0
_TRIES: Final = 20
_SECONDS_TO_DIE: Final = 0.1


class JobProcess(Generic[Job, Result]):
    """`work(job)` in a process of its own, started at once. `work` must be a module's function.

    The death of this process stops it as `stop` would. Raises WorkerDiedError when the fork server
    dies as it starts the process; the next one gets a new server. Whatever is stopped has
    `grace_seconds` to clean up.
    """

    def __init__(
        self,
        work: Callable[[Job], Result],
        job: Job,
        *,
        grace_seconds: float = _GRACE_SECONDS,
    ) -> None:
        context = _context()
        self._grace = grace_seconds
        self._closing = threading.Lock()
        self._receiver, sender = context.Pipe(duplex=False)
        self._process = context.Process(target=_answer, args=(sender, work, job, grace_seconds))
        try:
            self._start()
        except (EOFError, ConnectionError) as error:
            self._receiver.close()
            raise WorkerDiedError("the fork server died before the job was started") from error
        finally:
            sender.close()

    def _start(self) -> None:
        """Start the process; a server that is just dying takes no orders, and is replaced."""
        for tries_left in reversed(range(_TRIES)):
            try:
                with _REAPING:
                    self._process.start()
            except ConnectionRefusedError:
                if not tries_left:
                    raise
                time.sleep(_SECONDS_TO_DIE)
            else:
                return

    def result(self) -> Result | WheelfarmError:
        """Wait for its end: what it gave, its own error, or a WorkerDiedError."""
        try:
            answer: Result | WheelfarmError | None = self._receiver.recv()
        except EOFError:
            answer = None
            self._end_group()
        with _REAPING:
            self._process.join()
        with self._closing:
            self._receiver.close()
        return _died(self._process.exitcode) if answer is None else answer

    def stop(self) -> None:
        """Interrupt it, so that it cleans up; kill it when that takes too long. Returns at once."""
        self._interrupt()
        killer = threading.Timer(self._grace, self._kill)
        killer.daemon = True
        killer.start()

    def _interrupt(self) -> None:
        with self._closing:
            if self._is_there() and self._process.pid:
                os.kill(self._process.pid, signal.SIGINT)

    def _kill(self) -> None:
        with self._closing:
            if self._is_there() and self._process.pid:
                os.kill(self._process.pid, signal.SIGKILL)
                self._end_group()

    def _is_there(self) -> bool:
        """Whether the process lives, by its end of the pipe: nobody else tells of it when the fork
        server is dead, and a number alone may be another process's by now."""
        return not self._receiver.closed and not _has_no_other_end(self._receiver.fileno())

    def _end_group(self) -> None:
        """Kill what the process had beside itself in its group."""
        if self._process.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


def _answer(sender: Connection, work: Callable[[Job], Result], job: Job, grace: float) -> None:
    os.setpgid(0, 0)  # a terminal's Ctrl-C is for the worker alone, and we can end as a group
    about = (sender.fileno(), threading.get_ident(), grace)
    watch = threading.Thread(target=_end_when_nobody_listens, args=about, daemon=True)
    try:
        # Whoever started us in the background may have had interrupts ignored; ours are orders.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watch.start()  # it may interrupt us at once
        sender.send(_done(work, job))
    except (KeyboardInterrupt, BrokenPipeError):
        return  # nobody waits for an answer
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends in any case, and without a traceback


def _done(work: Callable[[Job], Result], job: Job) -> Result | WheelfarmError:
    try:
        with interrupts_as_such():
            return work(job)
    except WheelfarmError as error:
        return error


def _end_when_nobody_listens(descriptor: int, main: int, grace: float) -> None:
    """Interrupt the thread `main` when the process that wants its answer is gone; then kill."""
    _has_no_other_end(descriptor, wait=True)
    signal.pthread_kill(main, signal.SIGINT)
    time.sleep(grace)
    os.killpg(os.getpid(), signal.SIGKILL)


def _has_no_other_end(descriptor: int, *, wait: bool = False) -> bool:
    """Whether the other end of a pipe is closed; `wait` until it is."""
    poll = select.poll()
    poll.register(descriptor, 0)  # POLLHUP or POLLERR, and nothing else
    return bool(poll.poll(None if wait else 0))


def _died(exitcode: int | None) -> WorkerDiedError:
    code = exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    return WorkerDiedError(
        f"the worker process {how} before it gave an answer",
        hint="signal 9 is often the kernel's answer to too little memory: try fewer --jobs",
    )
