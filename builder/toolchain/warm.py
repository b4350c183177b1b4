"""zig's cache for one target: filled once, copied for each build.

The first C link for a target makes zig compile its run-time library (seconds), the first C++ link
its libc++ (most of a minute). A cache that builds could write to would let one poison the next,
so only code of ours fills the base, and every build works on a copy of its own.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from builder.toolchain.zig import Zig, run_zig

Language = Literal["c", "c++"]

_C: Final = '#include <stdio.h>\nint wf_warm(void) { return printf("%d", 1); }\n'
_CPLUSPLUS: Final = """\
#include <stdexcept>
#include <string>
extern "C" int wf_warm(int n) {
    if (n > 3) throw std::runtime_error(std::string(n, 'x'));
    return n;
}
"""
# The link flags of wrapper.py: another level of optimisation is another run-time library to zig.
_LINK: Final = ("-shared", "-undefined", "dynamic_lookup", "-g0", "-O2")
_QUIET: Final = ("-fno-sanitize=undefined", "-Wl,-headerpad_max_install_names")


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmCache:
    """The base cache of `triple` in `folder`, and what has been put into it."""

    zig: Zig
    triple: str
    folder: Path

    @property
    def base(self) -> Path:
        """The cache that builds get a copy of. Only read by them."""
        return self.folder / "base"

    def fill(self, language: Language) -> None:
        """Put the run-time library of `language` into the base, unless it is there.

        One process does it, others wait for it. Raises BuilderError when the compiler fails.
        """
        done = self.folder / f"{language}.done"
        self.folder.mkdir(parents=True, exist_ok=True)
        if not done.exists():
            with _locked(self.folder / "lock", fcntl.LOCK_EX):
                if not done.exists():
                    self._fill(language)
                    done.touch()

    def copy_to(self, folder: Path) -> None:
        """Make `folder` a copy of the base that a build may write to. Raises OSError."""
        if (self.folder / "c++.wanted").exists():
            self.fill("c++")
        with _locked(self.folder / "lock", fcntl.LOCK_SH):
            shutil.copytree(self.base, folder, dirs_exist_ok=True)

    def want_cplusplus(self) -> None:
        """Note that builds for this target use C++, so that the next one finds libc++ made."""
        (self.folder / "c++.wanted").touch()

    def _fill(self, language: Language) -> None:
        with tempfile.TemporaryDirectory(prefix="wheelfarm-warm-") as name:
            work = Path(name)
            source = work / ("warm.c" if language == "c" else "warm.cpp")
            source.write_text(_C if language == "c" else _CPLUSPLUS, encoding="utf-8")
            tool = "cc" if language == "c" else "c++"
            call = [tool, "-target", self.triple, *_QUIET, "-c", source.name, "-o", "warm.o"]
            run_zig(self.zig, call, self.base, cwd=work)
            link = [tool, "-target", self.triple, "warm.o", *_LINK, *_QUIET, "-o", "warm.so"]
            run_zig(self.zig, link, self.base, cwd=work)


@contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(handle, kind)
        yield
    finally:
        os.close(handle)
