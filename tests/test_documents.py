"""What the documents say is there, is there; what is there, the documents say."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

import builder
import builder.errors
import store
import workers
import workers.errors
from builder.stages import FailureKind
from store.errors import WheelfarmError
from workers.cli import COMMANDS
from workers.outcome import STATUS_MEANING

ROOT = Path(__file__).parent.parent
ERRORS = (ROOT / "docs" / "errors.md").read_text()


def kinds(root: type[WheelfarmError] = WheelfarmError) -> Iterator[type[WheelfarmError]]:
    """Every kind of error of ours, from every module."""
    for package in (builder, store, workers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if module.name.endswith("errors"):
                importlib.import_module(module.name)
    yield root
    for kind in root.__subclasses__():
        yield from kinds(kind)


def test_every_error_has_a_code_of_its_own_and_a_row_that_is_true() -> None:
    found = {
        kind for kind in kinds() if kind.__module__.split(".")[0] in {"builder", "store", "workers"}
    }
    codes = {kind.code: kind for kind in found}
    assert len(codes) == len(found), "two kinds of error share a code"
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| (\d \| \d{3}) \|", ERRORS, re.MULTILINE))
    assert rows == {code: f"{k.exit_status} | {k.http_status}" for code, k in codes.items()}


def test_every_status_and_failure_kind_is_documented() -> None:
    for status, meaning in STATUS_MEANING.items():
        assert f"| `{status}` | {meaning} |" in ERRORS
    assert [kind for kind in get_args(FailureKind) if f"| `{kind}` |" not in ERRORS] == []


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself_and_is_in_the_readme(name: str) -> None:
    command = importlib.import_module(f"workers.cli.{name.replace('-', '_')}").command
    assert command.help
    assert all(getattr(option, "help", "") for option in command.params if option.opts[0][0] == "-")
    assert f"wheelfarm {name}" in (ROOT / "README.md").read_text()


def test_the_map_names_every_module() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    named = set(re.findall(r"`([a-z_]+)`", text))
    modules = {
        module.name
        for package in (builder, store, workers)
        for module in pkgutil.iter_modules(package.__path__)
        if not module.ispkg
    }
    assert modules - named == set()


def test_every_link_of_a_document_leads_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} -> {target}"
