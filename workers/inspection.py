"""A look at a file that nobody vouches for: in a process of its own, bounded in time and memory."""

from __future__ import annotations

import logging
import resource
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from builder.checks.context import Context
from builder.errors import ArchiveError
from store.errors import NotProvenError, WheelfarmError
from store.verdict import Finding, Judgement, VerifiedWheel
from workers.errors import WheelRefusedError, WorkerDiedError
from workers.pool import JobProcess

_LOG: Final = logging.getLogger("wheelfarm.serve")
_SECONDS: Final = 600.0
"""How long one look at a file may take."""
_MEMORY: Final = 4 << 30
_SHOWN: Final = 5

J = TypeVar("J")
R = TypeVar("R")

Verify = Callable[[Path, Context, Path], VerifiedWheel | Judgement]
Reverify = Callable[[Path], VerifiedWheel | Judgement]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Looks at files; what is wrong with one is told as a `refusal`. The functions that look are
    those of a module, since they go to another process."""

    refusal: type[WheelRefusedError]

    def wheel(self, verify: Verify, path: Path, out: Path) -> VerifiedWheel:
        """What `verify` makes of a wheel; what it writes goes to `out`. Raises the refusal."""
        seen = self.run(_judge, (verify, path, out))
        if isinstance(seen, Judgement):
            raise self.refusal(
                f"{path.name} is refused: {_told(seen.findings)}",
                hint=next((each.hint for each in _errors(seen.findings) if each.hint), None),
                findings=seen.findings,
            )
        return seen

    def again(self, reverify: Reverify, path: Path) -> VerifiedWheel:
        """What `reverify` sees in a wheel that was accepted. Raises NotProvenError."""
        seen = self.run(_judge_again, (reverify, path))
        if isinstance(seen, Judgement):
            told = _told(seen.findings)
            raise NotProvenError(f"{path.name} was refused at the store's door: {told}")
        return seen

    def run(self, work: Callable[[J], R], job: J) -> R:
        """What `work` gives, in a process that hostile bytes may end without harm to this one."""
        process: JobProcess[J, R] = JobProcess(work, job)
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.stop()

        timer = threading.Timer(_SECONDS, stop)
        timer.start()
        try:
            answer = process.result()
        finally:
            timer.cancel()
        if late.is_set():
            raise self.refusal(f"to look at it takes longer than {_SECONDS:.0f} s")
        if isinstance(answer, WheelfarmError):
            raise self._as_refusal(answer) from answer
        return answer

    def _as_refusal(self, error: WheelfarmError) -> WheelfarmError:
        """What is wrong with the file is said to who brought it; trouble of ours stays trouble."""
        if isinstance(error, ArchiveError):
            return self.refusal(error.message, hint=error.hint)
        if isinstance(error, WorkerDiedError):
            _LOG.error("a file ended the process that looked at it: %s", error.message)
            return self.refusal("the process that looked at it died over it")
        return error


def _judge(job: tuple[Verify, Path, Path]) -> VerifiedWheel | Judgement:
    verify, path, out = job
    _bound_memory()
    try:
        return verify(path, Context(), out)
    except MemoryError as error:
        raise _too_much(path) from error


def _judge_again(job: tuple[Reverify, Path]) -> VerifiedWheel | Judgement:
    reverify, path = job
    _bound_memory()
    try:
        return reverify(path)
    except MemoryError as error:
        raise _too_much(path) from error


def _bound_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = _MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _too_much(path: Path) -> ArchiveError:
    return ArchiveError(f"to look at {path.name} takes more than {_MEMORY >> 30} GiB")


def _errors(findings: Sequence[Finding]) -> list[Finding]:
    return [each for each in findings if each.severity == "error"]


def _told(findings: Sequence[Finding]) -> str:
    shown = [f"{each.message} ({each.check})" for each in _errors(findings)[:_SHOWN]]
    return "; ".join(shown)[:1_000] or "no claim of it holds"
