"""What a local disk needs: folders that die with their process, renames that survive a power cut.

Trouble with the disk comes out as a StoreError, in words of our own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from store.errors import StoreError


@contextmanager
def disk_trouble(verb: str, place: Path) -> Iterator[None]:
    """What the operating system says, as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot {verb} {place}: {error.strerror or error}",
            hint="is the disk full, the folder read-only, or another user's?",
        ) from error


@contextmanager
def locked_folder(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, locked as long as this process lives, removed at the end."""
    with disk_trouble("write to", parent):
        folder, lock = _new_locked_folder(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of the same block for the same folder; they wait."""
    with disk_trouble("lock", folder):
        descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def sweep(parent: Path) -> None:
    """Remove the folders in `parent` whose process is gone."""
    with disk_trouble("write to", parent), _descriptor(parent) as descriptor:
        if not _locks(descriptor):
            return  # another process makes a folder or sweeps; the next start sweeps again
        for folder in parent.iterdir():
            # Its owner may end, and remove it, at this very moment.
            with suppress(FileNotFoundError), _descriptor(folder) as child:
                if _locks(child):
                    shutil.rmtree(folder, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all; its folder is made. Raises StoreError."""
    with disk_trouble("write to", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        incoming = path.with_name(f".{path.name}.incoming")
        incoming.write_bytes(data)
        incoming.replace(path)


def write_synced(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put a file in place, whole and synced, never readable to more than `mode` says.

    Raises OSError.
    """
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a power cut: the folder is synced, not only the file."""
    with _descriptor(folder) as descriptor:
        os.fsync(descriptor)


def _new_locked_folder(parent: Path) -> tuple[Path, int]:
    # The shared lock on the parent keeps a sweep away between making and locking the child.
    with _descriptor(parent) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        folder = Path(tempfile.mkdtemp(dir=parent))
        lock = os.open(folder, os.O_RDONLY)
        fcntl.flock(lock, fcntl.LOCK_EX)
        return folder, lock


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _descriptor(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
