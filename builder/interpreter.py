"""Measure an interpreter of this machine: run the probe in it and read what it says."""

from __future__ import annotations

import importlib.resources
import os
import selectors
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Final, NamedTuple, NoReturn

from builder.errors import InterpreterError
from store.environment import MAX_PROBE_JSON, Environment, parse_environment
from store.errors import MalformedError
from store.fields import Fields, read_object

TIMEOUT_SECONDS: Final = 30.0
"""How long an interpreter may take to measure itself; a real one takes a tenth of a second."""

# PYTHON* variables are ignored by -I. What is left finds a shim's real interpreter, no more.
_KEPT_VARIABLES: Final = ("HOME", "PATH", "PYENV_ROOT", "PYENV_VERSION", "TMPDIR")
_HINT: Final = "give the path of a Python from 3.8 on, such as /usr/bin/python3"
_WHICH_VERSION: Final = "import sys; print('python %d.%d' % tuple(sys.version_info[:2]))"


class _Answer(NamedTuple):
    status: int
    output: bytes
    trouble: bytes


def measure(python: Path, *, timeout: float = TIMEOUT_SECONDS) -> Environment:
    """The environment of the interpreter at `python`, measured inside it within `timeout` seconds.

    Raises InterpreterError when it is not there, cannot run, is no Python from 3.8 on, does not
    end, or prints anything but a measurement.
    """
    program = _program(python)
    with importlib.resources.as_file(importlib.resources.files("store") / "probe.py") as probe:
        answer = _run([program, "-I", "-"], probe, timeout)
    if answer.status:
        _explain(python, program, answer, timeout)
    return _parse(python, answer.output)


def measure_self() -> Environment:
    """The environment of the running interpreter. Raises InterpreterError."""
    if not sys.executable:
        raise InterpreterError("this Python does not know its own path", hint=_HINT)
    return measure(Path(sys.executable))


def find_interpreter(name: str) -> Path:
    """The interpreter that a path, or a name on PATH (``python3.12``), stands for.

    A link stays as it is, since the link in a virtual environment is what makes it one. Raises
    InterpreterError when a name is nowhere on PATH.
    """
    if os.sep in name:
        return Path(name)
    found = shutil.which(name) if name else None
    if found is None:
        hint = f"{_HINT}; a file of this folder is ./{name:.100}"
        raise InterpreterError(f"no command on PATH is called {name!r:.200}", hint=hint)
    return Path(found)


def _program(python: Path) -> str:
    """The absolute path to run; links are left, since a virtual environment is one."""
    try:
        mode = python.stat().st_mode
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InterpreterError(f"{_shown(python)} cannot be run: {reason}", hint=_HINT) from error
    if not stat.S_ISREG(mode):
        raise InterpreterError(f"{_shown(python)} is not a file", hint=_HINT)
    if not os.access(python, os.X_OK):
        raise InterpreterError(f"{_shown(python)} is not executable", hint=_HINT)
    return str(python.absolute())


def _parse(python: Path, output: bytes) -> Environment:
    try:
        return parse_environment(output)
    except MalformedError as error:
        raise InterpreterError(
            f"{_shown(python)} does not answer like a Python: {error.message}", hint=_HINT
        ) from error


def _explain(python: Path, program: str, answer: _Answer, timeout: float) -> NoReturn:
    """Say why there is no measurement: the probe's words, else its version, else its own words."""
    said = _probe_error(answer.output)
    if said is None:
        said = _too_old(_run([program, "-c", _WHICH_VERSION], None, timeout))
    if said is None:
        said = f"it ended with status {answer.status}: {_telling_line(answer.trouble)}"
    raise InterpreterError(f"{_shown(python)} cannot be measured: {said}", hint=_HINT)


def _probe_error(output: bytes) -> str | None:
    try:
        fields = Fields(read_object(output, limit=MAX_PROBE_JSON))
        return fields.inner("error").text("message")
    except MalformedError:
        return None


def _too_old(answer: _Answer) -> str | None:
    name, _, version = answer.output.decode("ascii", "replace").strip().partition(" ")
    if answer.status or name != "python" or not version.replace(".", "").isdecimal():
        return None
    older = tuple(map(int, version.split("."))) < (3, 8)
    return f"it is Python {version}, the oldest that can be is 3.8" if older else None


def _run(command: list[str], source: Path | None, timeout: float) -> _Answer:
    """Run `command` with the file `source` as its input, in a session that ends with this call."""
    with Path(source or os.devnull).open("rb") as script:
        try:
            process = subprocess.Popen(
                command,
                stdin=script,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd="/",
                env=_clean_environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise InterpreterError(
                f"{command[0]} does not run: {error.strerror}", hint=_HINT
            ) from error
    with process:
        try:
            return _listen(process, time.monotonic() + timeout)
        finally:
            _end(process)


def _clean_environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C"} | kept


def _listen(process: subprocess.Popen[bytes], deadline: float) -> _Answer:
    """Both outputs until they are closed, within the limits of time and size."""
    assert process.stdout is not None
    assert process.stderr is not None
    heard: dict[IO[bytes], bytearray] = {
        process.stdout: bytearray(),
        process.stderr: bytearray(),
    }
    with selectors.DefaultSelector() as selector:
        for stream in heard:
            selector.register(stream, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in _ready(selector, process, deadline):
                stream = key.fileobj  # type: ignore[assignment]
                _hear(selector, stream, heard[stream], process)
    status = _wait(process, deadline)
    return _Answer(status, bytes(heard[process.stdout]), bytes(heard[process.stderr]))


def _ready(
    selector: selectors.BaseSelector, process: subprocess.Popen[bytes], deadline: float
) -> list[tuple[selectors.SelectorKey, int]]:
    ready = selector.select(max(0.0, deadline - time.monotonic()))
    if not ready and time.monotonic() >= deadline:
        _refuse(process, "does not end")
    return ready


def _hear(
    selector: selectors.BaseSelector,
    stream: IO[bytes],
    heard: bytearray,
    process: subprocess.Popen[bytes],
) -> None:
    chunk = os.read(stream.fileno(), 1 << 16)
    if not chunk:
        selector.unregister(stream)
    heard += chunk
    if len(heard) > MAX_PROBE_JSON:
        _refuse(process, f"prints more than {MAX_PROBE_JSON} bytes")


def _wait(process: subprocess.Popen[bytes], deadline: float) -> int:
    try:
        return process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        _refuse(process, "does not end")


def _refuse(process: subprocess.Popen[bytes], what: str) -> NoReturn:
    assert isinstance(process.args, list)
    raise InterpreterError(f"{process.args[0]} {what} when it is asked to measure", hint=_HINT)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill what is left of the session, whether or not its first process still runs."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()


def _telling_line(trouble: bytes) -> str:
    """The last line of a traceback, the first line of anything else."""
    lines = trouble.decode("utf-8", "replace").strip().splitlines() or ["it says nothing"]
    line = lines[-1 if lines[0].startswith("Traceback") else 0]
    return "".join(c if c.isprintable() else "?" for c in line[:300])


def _shown(path: Path) -> str:
    return repr(str(path))[1:-1][:300]
