"""The files that a CI system reads when a run is over: JUnit XML and a summary in Markdown."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from store.disk import disk_trouble, write_whole
from workers.junit import junit_xml
from workers.outcome import Outcome
from workers.summary import summary_markdown

F = TypeVar("F", bound=Callable[..., Any])

_FILE: Final = click.Path(path_type=Path, dir_okay=False)


def result_options(command: F) -> F:
    """The options ``--junit FILE`` and ``--summary FILE``."""
    summary = click.option(
        "--summary",
        type=_FILE,
        help="Write a summary in Markdown here (on GitHub it goes to the job's summary by itself).",
    )
    junit = click.option("--junit", type=_FILE, help="Write the outcomes as JUnit XML here.")
    return junit(summary(command))


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFiles:
    """Where the outcomes are written, if anywhere."""

    junit: Path | None
    summary: Path | None

    def write(self, outcomes: Sequence[Outcome]) -> None:
        """Write them all. Raises StoreError when the disk refuses."""
        if self.junit:
            write_whole(self.junit, junit_xml(outcomes))
        if self.summary:
            write_whole(self.summary, summary_markdown(outcomes).encode())
        if step := os.environ.get("GITHUB_STEP_SUMMARY"):
            with disk_trouble("write to", Path(step)), Path(step).open("ab") as file:
                file.write(summary_markdown(outcomes).encode())
