"""A wheel's file, opened so that nothing but a plain file is read, and a change is noticed."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Final, NamedTuple

from builder.errors import RefusedWheelError
from store.digest import Sha256
from store.verdict import Finding

CODE: Final = "archive-safety"
# Opening a pipe waits for its other end, unless told not to. Windows has no such flag, or need.
_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


class FileState(NamedTuple):
    """What changes when a file is written to, or another takes its place."""

    device: int
    inode: int
    size: int
    modified_ns: int


def open_plain(path: Path) -> BufferedReader:
    """The file at `path`, open for reading.

    Raises OSError when it cannot be opened, or is a folder, a pipe, a socket or a device; a pipe
    without a writer does not make it wait.
    """
    descriptor = os.open(path, os.O_RDONLY | _AT_ONCE)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no plain file", str(path))
    return os.fdopen(descriptor, "rb")


def state_of(file: BufferedReader) -> FileState:
    """The state of an open file."""
    found = os.fstat(file.fileno())
    return FileState(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def digest_of_plain(path: Path) -> Sha256:
    """SHA-256 of the plain file at `path`. Raises OSError."""
    with open_plain(path) as file:
        return digest_of_open(file)


def digest_of_open(file: BufferedReader) -> Sha256:
    """SHA-256 of all of an open file. Raises OSError."""
    file.seek(0)
    return Sha256(hashlib.file_digest(file, "sha256").hexdigest())


@contextmanager
def reopened(path: Path, state: FileState) -> Iterator[BufferedReader]:
    """The file at `path` once more. Raises RefusedWheelError when it is not as it was before."""
    with open_plain(path) as file:
        check_unchanged(file, state)
        yield file
        check_unchanged(file, state)


def check_unchanged(file: BufferedReader, state: FileState) -> None:
    """Raises RefusedWheelError when the open file differs from what `state` says of it."""
    if state_of(file) != state:
        raise RefusedWheelError((_changed(),))


def _changed() -> Finding:
    return Finding(
        check=CODE,
        severity="error",
        message="the file changed while it was read",
        hint="wait until whatever writes it is done, then verify it again",
    )
