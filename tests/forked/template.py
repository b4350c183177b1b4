"""The process that every command of a test run is forked off: it has imported all of the farm."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import shutil
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from selectors import EVENT_READ, DefaultSelector
from typing import Final

_ROOTS: Final = ("store", "workers")
_MORE: Final = ("psycopg", "sqlalchemy.dialects.sqlite", "uvicorn.protocols.http.httptools_impl")
_NOT: Final = (".__main__", "store.migrations")


def main() -> None:
    """Fork commands until standard input ends. In a command's process: become `wheelfarm`."""
    _import_all()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        os.write(1, b"ready\n")
        words = _Template(listener).serve()
    sys.argv = ["wheelfarm", *words]
    runpy.run_module("workers.cli", run_name="__main__", alter_sys=True)


def _import_all() -> None:
    for root in _ROOTS:
        package = importlib.import_module(root)
        for module in pkgutil.walk_packages(package.__path__, f"{root}."):
            if not any(each in module.name for each in _NOT):
                importlib.import_module(module.name)
    for name in _MORE:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork has none of the other threads"
    gc.freeze()


class _Template:
    """Of each command that runs, the connection of its stand-in."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._running: dict[int, socket.socket] = {}
        self._ended, self._end = socket.socketpair()
        self._end.setblocking(False)
        self._selector = DefaultSelector()

    def serve(self) -> list[str]:
        """Fork whatever is asked for; the words of a command, in its process."""
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._end.fileno())
        self._selector.register(0, EVENT_READ, self._stop)
        self._selector.register(self._ended, EVENT_READ, self._tell)
        self._selector.register(self._listener, EVENT_READ, self._fork)
        while True:
            for key, _ in self._selector.select():
                act: Callable[[], list[str] | None] = key.data
                if (words := act()) is not None:
                    return words

    def _fork(self) -> list[str] | None:
        connection, _ = self._listener.accept()
        _, streams, _, _ = socket.recv_fds(connection, len(b"streams"), 3)
        order = connection.makefile().readline()
        if not order:  # the stand-in was killed before it had said what it wants
            return None
        words, folder, environment = json.loads(order)
        process = os.fork()
        if not process:
            self._selector.close()
            for each in (self._ended, self._end, connection, *self._running.values()):
                each.close()
            _become(streams, folder, environment)
            return list(words)
        for stream in streams:
            os.close(stream)
        with suppress(OSError):
            connection.sendall(b"%d\n" % process)
        self._running[process] = connection
        self._selector.register(connection, EVENT_READ, partial(self._kill, process))
        return None

    def _kill(self, process: int) -> None:
        """The stand-in was killed: so is the command. `_tell` does the rest."""
        if process in self._running:
            self._selector.unregister(self._running[process])
            os.kill(process, signal.SIGKILL)

    def _tell(self) -> None:
        """The stand-ins of those that have ended, how."""
        self._ended.recv(4_096)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self._running.pop(ended[0])
                with suppress(KeyError):
                    self._selector.unregister(connection)
                with suppress(OSError), connection:
                    connection.sendall(b"%d\n" % ended[1])

    def _stop(self) -> None:
        """The test run is over."""
        for process in self._running:
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(os.path.dirname(self._listener.getsockname()))  # noqa: PTH120
        sys.exit()


def _become(streams: list[int], folder: str, environment: dict[str, str]) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", 1, "utf-8", "backslashreplace", closefd=False)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    main()
