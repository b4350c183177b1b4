"""The process between us and a foreign program: it starts the program and buries its children.

Run as ``python -I -S keeper.py NETWORK FILE_BYTES PROGRAM ARG…`` by `builder.process`; NETWORK is
``on`` or ``off``. It exits with the program's status (128 + N after signal N), or with 125 when it
could not start it. Its standard input is a leash: when the other end of that pipe is closed, its
parent is gone, and it ends what it keeps. The program reads nothing.

It imports nothing of this project, and little else: each build starts five of them, and json,
pathlib and contextlib alone would take as long as all the rest.
"""
# ruff: noqa: PTH123, PTH208, SIM105

from __future__ import annotations

import _thread
import ctypes
import os
import resource
import signal
import sys
import time

_CANNOT_START = 125
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_KILL_SECONDS = 8.0

_stopped: list[bool] = []


class _Stopped(BaseException):
    """Our parent asked us to stop, or is gone."""


def main(argv: list[str]) -> int:
    """Keep the program of `argv` and give its exit status."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        _become_reaper()
        leash = _take_leash()
        child = _start(argv[1] == "on", int(argv[2]), argv[3:])
        _thread.start_new_thread(_stop_when_let_go, (leash, _thread.get_ident()))
        status = _wait_for(child)
    except _Stopped:
        status = 128 + signal.SIGTERM
    except OSError as error:
        sys.stderr.write(f"cannot start {argv[3]}: {error}\n")
        status = _CANNOT_START
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _bury_all()
    return status


def _stop(_number: int, _frame: object) -> None:
    # Once: a parent that dies is told of by the kernel and by the leash at the same time.
    if not _stopped:
        _stopped.append(True)
        raise _Stopped


def _take_leash() -> int:
    """The standard input, of which the program gets none."""
    leash = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return leash


def _stop_when_let_go(leash: int, main: int) -> None:
    """Where the kernel tells nobody of a parent's death (macOS), and where it was too early."""
    os.read(leash, 1)
    signal.pthread_kill(main, signal.SIGTERM)


def _become_reaper() -> None:
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0)


def _start(network: bool, file_bytes: int, program: list[str]) -> int:
    """Start the program in a child and give its pid. Raises OSError."""
    if not network:
        _cut_network()
    if child := os.fork():
        return child
    try:
        _limit(file_bytes)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.execvpe(program[0], program, os.environ)  # noqa: S606  that is what it is for
    except OSError as error:
        os.write(2, f"cannot start {program[0]}: {error}\n".encode())
    finally:
        os._exit(_CANNOT_START)


def _limit(file_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    most = file_bytes if hard == resource.RLIM_INFINITY else min(file_bytes, hard)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _cut_network() -> None:
    """Move into a network namespace with nothing but a loopback of its own. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) != 0:
        # Not root: a user namespace gives the right to a network namespace, and nothing else.
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
        for name, line in (
            ("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1"),
        ):  # fmt: skip
            with open(f"/proc/self/{name}", "w") as file:
                file.write(line)
    _raise_loopback()


def _raise_loopback() -> None:
    """Test suites and compile servers speak to 127.0.0.1; without it they fail oddly."""
    import fcntl  # noqa: PLC0415  start-up counts, and most programs keep their network
    import socket  # noqa: PLC0415
    import struct  # noqa: PLC0415

    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_:
            fcntl.ioctl(any_, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))
    except OSError:
        pass


def _wait_for(child: int) -> int:
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def _bury_all() -> None:
    """Kill and reap until nothing is left, or until the time for it is over."""
    deadline = time.monotonic() + _KILL_SECONDS
    while (left := _descendants()) and time.monotonic() < deadline:
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        _reap(deadline)


def _reap(deadline: float) -> None:
    try:
        while time.monotonic() < deadline:
            pid, _status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                time.sleep(0.002)
                return
    except ChildProcessError:
        pass


def _descendants() -> list[int]:
    """Every process below us, by the parent that /proc names for each; none without /proc."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if sys.platform == "linux" else ():
        if name.isdigit() and (parent := _parent_of(name)):
            children.setdefault(parent, []).append(int(name))
    found: list[int] = []
    todo = [os.getpid()]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def _parent_of(pid: str) -> int | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The command in field 2 may hold spaces and parentheses; the last ")" ends it.
            return int(file.read(4096).rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv))
