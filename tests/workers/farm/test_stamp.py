"""A toolchain that was changed after it was measured is noticed before anything is published."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builder.toolchain.cross import CrossToolchain
from workers.errors import ToolchainChangedError
from workers.farm.stamp import check_unchanged, stamp_of
from workers.settings import Settings
from workers.targets import resolve_target


@pytest.mark.slow  # it compiles for the target to know that it can
def test_a_cross_toolchain_that_was_tampered_with(tmp_path: Path) -> None:
    settings = Settings(store=tmp_path / "store", cache=tmp_path / "cache")
    tag = "cp{}{}".format(*sys.version_info[:2])
    toolchain = resolve_target(f"macos-11.0-arm64:{tag}", settings).toolchain
    assert isinstance(toolchain, CrossToolchain)
    stamp = stamp_of(toolchain)
    check_unchanged(toolchain, stamp)
    header = next((toolchain.folder / "include").rglob("patchlevel.h"))
    header.chmod(0o644)
    text = header.read_text()
    header.write_text(text + "/* another */\n")
    with pytest.raises(ToolchainChangedError):
        check_unchanged(toolchain, stamp)
    header.write_text(text)
    check_unchanged(toolchain, stamp)
    header.unlink()
    with pytest.raises(ToolchainChangedError):
        check_unchanged(toolchain, stamp)
