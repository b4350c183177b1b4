"""The processes of a farm, found by what /proc says of them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

MARK: Final = "WHEELFARM_CHAOS_MARK"
"""The name in the environment that tells which run a process is of."""


def below(pid: int) -> list[int]:
    """The children of a process."""
    return [child for child, parent in _parents() if parent == pid]


def command(pid: int) -> bytes:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def signal_one(pid: int, number: signal.Signals) -> bool:
    """Send a signal; whether there was such a process."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def of_run(mark: str, folder: Path) -> dict[int, str]:
    """The processes that carry the mark, or work below the folder: number -> command line."""
    needle = f"{MARK}={mark}".encode()
    found = {}
    for pid in _pids():
        with suppress(OSError):
            marked = needle in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if marked or Path(f"/proc/{pid}/cwd").readlink().is_relative_to(folder):
                found[pid] = command(pid).replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def _names() -> list[str]:
    return [path.name for path in Path("/proc").iterdir()]


def _pids() -> Iterator[int]:
    return (int(name) for name in _names() if name.isdigit())


def _parents() -> Iterator[tuple[int, int]]:
    for pid in _pids():
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2]
            yield pid, int(fields.split()[1])
