from __future__ import annotations

import pickle
import shutil
import sys
from pathlib import Path

import pytest

from builder.errors import InterpreterError
from builder.toolchain.native import native_toolchain
from store.digest import canonical_json

PYTHON = Path(sys.executable)


def test_the_identity_holds_no_path_and_is_canonical() -> None:
    toolchain = native_toolchain(PYTHON)
    text = canonical_json(toolchain.identity).decode()
    assert str(PYTHON.parent) not in text
    assert "/usr/bin" not in text
    assert toolchain.identity["kind"] == "native"
    assert pickle.loads(pickle.dumps(toolchain)) == toolchain


def test_the_same_interpreter_in_another_folder_is_the_same(tmp_path: Path) -> None:
    link = tmp_path / "python"
    link.symlink_to(PYTHON.resolve())
    assert native_toolchain(link).identity == native_toolchain(PYTHON.resolve()).identity


def test_the_compiler_is_in_the_identity() -> None:
    if shutil.which("cc") is None:
        pytest.skip("no compiler here")
    compiler = native_toolchain(PYTHON).identity["compiler"]
    assert isinstance(compiler, dict)
    assert len(compiler["sha256"]) == 64
    assert compiler["version"]


def test_its_variables_only_hide_the_scratch_folder(tmp_path: Path) -> None:
    variables = native_toolchain(PYTHON).environment(tmp_path)
    assert set(variables) <= {"CPPFLAGS"}
    assert variables.get("CPPFLAGS", str(tmp_path)).count(str(tmp_path)) == 1
    assert native_toolchain(PYTHON).config_settings("mesonpy") == {}


def test_attempted_modules_are_those_that_setuptools_announced(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text("building 'a.b._c' extension\ncc -c x.c\nbuilding 'd' extension\nbuilding it\n")
    assert native_toolchain(PYTHON).attempted_modules(tmp_path, log) == {"a.b._c", "d"}


@pytest.mark.parametrize("what", ["/nowhere/python", "/bin/true", "/bin/sh", "/"])
def test_what_is_no_interpreter_is_told_so(what: str) -> None:
    with pytest.raises(InterpreterError, match="does not answer"):
        native_toolchain(Path(what))
