"""The page of all real wheels, docs/corpus.md: ``python -m tests.corpus.document`` writes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from store.tags import tag_set_text
from tests.corpus.listed import Listed, read_list

PAGE = Path(__file__).parents[2] / "docs" / "corpus.md"
PREFACE = Path(__file__).with_name("preface.md")
_HEADS = {"honest": "Honest wheels, accepted as they are", "liar": "Liars, retagged or rejected"}


def page(wheels: tuple[Listed, ...]) -> str:
    """The whole page, in Markdown."""
    lines = [PREFACE.read_text("utf-8").rstrip(), "", *_totals(wheels)]
    for kind, head in _HEADS.items():
        lines += ["", f"## {head}", "", *_table([w for w in wheels if w.kind == kind])]
    return "\n".join(lines) + "\n"


def _totals(wheels: tuple[Listed, ...]) -> Iterator[str]:
    honest = sum(wheel.kind == "honest" for wheel in wheels)
    megabytes = sum(wheel.size for wheel in wheels) / 1e6
    lying = len(wheels) - honest
    yield f"{len(wheels)} wheels, {honest} honest and {lying} lying; {megabytes:.0f} MB."


def _table(wheels: Iterable[Listed]) -> Iterator[str]:
    yield "| wheel | family | verdict | errors | why |"
    yield "| --- | --- | --- | --- | --- |"
    for wheel in sorted(wheels, key=lambda wheel: (wheel.family, wheel.file)):
        errors = ", ".join(f"[{code}](checks/{code}.md)" for code in sorted(wheel.errors))
        yield f"| `{wheel.file}` | {wheel.family} | {_verdict(wheel)} | {errors} | {wheel.why} |"


def _verdict(wheel: Listed) -> str:
    if wheel.verdict == "retag":
        return f"retag to `{tag_set_text(wheel.tags)}`"
    declared = ", with declared libraries" if wheel.external else ""
    return wheel.verdict + declared


if __name__ == "__main__":
    PAGE.write_text(page(read_list()), "utf-8")
