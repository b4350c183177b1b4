"""`wheelfarm verify`: hold wheels' tags against their bytes. Needs no farm and no store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

import builder.checks
from builder.checks.catalogue import TITLES
from builder.checks.context import Context
from builder.judge import judge
from builder.retag import build_of, filename_for
from builder.verify import retag_to
from builder.wheel import open_wheel
from store.digest import JSON, sha256_of_file
from store.errors import DONE, REFUSED, UsageError
from store.fingerprint import parse_fingerprint
from store.tags import python_tag_of, supported_tags
from store.verdict import Finding, Judgement

_PAGES: Final = (
    Path(builder.checks.__path__[0]) / "pages",
    Path(builder.checks.__path__[0]).parents[1] / "docs" / "checks",
)
_MARKS: Final = {"accept": "ACCEPT", "retag": "RETAG ", "reject": "REJECT"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The verdict on one wheel, and the file name of the retagged one if it was written."""

    judgement: Judgement
    retagged: str | None

    def to_json(self) -> dict[str, JSON]:
        """One line of ``--json``."""
        return {
            "wheel": self.judgement.filename,
            "sha256": self.judgement.sha256,
            "verdict": self.judgement.verdict,
            "tags": sorted(map(str, self.judgement.tags)),
            "retagged": self.retagged,
            "findings": [finding.to_json() for finding in self.judgement.findings],
        }


@click.command()
@click.argument("wheels", nargs=-1, metavar="WHEEL...", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each wheel.")
@click.option("--target", metavar="FINGERPRINT", help="Refuse what this target cannot use.")
@click.option(
    "--retag-to",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write wheels whose tags say too much to DIR, under the tags that hold.",
)
@click.option("--list-checks", is_flag=True, help="List the checks and their codes.")
@click.option("--explain", metavar="CODE", help="Say what a check means and what to do.")
def command(
    wheels: tuple[Path, ...],
    *,
    as_json: bool,
    target: str | None,
    retag_to: Path | None,
    list_checks: bool,
    explain: str | None,
) -> int:
    """Read wheels (files, or folders of them) and say which of their tags are true.

    Exit status: 0 all are accepted as they are; 1 any is not; 2 wrong usage.
    """
    if list_checks:
        return _list_checks()
    if explain is not None:
        return _explain(explain)
    context = _context(target)
    paths = list(_wheels(wheels))
    folder = _output_folder(retag_to)
    status = DONE
    for path in paths:
        outcome = _verify(path, context, folder)
        click.echo(json.dumps(outcome.to_json()) if as_json else _block(outcome))
        status = max(status, DONE if outcome.judgement.verdict == "accept" else REFUSED)
    return status


def _list_checks() -> int:
    width = max(map(len, TITLES))
    for code, title in TITLES.items():
        click.echo(f"{code:<{width}}  {title}")
    return DONE


def _explain(code: str) -> int:
    if code not in TITLES:
        raise UsageError(
            f"there is no check called {printable(code)!r}", hint="--list-checks names them all"
        )
    page = next(folder / f"{code}.md" for folder in _PAGES if (folder / f"{code}.md").is_file())
    click.echo(page.read_text("utf-8").rstrip())
    return DONE


def _context(target: str | None) -> Context:
    if target is None:
        return Context()
    abi, platform, _ = parse_fingerprint(target).split("-")
    tags = frozenset(supported_tags(python_tag_of(abi), abi, platform))
    return Context(target=target, target_tags=tags)


def _wheels(paths: tuple[Path, ...]) -> Iterator[Path]:
    """The wheels that `paths` name, those of a folder in order. Raises UsageError."""
    if not paths:
        raise UsageError("no wheel is given", hint="wheelfarm verify WHEEL..., or a folder of them")
    for path in paths:
        if path.is_dir():
            found = sorted(path.glob("*.whl"))
            if not found:
                raise UsageError(f"the folder {printable(str(path))} holds no wheel")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise UsageError(f"there is no file {printable(str(path))}")


def _output_folder(folder: Path | None) -> Path | None:
    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return folder


def _verify(path: Path, context: Context, folder: Path | None) -> Outcome:
    try:
        judgement = judge(path, context)
        if judgement.verdict != "retag" or folder is None:
            return Outcome(judgement=judgement, retagged=None)
        return _retagged(path, judgement, context, folder)
    except OSError as error:
        place = printable(str(error.filename or path))
        raise UsageError(f"cannot read or write {place}: {error.strerror}") from error


def _retagged(path: Path, judgement: Judgement, context: Context, folder: Path) -> Outcome:
    """Write and judge the retagged wheel; what is refused on the second look is refused."""
    _refuse_overwriting(path, judgement, folder)
    again = retag_to(path, judgement, folder, context)
    if again.verdict == "accept":
        return Outcome(judgement=judgement, retagged=again.filename)
    refused = Judgement(
        filename=judgement.filename,
        sha256=judgement.sha256,
        verdict="reject",
        tags=frozenset(),
        findings=(*judgement.findings, *again.findings),
    )
    return Outcome(judgement=refused, retagged=None)


def _refuse_overwriting(path: Path, judgement: Judgement, folder: Path) -> None:
    wheel = open_wheel(path)
    out = folder / filename_for(wheel, judgement.tags, build_of(wheel))
    if out.exists() and sha256_of_file(out) == judgement.sha256:
        raise UsageError(
            f"{printable(str(out))} would be overwritten by its own retagged form",
            hint="give --retag-to another folder",
        )


def _block(outcome: Outcome) -> str:
    judgement = outcome.judgement
    lines = [f"{_MARKS[judgement.verdict]}  {printable(judgement.filename)}"]
    if judgement.verdict == "retag":
        lines += [f"  may be called  {tag}" for tag in sorted(map(str, judgement.tags))]
    if outcome.retagged:
        lines.append(f"  written as  {outcome.retagged}")
    shown = [finding for finding in judgement.findings if finding.severity != "note"]
    for finding in shown:
        lines += _finding_lines(finding)
    if notes := len(judgement.findings) - len(shown):
        lines.append(f"  {notes} note{'s' if notes > 1 else ''} (see --json)")
    return "\n".join(lines)


def _finding_lines(finding: Finding) -> Iterator[str]:
    place = " ".join(filter(None, [finding.member, f"[{finding.slice}]" if finding.slice else ""]))
    yield f"  {finding.severity}[{finding.check}]: {printable(finding.message)}"
    if place:
        yield f"    in {printable(place)}"
    if finding.hint:
        yield f"    hint: {printable(finding.hint)}"


def printable(text: str) -> str:
    """`text` with every control or invisible character escaped: names come from strangers."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
