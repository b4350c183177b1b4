"""What a person sees while a run goes on: packages against targets, then what went wrong.

On a terminal it is a live table; elsewhere one plain line for each end, fit for a CI log.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from store.channel import RELEASE
from workers.outcome import Outcome, Status

_STYLE: Final[dict[Status, str]] = {
    "hit": "cyan",
    "built": "green",
    "skipped": "dim",
    "refused": "yellow",
    "failed": "red",
    "trouble": "bold red",
    "cancelled": "dim",
}
_MOST_FINDINGS: Final = 5


class Watcher(Protocol):
    """Hears of every start and every end of a run."""

    def planned(self, packages: Sequence[str]) -> None:
        """These are the packages of the run, in order."""

    def started(self, package: str, target: str) -> None:
        """A build of `package` for `target` has started."""

    def ended(self, outcome: Outcome) -> None:
        """It has ended, or was in the store."""


class Silent:
    """A watcher that shows nothing, for ``--json``."""

    def planned(self, packages: Sequence[str]) -> None:
        """Nothing."""

    def started(self, package: str, target: str) -> None:
        """Nothing."""

    def ended(self, outcome: Outcome) -> None:
        """Nothing."""


class Lines:
    """A watcher that prints one plain line for each end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def planned(self, packages: Sequence[str]) -> None:
        """Nothing: each line names its package."""

    def started(self, package: str, target: str) -> None:
        """Nothing: an end is news, a start is not."""

    def ended(self, outcome: Outcome) -> None:
        """One line: status, package, target, what came of it."""
        what = outcome.filename or outcome.message or ""
        seconds = f" ({outcome.seconds} s)" if outcome.seconds else ""
        line = f"{outcome.status:<8} {outcome.label:<28} {outcome.target:<24} {what}{seconds}"
        self._console.print(Text(line), soft_wrap=True)


class Matrix:
    """A watcher that keeps a live table of packages against targets."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._packages: Sequence[str] = ()
        self._targets = targets
        self._cells: dict[tuple[str, str], str] = {}

    def planned(self, packages: Sequence[str]) -> None:
        """One row for each."""
        self._packages = packages

    def started(self, package: str, target: str) -> None:
        """The cell says so."""
        self._cells[package, target] = "[blue]building…[/]"

    def ended(self, outcome: Outcome) -> None:
        """The cell shows the status, and the seconds of a build."""
        seconds = f" {outcome.seconds} s" if outcome.seconds else ""
        style = _STYLE[outcome.status]
        self._cells[outcome.label, outcome.target] = f"[{style}]{outcome.status}[/]{seconds}"

    def __rich__(self) -> Table:
        table = Table("package", *(escape(target) for target in self._targets))
        for package in self._packages:
            cells = [self._cells.get((package, target), "·") for target in self._targets]
            table.add_row(escape(package), *cells)
        return table


@contextmanager
def watch(console: Console, targets: Sequence[str]) -> Iterator[Watcher]:
    """The watcher that suits where the output goes, for as long as the run lasts."""
    if not console.is_terminal:
        yield Lines(console)
        return
    matrix = Matrix(targets)
    with Live(get_renderable=matrix.__rich__, console=console, refresh_per_second=4):
        yield matrix


def show_end(console: Console, outcomes: Sequence[Outcome]) -> None:
    """The final table of counts by target, and every refusal and failure with its reason."""
    console.print(_counts(outcomes))
    for outcome in outcomes:
        if outcome.status in {"refused", "failed", "trouble"}:
            for line in _reason(outcome):
                console.print(line, soft_wrap=True)


def show_how_to_install(
    console: Console, outcomes: Sequence[Outcome], server: str | None = None
) -> None:
    """What to type next, for each channel that got something: from `server`, or from one's own."""
    start, where = ("", f" --server {server}") if server else ("wheelfarm serve & ", "")
    for channel in sorted({each.channel for each in outcomes if each.filename}):
        option = where if channel == RELEASE else f"{where} --channel {channel}"
        line = f'{start}pip install --index-url "$(wheelfarm index-url{option})" NAME'
        console.print(Text(f"to install from {channel}: {line}"), soft_wrap=True)


def _counts(outcomes: Sequence[Outcome]) -> Table:
    shown = [status for status in _STYLE if any(each.status == status for each in outcomes)]
    # What a person copies is folded, never cut short.
    names = [Column(name, overflow="fold") for name in ("target", "fingerprint", "channel")]
    table = Table(*names, *shown)
    for target in dict.fromkeys(each.target for each in outcomes):
        ends = [each for each in outcomes if each.target == target]
        channels = ", ".join(sorted({each.channel for each in ends if each.channel}))
        counts = [sum(each.status == status for each in ends) for status in shown]
        cells = (escape(target), ends[0].fingerprint, channels)
        table.add_row(*cells, *(str(count or "·") for count in counts))
    return table


def _reason(outcome: Outcome) -> Iterable[Text]:
    style = _STYLE[outcome.status]
    title = f"{outcome.status}[{outcome.code}]: {outcome.label}"
    yield Text(f"{title} for {outcome.target}", style=style)
    yield Text(f"  {outcome.message}")
    if outcome.first_error:
        yield Text(f"  first error: {outcome.first_error}")
    errors = [finding for finding in outcome.findings if finding.severity == "error"]
    for finding in errors[:_MOST_FINDINGS]:
        where = f" [{finding.member}]" if finding.member else ""
        yield Text(f"  {finding.check}{where}: {finding.message}")
    if outcome.hint:
        yield Text(f"  hint: {outcome.hint}")
    if outcome.log:
        yield Text(f"  log: {outcome.log}")
