"""What tells cheaply that a toolchain is not what it was when it was measured.

A wheel must not be published under the BuildKey of a compiler that was replaced meanwhile. A stamp
takes the files' numbers and times in place of their bytes, so it costs no more than some look-ups.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from builder.environment import SYSTEM_PATH
from builder.errors import InterpreterError
from builder.toolchain import native
from builder.toolchain.cross import CrossToolchain
from builder.toolchain.python_facts import python_facts
from builder.toolchain.toolchain import Toolchain
from builder.toolchain.zig import find_zig
from store.digest import JSON, Sha256, digest_of, digest_of_tree
from workers.errors import ToolchainChangedError


def stamp_of(toolchain: Toolchain) -> Sha256:
    """The stamp of the programs that `toolchain` runs, and of its folder where it has one."""
    if isinstance(toolchain, CrossToolchain):
        files = [toolchain.python, toolchain.zig.program]
        return digest_of([digest_of_tree(toolchain.folder), *map(_stamp, files)])
    config = python_facts(toolchain.python).config
    commands = (config["CC"] or "cc", config["CXX"] or "c++", "ld")
    programs = [shutil.which(command.split()[0], path=SYSTEM_PATH) for command in commands]
    found = [_stamp(Path(program)) if program else None for program in programs]
    return digest_of([_stamp(toolchain.python), *found])


def check_unchanged(toolchain: Toolchain, stamp: Sha256) -> None:
    """Raises ToolchainChangedError when `stamp` is not the toolchain's any more."""
    try:
        same = stamp_of(toolchain) == stamp
    except (OSError, InterpreterError):
        same = False
    if not same:
        raise ToolchainChangedError(
            "the worker's toolchain was changed after it was measured",
            hint="it is measured anew, and the build is tried again",
        )


def forget_measured() -> None:
    """Let what is measured next be measured, not remembered."""
    for remembered in (python_facts, native._described, find_zig):
        remembered.cache_clear()


def _stamp(path: Path) -> list[JSON]:
    """Links are followed: a link that leads to another file now is a change as well."""
    found = path.stat()
    return [str(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns]
