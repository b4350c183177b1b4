"""The isolated environment of one build: a virtual environment that uv makes and fills."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from uv import find_uv_bin

from builder.diagnose import plain
from builder.environment import uv_environment
from builder.failure import StepFailed
from builder.process import Command, Ended, Limits, output_of, run
from store.provenance import Pin

_UNREACHABLE: Final = (
    "Failed to fetch", "Request failed", "error sending request", "Could not connect",
    "timed out", "dns error", "Network connectivity is disabled", "HTTP status server error",
    "HTTP status client error", "Failed to download",
)  # fmt: skip
_OTHER_BYTES: Final = "Hash mismatch"
"""uv says that a download failed when what came was not what the hash names: no use in a retry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uv:
    """uv, as a foreign program: where it may work, which index it asks, where it logs."""

    scratch: Path
    log: Path
    index_url: str | None

    def run(self, *argv: str) -> Ended:
        """Run ``uv ARGV``, output to the log. Raises StepFailed (`infrastructure`) over the index.

        No configuration file is read: what is resolved depends on what is passed here.
        """
        ended = self._run(argv, self.log)
        if not ended.ok:
            self._refuse_unreachable(ended)
        return ended

    def tried(self, *argv: str) -> bool:
        """Whether ``uv ARGV`` does it; when not, its output is nothing to bother a reader with."""
        return self._run(argv, self.scratch / "tried.log").ok

    def _run(self, argv: Sequence[str], log: Path) -> Ended:
        options = ["--no-config", "--no-python-downloads", "--color", "never"]
        command = Command(
            argv=[find_uv_bin(), *argv, *options],
            cwd=self.scratch,
            env=uv_environment(self.scratch),
            limits=Limits(timeout_seconds=900, silence_seconds=600),
        )
        return run(command, log)

    def with_index(self) -> list[str]:
        """The options that name the index, when the caller named one."""
        return ["--default-index", self.index_url] if self.index_url else []

    def sentence(self, ended: Ended) -> str:
        """What uv said, on one line: its error and the causes below it."""
        lines = [plain(line) for line in output_of(ended, self.log).splitlines()]
        words = " ".join(line.removeprefix("error: ") for line in lines if line)
        return words.replace("cause: ", "")[:900] or f"uv ended with status {ended.status}"

    def _refuse_unreachable(self, ended: Ended) -> None:
        said = self.sentence(ended)
        if _OTHER_BYTES in said:
            return
        if ended.ending != "exit" or any(words in said for words in _UNREACHABLE):
            raise StepFailed(
                "infrastructure", "the package index could not be asked for build requirements",
                first_error=said, hint="is the index up? The same build may work later",
            )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolatedEnvironment:
    """pypa/build's IsolatedEnv: a virtual environment on the toolchain's interpreter."""

    folder: Path
    uv: Uv

    @property
    def bin_folder(self) -> Path:
        """Where the environment's programs are."""
        return self.folder / "bin"

    @property
    def python_executable(self) -> str:
        """The interpreter that runs the hooks."""
        return str(self.bin_folder / "python")

    def make_extra_environ(self) -> Mapping[str, str]:
        """Nothing more: `builder.environment` makes the whole environment of a hook."""
        return {}

    def install(self, pins: Sequence[Pin]) -> None:
        """Install exactly these files. Raises StepFailed when one is not to be had.

        Files are copied: a hard link into uv's cache would let one build change what the next
        one installs.
        """
        if not pins:
            return
        listing = self.uv.scratch / "pins.txt"
        listing.write_text(
            "".join(f"{p.name}=={p.version} --hash=sha256:{p.sha256}\n" for p in pins)
        )
        install = [
            "pip", "install", "--quiet", "--python", self.python_executable, "--no-deps",
            "--require-hashes", "--no-build", "--link-mode", "copy", "-r", str(listing),
            *self.uv.with_index(),
        ]  # fmt: skip
        # The hashes say which files, so what is in uv's cache is as good as what the index has.
        if self.uv.tried(*install, "--offline"):
            return
        ended = self.uv.run(*install)
        if not ended.ok:
            raise StepFailed(
                "build", f"the build requirements cannot be installed: {self.uv.sentence(ended)}"
            )


def isolated_environment(python: Path, folder: Path, uv: Uv) -> IsolatedEnvironment:
    """A new virtual environment at `folder`. Raises StepFailed (`infrastructure`) when uv fails."""
    ended = uv.run("venv", "--quiet", "--no-project", "--python", os.fspath(python), str(folder))
    if not ended.ok:
        raise StepFailed(
            "infrastructure", f"no virtual environment for {python}: {uv.sentence(ended)}"
        )
    return IsolatedEnvironment(folder=folder, uv=uv)
