"""Processes of `wheelfarm` that begin at once: in place of ``python -m workers.cli``.

A command spends a second on its imports, and the tests start some thousand of them. So one process
of each test run, the template, imports the farm, and each command is forked off it: a process of
its own as ever, with its own folder, environment, standard streams and end. What a test starts is
its stand-in, a small program that passes signals on and ends as the command did.

Not for a test of the process itself: its id, its limits, SIGSTOP, how Python is started.
"""

from __future__ import annotations

import functools
import subprocess
import sys
import tempfile
from pathlib import Path

_FOLDER = Path(__file__).parent


def forked(*words: object) -> list[str]:
    """What to start for ``wheelfarm WORDS``."""
    address, _ = _template()
    return [sys.executable, "-I", "-S", str(_FOLDER / "stand_in.py"), address, *map(str, words)]


@functools.cache
def _template() -> tuple[str, subprocess.Popen[bytes]]:
    """Where the template listens, and its process, which ends when its standard input does."""
    address = f"{tempfile.mkdtemp(prefix='wheelfarm-test-')}/template"
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.forked.template", address],
        cwd=_FOLDER.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return address, process
