"""`wheelfarm verify`: hold wheels' tags against their bytes. Needs no farm and no store."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Literal

import click

from builder.checks.catalogue import NEVER_WAIVED, TITLES
from builder.checks.context import Context
from builder.errors import VerifyPolicyError
from builder.policy import NO_POLICY, Policy, parse_policy, unused_waivers
from store.errors import DONE, REFUSED, UsageError
from store.fingerprint import parse_fingerprint
from store.tags import python_tag_of, supported_tags
from store.verdict import Verdict
from workers.check_pages import page_of
from workers.cli.options import jobs_option
from workers.progress import counted
from workers.report import block, summary
from workers.sarif import sarif_log, unused_text
from workers.text import printable
from workers.verification import Order, Outcome, verify_all
from workers.wheel_files import wheels_among

_MOST_POLICY: Final = 1 << 20
_FILE: Final = click.Path(dir_okay=False, path_type=Path)

_PROVENANCE: Final = "Hold the one WHEEL against this signed statement instead, offline."
_KEY: Final = "With --provenance: whom to trust; by default the keys of the store that is set."

Form = Literal["text", "json", "sarif"]


@click.command()
@click.argument("wheels", nargs=-1, metavar="WHEEL...")
@click.option("-r", "--recursive", is_flag=True, help="Look into folders below a folder too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each wheel.")
@click.option("--sarif", "as_sarif", is_flag=True, help="One SARIF 2.1.0 log of all findings.")
@click.option("--sarif-to", metavar="FILE", type=_FILE, help="Write the SARIF log to FILE too.")
@click.option("--policy", metavar="FILE", type=_FILE, help="Severities and waivers (TOML).")
@click.option("--target", metavar="FINGERPRINT", help="Refuse what this target cannot use.")
@click.option(
    "--retag-to",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write wheels whose tags say too much to DIR, under the tags that hold.",
)
@jobs_option("wheels are read")
@click.option("--provenance", metavar="ENVELOPE", type=_FILE, help=_PROVENANCE)
@click.option("--key", "keys", multiple=True, metavar="FILE|KEYID", help=_KEY)
@click.option("--list-checks", is_flag=True, help="List the checks and their codes.")
@click.option("--explain", metavar="CODE", help="Say what a check means and what to do.")
def command(
    wheels: tuple[str, ...],
    *,
    recursive: bool,
    as_json: bool,
    as_sarif: bool,
    sarif_to: Path | None,
    policy: Path | None,
    target: str | None,
    retag_to: Path | None,
    jobs: int,
    provenance: Path | None,
    keys: tuple[str, ...],
    list_checks: bool,
    explain: str | None,
) -> int:
    """Read wheels and say which of their tags are true.

    WHEEL is a file, a folder (every .whl in it), or - for a list of paths on standard input, one a
    line or parted by NUL.

    With --provenance it is the wheel's signed statement that is checked, not its tags.

    Exit status: 0 all are accepted as they are; 1 any is not; 2 wrong usage.
    """
    if list_checks:
        return _list_checks()
    if explain is not None:
        return _explain(explain)
    if provenance is not None or keys:
        return _hold_against(provenance, keys, wheels, as_json=as_json)
    form = _form(as_json=as_json, as_sarif=as_sarif)
    order = Order(context=_context(target), policy=_policy(policy), retag_to=retag_to)
    stdin = sys.stdin.buffer if sys.stdin else None
    paths = wheels_among(wheels, recursive=recursive, stdin=stdin)
    _make_folders(order.retag_to, sarif_to)
    outcomes = [*_shown(form, counted(verify_all(paths, order, jobs), len(paths)))]
    _conclude(form, outcomes, order.policy, sarif_to)
    return DONE if all(outcome.verdict == "accept" for outcome in outcomes) else REFUSED


def _list_checks() -> int:
    width = max(map(len, TITLES))
    for code, title in TITLES.items():
        click.echo(f"{code:<{width}}  {title}")
    return DONE


def _explain(code: str) -> int:
    click.echo(page_of(code))
    return DONE


def _hold_against(
    envelope: Path | None, keys: tuple[str, ...], wheels: tuple[str, ...], *, as_json: bool
) -> int:
    # Imported here: without a statement there is nothing to do for its cryptography.
    from workers.cli.attested import hold_against  # noqa: PLC0415

    if envelope is None:
        raise UsageError(
            "--key is for --provenance", hint="--provenance ENVELOPE names a statement"
        )
    return hold_against(envelope, keys, wheels, as_json=as_json)


def _form(*, as_json: bool, as_sarif: bool) -> Form:
    if as_json and as_sarif:
        raise UsageError("--json and --sarif both want standard output", hint="use --sarif-to FILE")
    return "json" if as_json else "sarif" if as_sarif else "text"


def _context(target: str | None) -> Context:
    if target is None:
        return Context()
    abi, platform, _ = parse_fingerprint(target).split("-")
    tags = frozenset(supported_tags(python_tag_of(abi), abi, platform))
    return Context(target=target, target_tags=tags)


def _policy(path: Path | None) -> Policy:
    if path is None:
        return NO_POLICY
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_POLICY + 1)
        if len(data) > _MOST_POLICY:
            raise VerifyPolicyError("a policy is at most 1 MiB long", path=path.name)
        return parse_policy(data.decode("utf-8"), TITLES, NEVER_WAIVED)
    except OSError as error:
        raise UsageError(f"cannot read {printable(str(path))}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VerifyPolicyError("it is not UTF-8", path=path.name) from error


def _make_folders(*places: Path | None) -> None:
    retag_to, sarif_to = places
    for folder in filter(None, (retag_to, sarif_to and sarif_to.parent)):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            place = printable(str(folder))
            raise UsageError(f"cannot write to {place}: {error.strerror}") from error


def _shown(form: Form, outcomes: Iterable[Outcome]) -> Iterator[Outcome]:
    """Each outcome, after it was printed, if the form says it one by one."""
    for outcome in outcomes:
        if form != "sarif":
            click.echo(json.dumps(outcome.to_json()) if form == "json" else block(outcome))
        yield outcome


def _conclude(form: Form, outcomes: list[Outcome], policy: Policy, sarif_to: Path | None) -> None:
    """What can be said only when all is known: the sum, the log, waivers that nothing needed."""
    findings = (finding for outcome in outcomes for finding in outcome.findings)
    unused = tuple(unused_waivers(policy, findings))
    for waiver in unused:
        click.echo(f"warning[unused-waiver]: {printable(unused_text(waiver))}", err=True)
    if form == "text" and len(outcomes) > 1:
        verdicts: Counter[Verdict] = Counter(outcome.verdict for outcome in outcomes)
        click.echo(summary(verdicts))
    if form == "sarif" or sarif_to:
        log = json.dumps(sarif_log(outcomes, unused), indent=2)
        _write_log(log, sarif_to, to_stdout=form == "sarif")


def _write_log(log: str, sarif_to: Path | None, *, to_stdout: bool) -> None:
    if to_stdout:
        click.echo(log)
    if sarif_to is None:
        return
    part = sarif_to.with_name(f".{sarif_to.name}.part")
    try:
        part.write_text(log + "\n", "utf-8")
        part.replace(sarif_to)
    except OSError as error:
        part.unlink(missing_ok=True)
        place = printable(str(sarif_to))
        raise UsageError(f"cannot write {place}: {error.strerror}") from error
