"""Kills the worker that runs it, two processes above the hook: what a full machine may do."""

import os
import signal


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    process = os.getpid()
    for _ in range(10):
        if _command(process).find(b"multiprocessing") >= 0:
            os.kill(process, signal.SIGKILL)
            raise SystemExit
        process = _parent(process)
    raise RuntimeError("no worker was found above this hook")


def _command(process):
    with open("/proc/%d/cmdline" % process, "rb") as file:
        return file.read()


def _parent(process):
    with open("/proc/%d/stat" % process) as file:
        return int(file.read().rpartition(")")[2].split()[1])
