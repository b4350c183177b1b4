"""``wheelfarm explain``: where a wheel comes from, what was found in it, and whom it serves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from store.digest import sha256_of_file
from store.errors import NameTakenError, NotFoundError, StoreError
from store.explain import Explanation, Publication, explain
from store.publish import Store
from workers.cli.options import open_store


@click.command(name="explain")
@click.argument("wheel", metavar="FILE|DIGEST")
@click.option("--store", "folder", type=click.Path(path_type=Path), help="The store's folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(wheel: str, folder: Path | None, as_json: bool) -> None:
    """Say where a wheel comes from, every input and finding, and whom it serves and why.

    FILE is a wheel on disk or the name of one in the store; DIGEST is a wheel's sha256 or a
    BuildKey, as a release, a page or a log shows it.
    """
    with closing(open_store(folder)) as store:
        found = _explain_file(store, Path(wheel)) if _is_file(wheel) else explain(store, wheel)
    if as_json:
        click.echo("\n".join(json.dumps(each.to_json()) for each in found))
    else:
        click.echo("\n\n".join("\n".join(map(_printable, _lines(each))) for each in found))


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):
        return False


def _explain_file(store: Store, path: Path) -> tuple[Explanation, ...]:
    """The wheel on disk by its bytes: its name alone proves nothing."""
    try:
        digest = sha256_of_file(path)
    except OSError as error:
        raise StoreError(f"cannot read {path}: {error.strerror}") from error
    if store.catalogue.releases_of(digest):
        return explain(store, digest)
    if named := store.catalogue.releases_of(path.name):
        raise NameTakenError(
            f"{path} is not the wheel that the store has under its name: its sha256 is "
            f"{digest[:12]}…, not {named[0].sha256[:12]}…",
            hint=f"`wheelfarm explain {named[0].sha256}` explains the store's",
        )
    raise NotFoundError(
        f"the store has no wheel with the bytes of {path}", hint="it was not published here"
    )


def _lines(explanation: Explanation) -> Iterator[str]:
    first = explanation.publications[0].release
    yield explanation.filename
    yield f"  sha256      {first.sha256} ({first.size} bytes)"
    yield f"  tags        {', '.join(sorted(map(str, first.tags)))}"
    yield f"  python      {first.requires_python or 'any'}"
    yield f"  binaries    {', '.join(sorted(first.extension_modules)) or 'none'}"
    for publication in explanation.publications:
        yield from _publication_lines(publication)
    yield "serves"
    for serving in explanation.serves:
        yield f"  {serving.fingerprint} in {serving.channel}: {serving.reason}"
        if serving.reason != "built-for":
            yield f"    evidence  {json.dumps(serving.evidence, sort_keys=True)}"


def _publication_lines(publication: Publication) -> Iterator[str]:
    release, record = publication.release, publication.provenance
    yield f"built for {release.fingerprint}, channel {release.channel}"
    yield f"  published   {release.published_at:%Y-%m-%d %H:%M:%S} UTC"
    yield f"  build key   {release.build_key}"
    yield f"  proof       {release.proof}"
    if told := release.promotion:
        yield f"  promoted    from {told['from']} by {told['by']}, {told['at']}: {told['reason']}"
    if release.yanked is not None:
        yield f"  yanked      {release.yanked or 'no reason given'}"
    if publication.disowned is not None:
        order = publication.disowned
        yield f"  disowned    {order.at:%Y-%m-%d %H:%M:%S} UTC by {order.by}: {order.reason}"
    yield from _origin_lines(record)
    yield from _input_lines(_table(record, "inputs"))
    yield f"  log         {_table(record, 'log').get('sha256')}"
    yield from _finding_lines(record)


def _origin_lines(record: Mapping[str, Any]) -> Iterator[str]:
    source, built = _table(record, "source"), _table(record, "built")
    origin = _table(source, "origin")
    pinned = "pinned by hash" if origin.get("pinned") else "not pinned"
    yield f"  sdist       {source.get('filename')}, sha256 {source.get('sha256')}"
    yield f"  origin      {origin.get('kind')} {origin.get('location')} ({pinned})"
    yield f"  as built    {built.get('filename')}, sha256 {built.get('sha256')}"


def _input_lines(inputs: Mapping[str, Any]) -> Iterator[str]:
    """Every input of the BuildKey, one a line, nested ones by dotted name."""
    yield "  inputs"
    for pin in inputs.get("build_requirements", ()):
        yield f"    requires  {pin['name']}=={pin['version']} sha256 {pin['sha256']}"
    for name in ("target", "recipe", "toolchain", "tools"):
        for key, value in sorted(_table(inputs, name).items()):
            yield f"    {name}.{key} = {json.dumps(value, sort_keys=True)}"
    yield f"    epoch = {inputs.get('epoch')}"


def _finding_lines(record: Mapping[str, Any]) -> Iterator[str]:
    findings = record.get("findings") or ()
    yield f"  findings    {len(findings) or 'none'}"
    for finding in findings:
        places = (finding.get("member"), finding.get("slice"))
        place = " ".join(f"[{each}]" for each in places if each)
        yield f"    {finding['severity']} {finding['check']}: {finding['message']} {place}".rstrip()


def _table(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = record.get(name)
    return table if isinstance(table, Mapping) else {}


def _printable(line: str) -> str:
    """A line that cannot move a terminal's cursor: wheels choose their own words."""
    return "".join(c if c.isprintable() else "?" for c in line)
