"""What a run of chaos was to do, did, and found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.chaos.reckoning import Figures, spread


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do: at least so many jobs and kills, with servers or over SQLite alone."""

    seed: int
    jobs: int
    kills: int
    sqlite: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was done and what came of it; `faults` empty when all is as it must be."""

    plan: Plan
    seconds: int
    kills: int
    done: Mapping[str, int]
    figures: Figures | None
    faults: tuple[str, ...]
    logs: str

    def text(self) -> str:
        """What a person reads of it."""
        lines = [f"seed {self.plan.seed}: {self.kills} kills in {self.seconds} s"]
        lines += [f"  {count:5} {kind}" for kind, count in sorted(self.done.items())]
        if found := self.figures:
            lines += [f"  ends {dict(found.ends)}", f"  tries {dict(found.tries)}"]
            lines += [f"  released {found.released}, lost leases {found.lost_leases}"]
            lines += [f"  handed on: {spread(found.handed_on)}; orphaned blobs {found.orphans}"]
        lines += [f"FAULT {fault}" for fault in self.faults]
        if self.faults:
            again = f"--seed {self.plan.seed} --jobs {self.plan.jobs} --kills {self.plan.kills}"
            engine = " --sqlite" if self.plan.sqlite else ""
            lines += [self.logs, f"again: python -m tests.chaos.run {again}{engine}"]
        return "\n".join(lines)
