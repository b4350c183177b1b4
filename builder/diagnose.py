"""The first real error in a build's log: what a person would scroll up for."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LONGEST: Final = 400
_LARGEST_LOG: Final = 64 << 20
_LONGEST_LINE: Final = 1 << 14
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(\x07|\x1b\\)")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

# Compilers, linkers, CMake, meson, cargo: the first of these is the cause, the rest follows.
_TOOL_ERROR: Final = re.compile(
    r"(?:^|\s)(?:fatal error|error(?:\[E\d+\])?):\s"
    r"|undefined reference to |cannot find -l|^CMake Error|^\S*meson\.build:\d+:\d+: ERROR:"
)
# What wraps another error, and says nothing by itself.
_WRAPPER: Final = re.compile(
    r"error: (?:command ['\"]?\S+['\"]? (?:failed|terminated)|subprocess-exited"
    r"|could not compile|linker `)|collect2: error|ld returned \d+ exit status|^\s*error: aborting"
)
_EXCEPTION: Final = re.compile(
    r"^[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning)\b(?::|$)"
)
_ROOM_TO_WORK: Final = 1 << 20
_MEMORY: Final = re.compile(
    r"Killed signal terminated program|virtual memory exhausted|out of memory|^MemoryError\b"
    r"|Cannot allocate memory|ResourceExhausted"
)


def first_error(log: Path, start: int = 0) -> str | None:
    """One line that says why the build failed, from byte `start` of `log` on; None in an empty log.

    In this order: a compiler's or linker's error; the last line of the last Python traceback; a
    line that only wraps another error; the last line. Control characters are taken out, the
    length is bounded.
    """
    tool = exception = wrapper = last = None
    in_traceback = False
    for line in _lines(log, start):
        last = line
        if _WRAPPER.search(line):
            wrapper = wrapper or line
        elif tool is None and _TOOL_ERROR.search(line):
            tool = line
        if line.startswith("Traceback (most recent call last)"):
            in_traceback = True
        elif in_traceback and _EXCEPTION.match(line):
            exception, in_traceback = line, False
    found = tool or exception or wrapper or last
    return found[:_LONGEST] if found else None


def out_of_memory(log: Path, start: int = 0) -> bool:
    """Whether the log says that memory ran out, in the words of compilers and of Python."""
    return any(_MEMORY.search(line) for line in _lines(log, start))


def disk_is_full(folder: Path) -> bool:
    """Whether a build in `folder` had no room left: measured, since a log may say anything."""
    return shutil.disk_usage(folder).free < _ROOM_TO_WORK


def plain(text: str) -> str:
    """`text` without escape sequences and control characters, on one line."""
    return _CONTROL.sub(" ", _ESCAPE.sub("", text)).strip()


def _lines(log: Path, start: int) -> Iterator[str]:
    """The lines of `log` that hold something, plain; each bounded, and all of them together."""
    read = 0
    with log.open("rb") as file:
        file.seek(start)
        while (raw := file.readline(_LONGEST_LINE)) and read < _LARGEST_LOG:
            read += len(raw)
            if line := plain(raw.decode("utf-8", "replace").rstrip("\r\n")):
                yield line
