"""``wheelfarm fingerprint``: measure an interpreter; compare two."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import BinaryIO, Final

import click

from builder.interpreter import find_interpreter, measure, measure_self
from store.environment import MAX_PROBE_JSON, Environment, parse_environment
from store.errors import DONE, REFUSED, MalformedError, UsageError
from store.fingerprint import fingerprint_of
from store.match import Difference, diff
from store.target import identity_of

_STDIN: Final = "-"
_JSON_OPTION: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(name="fingerprint", invoke_without_command=True)
@click.option(
    "--python",
    metavar="PATH",
    help="The interpreter: a path, or a name on PATH. The running one when left out.",
)
@_JSON_OPTION
@click.pass_context
def command(ctx: click.Context, python: str | None, as_json: bool) -> None:
    """Print the fingerprint of an interpreter's environment, and nothing else.

    With --json also the identity that it is the digest of, and the facts that were measured
    beside it. What the process and its own binary disagree about goes to standard error.
    """
    if ctx.invoked_subcommand is not None:
        _refuse_group_options(python, as_json)
        return
    environment = measure_self() if python is None else measure(find_interpreter(python))
    _warn(environment)
    click.echo(_as_json(environment) if as_json else fingerprint_of(environment.target()))


@command.command(name="diff")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@_JSON_OPTION
@click.pass_context
def diff_command(ctx: click.Context, a: str, b: str, as_json: bool) -> None:
    """Print the fields in which two environments differ, and why their fingerprints do.

    A and B are interpreters (a path, or a name on PATH), files that hold a probe's JSON, or `-`
    for JSON on standard input. Exit status 0 when the fingerprints are the same, 1 when not.
    """
    if a == b == _STDIN:
        raise UsageError("only one of the two can be standard input")
    one, other = _read(a), _read(b)
    differences = diff(one.target(), other.target())
    if as_json:
        click.echo(_diff_json(one, other, differences))
    else:
        _print_diff(one, other, differences)
    ctx.exit(REFUSED if differences else DONE)


def _refuse_group_options(python: str | None, as_json: bool) -> None:
    if python is not None or as_json:
        raise UsageError(
            "--python and --json before a sub-command have no effect",
            hint="write `wheelfarm fingerprint diff [--json] A B`",
        )


def _read(name: str) -> Environment:
    """The environment that an argument stands for: JSON, or an interpreter to measure."""
    if name == _STDIN:
        return _parse("standard input", sys.stdin.buffer)
    if _holds_json(Path(name)):
        with Path(name).open("rb") as file:
            return _parse(name, file)
    environment = measure(find_interpreter(name))
    _warn(environment)
    return environment


def _holds_json(path: Path) -> bool:
    """Whether it is a file of JSON rather than a program: none begins with such a byte.

    What cannot be read is left to be refused as an interpreter.
    """
    try:
        with path.open("rb") as file:
            return file.read(512).lstrip()[:1] in {b"{", b"["}
    except OSError:
        return False


def _parse(name: str, file: BinaryIO) -> Environment:
    try:
        return parse_environment(file.read(MAX_PROBE_JSON + 1))
    except MalformedError as error:
        raise error.under(name) from error


def _warn(environment: Environment) -> None:
    for warning in environment.facts.warnings:
        click.echo(f"warning: {warning}", err=True)


def _as_json(environment: Environment) -> str:
    target = environment.target()
    return json.dumps(
        {
            "fingerprint": fingerprint_of(target),
            "identity": identity_of(target),
            "environment": environment.to_json(),
        }
    )


def _diff_json(one: Environment, other: Environment, differences: tuple[Difference, ...]) -> str:
    return json.dumps(
        {
            "same": not differences,
            "a": fingerprint_of(one.target()),
            "b": fingerprint_of(other.target()),
            "differences": [
                {"field": found.field, "a": found.wanted, "b": found.found} for found in differences
            ],
        }
    )


def _print_diff(one: Environment, other: Environment, differences: tuple[Difference, ...]) -> None:
    if not differences:
        click.echo(f"same: {fingerprint_of(one.target())}")
        return
    click.echo(f"A: {fingerprint_of(one.target())}\nB: {fingerprint_of(other.target())}")
    for found in differences:
        click.echo(f"  {found.field}\n    A: {_shown(found.wanted)}\n    B: {_shown(found.found)}")


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
