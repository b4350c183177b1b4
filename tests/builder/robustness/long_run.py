"""The long run: many damaged files of each format, and a table of what became of them.

    python -m tests.builder.robustness.long_run --count 100000 [--start N] [FORMAT...]

Every fifth file is a sound one cut off at a boundary, the others are damaged by their number alone.
What breaks a rule is kept in --keep, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from tests.builder.robustness.attempt import Attempt, HangError, attempt
from tests.builder.robustness.damage import boundaries, damaged
from tests.builder.robustness.seeds import FORMATS, seeds_of

_HEAD = """\
| format | tried | of them cut off | reject | retag | accept | slowest, s per MiB | broken |
|---|---|---|---|---|---|---|---|"""
_CUT_EVERY = 5
_SHOW_EVERY = 10_000


@dataclass(slots=True, kw_only=True)
class Tally:
    """What became of the files of one format; `slowest` in seconds of processor time per MiB."""

    verdicts: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    slowest: float = 0.0
    broken: list[str] = field(default_factory=list)


def main() -> int:
    """Damage, judge, count, and print a row for each format."""
    options = _options()
    options.keep.mkdir(parents=True, exist_ok=True)
    click.echo(_HEAD)
    tallies = {kind: _run(kind, options) for kind in options.formats}
    return 1 if any(tally.broken for tally in tallies.values()) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir(), "wheelfarm-fuzz"))
    return parser.parse_args()


def _run(kind: str, options: argparse.Namespace) -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(options.start, options.start + options.count):
            _one(kind, number, Path(scratch), tally, options.keep)
            if number and number % _SHOW_EVERY == 0:
                click.echo(f"{kind} {number}", err=True)
    _print_row(kind, options.count, tally)
    return tally


def _one(kind: str, number: int, scratch: Path, tally: Tally, keep: Path) -> None:
    seeds = seeds_of(kind)
    is_cut = number % _CUT_EVERY == 0
    data = _cut(seeds, number) if is_cut else damaged(seeds[number % len(seeds)], number)
    try:
        tried = attempt(kind, data, scratch)
    except (Exception, HangError):  # noqa: BLE001 - that nothing escapes is what is tried
        _keep(tally, keep, f"{kind}-{number}", data, traceback.format_exc())
        return
    _count(tried, len(data), tally, is_cut=is_cut)
    if tried.crashed or (is_cut and tried.judgement.verdict != "reject"):
        why = tried.crashed or "a truncation was accepted"
        _keep(tally, keep, f"{kind}-{number}", data, why)


def _cut(seeds: Sequence[bytes], number: int) -> bytes:
    """Boundaries first; when all were tried, lengths spread over the whole file."""
    turn, which = divmod(number // _CUT_EVERY, len(seeds))
    seed = seeds[which]
    places = boundaries(seed)
    return seed[: places[turn] if turn < len(places) else turn * 7919 % len(seed)]


def _count(tried: Attempt, size: int, tally: Tally, *, is_cut: bool) -> None:
    tally.verdicts[tried.judgement.verdict] += 1
    tally.cut += is_cut
    tally.slowest = max(tally.slowest, tried.seconds / max(1.0, size / (1 << 20)))


def _keep(tally: Tally, keep: Path, name: str, data: bytes, why: str) -> None:
    tally.broken.append(name)
    (keep / f"{name}.bin").write_bytes(data)
    (keep / f"{name}.txt").write_text(why, "utf-8")


def _print_row(kind: str, count: int, tally: Tally) -> None:
    verdicts = " | ".join(f"{tally.verdicts[name]:,}" for name in ("reject", "retag", "accept"))
    broken = ", ".join(tally.broken[:5]) or "0"
    click.echo(
        f"| {kind} | {count:,} | {tally.cut:,} | {verdicts} | {tally.slowest:.3f} | {broken} |"
    )


if __name__ == "__main__":
    sys.exit(main())
