"""One damaged file, judged: it must end in a verdict, soon, and by no error but ours."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from builder.judge import judge
from store.verdict import Judgement
from tests.builder.forge import wheel
from tests.builder.robustness.seeds import CLAIMS

SECONDS = 1.0
"""What judging may take, and as much again for each MiB of the file."""


class HangError(BaseException):
    """Judging took too long. It is no Exception: a judge that catches those must not hide it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What became of one damaged file; `seconds` of processor time."""

    judgement: Judgement
    seconds: float

    @property
    def crashed(self) -> str | None:
        """What a check died of, if one did."""
        for finding in self.judgement.findings:
            if finding.check == "check-crashed":
                return f"{finding.message}: {finding.evidence}"
        return None


def attempt(kind: str, data: bytes, folder: Path) -> Attempt:
    """Judge `data`: a whole wheel, or a binary that is the one member of an otherwise true wheel.

    Raises HangError; and whatever the judge lets escape, which is a bug.
    """
    path = _as_wheel(kind, data, folder)
    start = time.process_time()
    with _bounded(SECONDS * (1 + len(data) / (1 << 20))):
        judgement = judge(path)
    return Attempt(judgement=judgement, seconds=time.process_time() - start)


def _as_wheel(kind: str, data: bytes, folder: Path) -> Path:
    if kind == "zip":
        path = folder / "p-1.0-py3-none-any.whl"
        path.write_bytes(data)
        return path
    filename, member = CLAIMS[kind]
    return wheel(folder, filename, {member: data})


@contextmanager
def _bounded(seconds: float) -> Iterator[None]:
    """Raise HangError in what runs inside once it has used `seconds` of processor time."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise HangError(f"still not done after {seconds:.1f} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
