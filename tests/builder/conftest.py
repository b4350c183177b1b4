"""Requests to build projects of tests/projects for the running interpreter."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.interpreter import measure
from builder.local import local_sdist
from builder.stages import BuildRequest, Sdist
from builder.toolchain.native import native_toolchain
from store.provenance import Pin, Recipe

Pack = Callable[[str], Path]
Request = Callable[..., BuildRequest]


@pytest.fixture
def request_for(pack: Pack, tmp_path: Path) -> Request:
    """A request to build a project of tests/projects, or an Sdist; each in a fresh workspace."""
    count = iter(range(100))

    def make(
        what: str | Sdist,
        *,
        recipe: Recipe | None = None,
        pins: tuple[Pin, ...] | None = None,
        python: Path = Path(sys.executable),
        index_url: str | None = None,
    ) -> BuildRequest:
        workspace = tmp_path / f"work-{next(count)}"
        workspace.mkdir()
        sdist = local_sdist(pack(what), tmp_path / "sdists") if isinstance(what, str) else what
        return BuildRequest(
            sdist=sdist,
            target=measure(python).target(),
            toolchain=native_toolchain(python),
            recipe=recipe or Recipe(),
            pins=pins,
            workspace=workspace,
            index_url=index_url,
        )

    return make
