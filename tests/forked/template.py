"""The process that every command of a test run is forked off: it has imported all of the farm."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
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
    if words is not None:
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


@dataclass(frozen=True)
class _Template:
    listener: socket.socket
    running: dict[int, socket.socket] = field(default_factory=dict)
    """By process id, the connection of who stands in for it."""

    def serve(self) -> list[str] | None:
        """Fork whatever is asked for; give the words in the process of a command, None at the
        end in this one."""
        ended, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        with DefaultSelector() as selector:
            for each in (0, ended, self.listener):
                selector.register(each, EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj == 0:
                        self._stop()
                        return None
                    if key.fileobj == ended:
                        os.read(ended, 4_096)
                        self._tell(selector)
                    elif key.fileobj is self.listener:
                        words = self._fork(selector)
                        if words is not None:
                            os.close(ended)
                            os.close(wake)
                            return words
                    else:
                        self._left(key.data)

    def _fork(self, selector: DefaultSelector) -> list[str] | None:
        connection, _ = self.listener.accept()
        _, streams, _, _ = socket.recv_fds(connection, len(b"streams"), 3)
        words, folder, environment = json.loads(connection.makefile().readline())
        process = os.fork()
        if not process:
            for each in (connection, *self.running.values()):
                each.close()
            _become(streams, folder, environment)
            return list(words)
        for stream in streams:
            os.close(stream)
        connection.sendall(b"%d\n" % process)
        self.running[process] = connection
        selector.register(connection, EVENT_READ, process)
        return None

    def _tell(self, selector: DefaultSelector) -> None:
        """Those whose command has ended, how."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                connection = self.running.pop(ended[0])
                with suppress(KeyError):
                    selector.unregister(connection)
                with suppress(OSError), connection:
                    connection.sendall(b"%d\n" % ended[1])

    def _left(self, process: int) -> None:
        """Kill the command of who was killed; `_tell` does the rest."""
        if process in self.running:
            os.kill(process, signal.SIGKILL)

    def _stop(self) -> None:
        for process in self.running:
            os.kill(process, signal.SIGKILL)


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
