"""``wheelfarm index-url``: the index that is right for an interpreter of this machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from builder.interpreter import find_interpreter, measure, measure_self
from store import probe
from store.channel import RELEASE, Channel, parse_channel
from store.digest import JSON
from store.environment import Environment
from store.errors import DONE, REFUSED, MalformedError
from store.fields import read_object
from store.resolve import DEFAULT_PORT, resolve
from workers.cli.options import open_store
from workers.errors import ServerError

_LOCAL_SERVER: Final = f"http://127.0.0.1:{DEFAULT_PORT}"
_SECONDS: Final = 30
_LONGEST_ANSWER: Final = 1 << 20
_JSON_STATUSES: Final = (200, 404)


@click.command(name="index-url")
@click.option(
    "--python",
    metavar="PATH",
    help="The interpreter: a path, or a name on PATH. The running one when left out.",
)
@click.option("--server", metavar="URL", help="Ask this server; else the local store is read.")
@click.option("--channel", default=RELEASE, show_default=True, help="Of which channel.")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(  # noqa: PLR0917  # click hands every option over by name
    ctx: click.Context,
    python: str | None,
    server: str | None,
    channel: str,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Print the index URL for the environment of an interpreter.

    Where no index is right it prints the nearest ones and the fields that differ, and the exit
    status is 1. Without --server the URL is that of `wheelfarm serve` on this machine.
    """
    name = parse_channel(channel)
    environment = measure_self() if python is None else measure(find_interpreter(python))
    if server is None:
        answer: Mapping[str, Any] = _ask_store(folder, name, environment)
    else:
        answer = _ask_server(server, name, environment)
    found = "index_url" in answer
    click.echo(json.dumps(answer) if as_json else _text(answer), err=not (found or as_json))
    ctx.exit(DONE if found else REFUSED)


def _ask_store(folder: Path | None, channel: Channel, environment: Environment) -> dict[str, JSON]:
    with closing(open_store(folder)) as store:
        return resolve(store.catalogue, channel, environment).to_json(_LOCAL_SERVER)


def _ask_server(server: str, channel: Channel, environment: Environment) -> Mapping[str, object]:
    """The server's own answer to the measurement. Raises ServerError when it gives none."""
    import requests  # noqa: PLC0415  # a tenth of a second that only this way needs

    url = f"{server.rstrip('/')}/{channel}/resolve"
    try:
        with requests.post(
            url, json=probe_json(environment), timeout=_SECONDS, stream=True
        ) as response:
            status = response.status_code
            body = response.raw.read(_LONGEST_ANSWER, decode_content=True)
    except (requests.RequestException, OSError) as error:
        raise ServerError(
            f"{url} does not answer: {error}"[:300], hint="is `wheelfarm serve` running there?"
        ) from error
    return _read_answer(url, status, body)


def _read_answer(url: str, status: int, body: bytes) -> Mapping[str, object]:
    try:
        answer = read_object(body, limit=_LONGEST_ANSWER)
    except MalformedError as error:
        raise _no_wheelfarm(url, status) from error
    if status not in _JSON_STATUSES or not ({"index_url", "nearest"} & answer.keys()):
        raise _no_wheelfarm(url, status)
    return answer


def _no_wheelfarm(url: str, status: int) -> ServerError:
    return ServerError(
        f"{url} answers with status {status} and not as wheelfarm does",
        hint="give the URL that `wheelfarm serve` prints",
    )


def probe_json(environment: Environment) -> dict[str, JSON]:
    """`environment` in the form that the probe prints, which the server reads."""
    interpreter, build = environment.interpreter, environment.build
    return {
        "schema": probe.SCHEMA,
        "arch": environment.arch,
        "isa": environment.isa,
        "interpreter": {name: getattr(interpreter, name) for name in interpreter.__slots__},
        "build": {
            "libpython": build.libpython,
            "libpython_name": build.libpython_name,
            "libpython_resolves": build.libpython_resolves,
            "config_sha256": build.config_sha256,
            "details_sha256": build.build_details_sha256,
        },
        **environment.to_json(),
    }


def _text(answer: Mapping[str, Any]) -> str:
    """The URL; or what is nearest, one line for each field that differs."""
    if "index_url" in answer:
        return str(answer["index_url"])
    lines = [f"{answer.get('message')}"]
    for near in _rows(answer.get("nearest")):
        lines.append(f"  {near.get('fingerprint')}")
        lines += [f"    {each.get('message')}" for each in _rows(near.get("differences"))]
    return "\n".join(map(_printable, [*lines, f"  hint: {answer.get('hint')}"]))


def _rows(value: object) -> Sequence[Mapping[str, object]]:
    rows = value if isinstance(value, list) else []
    return [row for row in rows if isinstance(row, dict)]


def _printable(line: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in line[:500])
