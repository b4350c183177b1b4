"""Wheels in, verdicts out: one after another or on several processes, in the order given."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from builder.checks.context import Context
from builder.judge import judge
from builder.policy import NO_POLICY, Policy
from builder.retag import build_of, filename_for
from builder.verify import retag_to
from builder.wheel import open_wheel
from store.digest import JSON, Sha256, sha256_of_file
from store.errors import UsageError
from store.verdict import Finding, Judgement, Verdict
from workers.errors import WorkerDiedError
from workers.text import printable

UNREADABLE: Final = "readable-file"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is wanted of each wheel. `retag_to` is where retagged ones are written, if at all."""

    context: Context = Context()  # noqa: RUF009 - frozen
    policy: Policy = NO_POLICY
    retag_to: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict on the file at `path`, and the name of the retagged wheel if one was written.

    `sha256` is None when the file could not be read.
    """

    path: Path
    sha256: Sha256 | None
    verdict: Verdict
    tags: tuple[str, ...] = ()
    findings: tuple[Finding, ...]
    retagged: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """One line of ``--json``."""
        return {
            "wheel": self.path.name,
            "sha256": self.sha256,
            "verdict": self.verdict,
            "tags": self.tags,
            "retagged": self.retagged,
            "findings": [finding.to_json() for finding in self.findings],
        }


def verify_all(paths: Sequence[Path], order: Order, processes: int) -> Iterator[Outcome]:
    """The outcome for each path, in their order. Raises UsageError; WorkerDiedError."""
    processes = min(processes, len(paths))
    if processes <= 1:
        yield from (verify_one(order, path) for path in paths)
        return
    # On Linux a fork has all of the checks imported at once; elsewhere a fork is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        try:
            yield from pool.map(partial(verify_one, order), paths)
        except BrokenProcessPool as error:
            raise WorkerDiedError(
                "a process that verified wheels was killed before it gave an answer",
                hint="often the kernel's answer to too little memory: try --jobs 1",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def verify_one(order: Order, path: Path) -> Outcome:
    """The outcome for the file at `path`. What cannot be read is rejected, with a finding.

    Raises UsageError when a retagged wheel cannot be written.
    """
    try:
        judgement = judge(path, order.context, policy=order.policy)
    except OSError as error:
        return _unreadable(path, error)
    if judgement.verdict != "retag" or order.retag_to is None:
        return _outcome(path, judgement)
    try:
        return _retagged(path, judgement, order, order.retag_to)
    except OSError as error:
        place = printable(str(error.filename or path))
        raise UsageError(f"cannot read or write {place}: {error.strerror}") from error


def _outcome(path: Path, judgement: Judgement, retagged: str | None = None) -> Outcome:
    return Outcome(
        path=path,
        sha256=judgement.sha256,
        verdict=judgement.verdict,
        tags=tuple(sorted(map(str, judgement.tags))),
        findings=judgement.findings,
        retagged=retagged,
    )


def _unreadable(path: Path, error: OSError) -> Outcome:
    finding = Finding(
        check=UNREADABLE,
        severity="error",
        message=f"the file cannot be read: {error.strerror}",
        hint="give a plain file that you may read",
    )
    return Outcome(path=path, sha256=None, verdict="reject", findings=(finding,))


def _retagged(path: Path, judgement: Judgement, order: Order, folder: Path) -> Outcome:
    """Write and judge the retagged wheel; what is refused on the second look is refused."""
    _refuse_overwriting(path, judgement, folder)
    again = retag_to(path, judgement, folder, order.context, order.policy)
    if again.verdict == "accept":
        return _outcome(path, judgement, again.filename)
    return Outcome(
        path=path,
        sha256=judgement.sha256,
        verdict="reject",
        findings=(*judgement.findings, *again.findings),
    )


def _refuse_overwriting(path: Path, judgement: Judgement, folder: Path) -> None:
    wheel = open_wheel(path)
    out = folder / filename_for(wheel, judgement.tags, build_of(wheel))
    if out.exists() and sha256_of_file(out) == judgement.sha256:
        raise UsageError(
            f"{printable(str(out))} would be overwritten by its own retagged form",
            hint="give --retag-to another folder",
        )
