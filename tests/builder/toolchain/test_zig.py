from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import packaging
import pytest

from builder.errors import BuilderError
from builder.toolchain.zig import VERSION, check_binary, find_zig, run_zig

ROOT = Path(__file__).parents[3]
PACKAGING = Path(packaging.__file__).parent.parent
ASK = """
import sys
sys.path.append(sys.argv[1])
import packaging  # what the builder needs of the installed packages, before they are out of sight
sys.path[:] = sys.argv[2:] + sys.path[:-1]
from builder.errors import UnbuildableTargetError
from builder.toolchain.zig import check_binary, find_zig
try:
    check_binary(find_zig())
except UnbuildableTargetError as error:
    print(error.message, "|", error.hint)
"""


def without_ziglang(*folders: Path) -> str:
    """What a Python says that sees no installed packages but those in `folders`."""
    call = [sys.executable, "-I", "-S", "-c", ASK, str(PACKAGING), str(ROOT), *map(str, folders)]
    return subprocess.run(call, check=True, capture_output=True, text=True).stdout


def install(folder: Path, version: str, record: str) -> None:
    info = folder / f"ziglang-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ziglang\nVersion: {version}\n")
    (info / "RECORD").write_text(record)
    program = folder / "ziglang" / "zig"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)


def test_the_installed_compiler_is_the_one_that_was_tried() -> None:
    zig = find_zig()
    check_binary(zig)
    assert zig.version == VERSION
    assert str(zig.program) not in str(zig.to_json())


def test_a_missing_compiler_says_how_to_get_it() -> None:
    assert "pip install 'wheelfarm[cross]'" in without_ziglang()


def test_another_version_is_refused(tmp_path: Path) -> None:
    install(tmp_path, "0.16.0", "ziglang/zig,sha256=x,1\n")
    assert "ziglang 0.16.0 is installed" in without_ziglang(tmp_path)


def test_a_changed_compiler_is_refused(tmp_path: Path) -> None:
    install(tmp_path, VERSION, "ziglang/zig,sha256=x,1\n")
    assert "not the one that its package's RECORD names" in without_ziglang(tmp_path)


def test_a_package_without_a_compiler_is_refused(tmp_path: Path) -> None:
    install(tmp_path, VERSION, "")
    assert "has no compiler in it" in without_ziglang(tmp_path)


def test_a_failing_compiler_is_quoted(tmp_path: Path) -> None:
    with pytest.raises(BuilderError, match="not-a-command"):
        run_zig(find_zig(), ["not-a-command"], tmp_path / "cache", cwd=tmp_path)
