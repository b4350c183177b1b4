"""Which wheels a call of `wheelfarm verify` is about: files, folders, and lists of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from store.errors import UsageError
from workers.text import printable

LIST: Final = "-"
"""Stands for a list of paths on standard input."""

_ENDING: Final = ".whl"
_MOST_LIST: Final = 64 << 20
_SHOWN: Final = 300


def wheels_among(paths: Sequence[str], *, recursive: bool, stdin: BinaryIO | None) -> list[Path]:
    """The wheels that `paths` name, in the order given, those of a folder sorted by path.

    Raises UsageError when there are none, when a path does not exist, and for a folder without
    wheels. What is named and is no plain file (a pipe) is in the list: it gets a verdict. `stdin`
    is None when the caller closed it.
    """
    if not paths:
        raise UsageError("no wheel is given", hint="wheelfarm verify WHEEL..., or a folder of them")
    named = [path for text in paths for path in (_listed(stdin) if text == LIST else [Path(text)])]
    if not named:
        raise UsageError("the list on standard input is empty", hint="give one path a line")
    return [wheel for path in named for wheel in _wheels_at(path, recursive=recursive)]


def _listed(stdin: BinaryIO | None) -> list[Path]:
    """The paths on standard input: one a line, or parted by NUL as ``find -print0`` has them."""
    if stdin is None:
        raise UsageError("standard input is closed, so there is no list", hint="name the wheels")
    data = stdin.read(_MOST_LIST + 1)
    if len(data) > _MOST_LIST:
        raise UsageError("the list on standard input is longer than 64 MiB")
    if data.startswith(b"PK\x03\x04"):
        raise UsageError(
            "standard input is a list of paths, and this is a wheel",
            hint="a wheel's tags are in its file name: give the file's path",
        )
    rows = data.split(b"\0") if b"\0" in data else data.splitlines()
    return [Path(os.fsdecode(row)) for row in rows if row.strip()]


def _wheels_at(path: Path, *, recursive: bool) -> list[Path]:
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except ValueError:  # a NUL in the path
        is_folder = exists = False
    except OSError as error:  # a name too long, a folder that may not be entered
        raise _unreadable(error) from error
    if not exists:
        raise UsageError(f"there is no file {printable(str(path)[:_SHOWN])}")
    if not is_folder:
        return [path]
    found = sorted(_below(path) if recursive else _inside(path))
    if not found:
        hint = None if recursive else "--recursive looks into folders below it too"
        raise UsageError(f"the folder {printable(str(path))} holds no wheel", hint=hint)
    return found


def _inside(folder: Path) -> Iterator[Path]:
    try:
        yield from (path for path in folder.iterdir() if path.name.endswith(_ENDING))
    except OSError as error:
        raise _unreadable(error) from error


def _below(folder: Path) -> Iterator[Path]:
    """Every wheel below `folder`; links to folders are not followed, so it comes to an end."""
    for root, folders, files in os.walk(folder, onerror=_raise):
        yield from (Path(root, name) for name in (*folders, *files) if name.endswith(_ENDING))
        folders[:] = [name for name in folders if not name.endswith(_ENDING)]


def _raise(error: OSError) -> None:
    raise _unreadable(error) from error


def _unreadable(error: OSError) -> UsageError:
    name = printable(str(error.filename)[:_SHOWN])
    return UsageError(f"cannot read {name}: {error.strerror}")
