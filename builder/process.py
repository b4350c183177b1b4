"""Run one foreign program: bounded in time, output and file size, and dead when we are done.

The program runs under `builder/keeper.py`, a small process of our own, which becomes the reaper
of everything that the program leaves behind. So also a daemon that forked twice and called
setsid is found and killed: its parent is gone, and the keeper has inherited it (Linux,
PR_SET_CHILD_SUBREAPER; elsewhere the process group is killed). The keeper holds our end of a pipe
and ends when we do, however that is. A program that kills its keeper
could still get away on a machine without process namespaces; a container closes that gap.
"""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

Ending = Literal["exit", "timeout", "silence", "flood"]

CANNOT_START: Final = 125
"""Exit status of the keeper itself when the program could not be started."""

_KEEPER: Final = Path(__file__).with_name("keeper.py")
_GRACE_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5
_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a program may use: seconds on the clock and without output, bytes of log and file."""

    timeout_seconds: float = 3600
    silence_seconds: float = 1200
    log_bytes: int = 64 << 20
    file_bytes: int = 8 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A program to run: argument list, working folder, its whole environment, and its limits.

    Nothing of the caller's environment reaches the program but what `env` holds. `network`
    False takes the network away where the kernel allows it (see `network_can_be_cut`).
    """

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str]
    limits: Limits = field(default_factory=Limits)
    network: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a program ended. `status` is its exit status, 128 + N after signal N.

    `log_start` and `log_end` are the byte offsets of its output in the log.
    """

    ending: Ending
    status: int
    log_start: int
    log_end: int

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with status 0."""
        return self.ending == "exit" and self.status == 0


def output_of(ended: Ended, log: Path) -> str:
    """What a program printed to `log`, its first 64 KiB."""
    with log.open("rb") as file:
        file.seek(ended.log_start)
        printed = file.read(min(ended.log_end - ended.log_start, 1 << 16))
    return printed.decode("utf-8", "replace")


def run(command: Command, log: Path) -> Ended:
    """Run `command` to its end, its stdout and stderr appended to `log`.

    Whatever happens, and also on KeyboardInterrupt, no process of it is left. Raises OSError
    when the log cannot be written or the keeper cannot be started.
    """
    with log.open("ab") as sink:
        start = sink.tell()
        with _kept(command) as keeper:
            ending = _pump(keeper, sink.fileno(), command.limits)
        end = sink.seek(0, os.SEEK_END)
    status = keeper.returncode
    return Ended(ending=ending, status=status, log_start=start, log_end=end)


@functools.cache
def network_can_be_cut() -> bool:
    """Whether this machine lets us start programs without a network. Asked once per process."""
    if sys.platform != "linux":
        return False
    leash, ours = os.pipe()
    try:
        done = subprocess.run(
            _keeper_argv(["/bin/true"], file_bytes=1 << 20, network=False),
            env={}, stdin=leash, capture_output=True, check=False, timeout=30,
        )  # fmt: skip
    finally:
        os.close(leash)
        os.close(ours)
    return done.returncode == 0


@contextlib.contextmanager
def _kept(command: Command) -> Iterator[subprocess.Popen[bytes]]:
    network = command.network or not network_can_be_cut()
    argv = _keeper_argv(command.argv, file_bytes=command.limits.file_bytes, network=network)
    keeper = subprocess.Popen(
        argv, cwd=command.cwd, env=dict(command.env), start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield keeper
    finally:
        _end(keeper)


def _keeper_argv(argv: Sequence[str], *, file_bytes: int, network: bool) -> list[str]:
    orders = ["on" if network else "off", str(file_bytes)]
    # -I and -S: the keeper is not to be reached by the program's environment or site folders.
    return [sys.executable, "-I", "-S", str(_KEEPER), *orders, *argv]


def _end(keeper: subprocess.Popen[bytes]) -> None:
    # The keeper kills what it keeps when it is asked to stop; if it does not come back, it is
    # killed with its whole group. Where there is no subreaper, the group is all there is to kill.
    keeper.terminate()
    late = sys.platform != "linux"
    try:
        keeper.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        late = True
    if late:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(keeper.pid, signal.SIGKILL)
    keeper.wait()
    for pipe in (keeper.stdin, keeper.stdout):
        assert pipe is not None
        pipe.close()


def _pump(keeper: subprocess.Popen[bytes], sink: int, limits: Limits) -> Ending:
    """Copy output until the program has ended or has broken a limit."""
    assert keeper.stdout is not None
    source, left = keeper.stdout.fileno(), limits.log_bytes
    deadline = time.monotonic() + limits.timeout_seconds
    heard = time.monotonic()
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        while True:
            now = time.monotonic()
            if now >= deadline:
                return "timeout"
            if now - heard >= limits.silence_seconds:
                return "silence"
            patience = min(_POLL_SECONDS, deadline - now, heard + limits.silence_seconds - now)
            if not selector.select(max(0.0, patience)):
                if keeper.poll() is not None:
                    return "exit"
                continue
            chunk = os.read(source, _CHUNK)
            if not chunk:
                return _await_end(keeper, deadline)
            heard = time.monotonic()
            os.write(sink, chunk[:left])
            left -= len(chunk)
            if left < 0:
                return "flood"


def _await_end(keeper: subprocess.Popen[bytes], deadline: float) -> Ending:
    # A program may close its output and go on; only the clock is left to judge it by.
    try:
        keeper.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return "timeout"
    return "exit"
