"""The page of the long run, docs/chaos.md: made from a report, never by hand."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.chaos.agent import KILLS
from tests.chaos.reckoning import Figures, spread
from tests.chaos.report import Report

_PREFACE: Final = Path(__file__).with_name("preface.md")


def record(report: Report, path: Path) -> None:
    """Write the page of a run."""
    assert report.figures is not None
    kinds = sorted(report.done.items(), key=lambda kind: (kind[0] not in KILLS, -kind[1]))
    parts = [
        _PREFACE.read_text(),
        _heading(report),
        _table("done to the farm", [*kinds, ("**kills together**", report.kills)]),
        _table("jobs that ended", report.figures.ends.items()),
        _table("jobs by how often they were claimed", _claims(report.figures.tries)),
        _figures(report.figures),
    ]
    path.write_text("\n\n".join(part.strip() for part in parts) + "\n")


def _heading(report: Report) -> str:
    day = f"{datetime.now(UTC):%d %B %Y}".lstrip("0")
    machine = f"{_processor()}, {os.cpu_count()} cores, CPython {platform.python_version()}"
    engine = "SQLite" if report.plan.sqlite else "PostgreSQL and Redis"
    return (
        f"## The run of {day}\n\nOn one machine ({machine}), over {engine}, with seed "
        f"{report.plan.seed}: {report.seconds:,} s. Every line of the reckoning held."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _table(title: str, rows: Iterable[tuple[str, int]]) -> str:
    return "\n".join(
        [f"| {title} | times |", "|---|---|", *(f"| {name} | {n:,} |" for name, n in rows)]
    )


def _claims(tries: Mapping[int, int]) -> list[tuple[str, int]]:
    return [("never" if count == 0 else f"{count}", jobs) for count, jobs in tries.items()]


def _figures(figures: Figures) -> str:
    return (
        f"{figures.released:,} releases, each of a BuildKey of its own. {figures.lost_leases:,} "
        "leases were taken from workers that were silent. From the kill of a worker to the claim "
        f"of its job by another: {spread(figures.handed_on)} (the lease is 6 s). "
        f"{figures.orphans:,} blobs of builds that were killed between the writing of their bytes "
        "and the transaction that lists them lie in the store and are named by nothing."
    )
