from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from builder.binaries.image import ElfFile
from builder.binaries.read import read_binary
from builder.build import build_wheel
from builder.repair import missing_libraries
from builder.stages import BuildFailure, BuildRequest, FinishedBuild
from builder.toolchain.native import native_toolchain
from store.digest import sha256_of
from store.provenance import Recipe

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="auditwheel repairs Linux wheels"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="links real libraries"),
]

Request = Callable[..., BuildRequest]


def test_a_library_that_the_wheel_lacks_is_brought_in(request_for: Request, tmp_path: Path) -> None:
    result = build_wheel(request_for("needs-library"))
    assert isinstance(result, FinishedBuild), result
    assert result.provenance.environment["repaired_by"] == "auditwheel"
    assert missing_libraries(result.wheel.path) == set()
    with zipfile.ZipFile(result.wheel.path) as wheel:
        brought = [name for name in wheel.namelist() if "libfarmer" in name]
        bills = [name for name in wheel.namelist() if ".dist-info/sboms/" in name]
        seen = {name: sha256_of(wheel.read(name)) for name in brought + bills}
        wheel.extractall(tmp_path / "site")
    assert brought
    assert _recorded(result, "vendored") == {name: seen[name] for name in brought}
    assert _recorded(result, "sboms") == {name: seen[name] for name in bills}
    code = "import needs_library._fast as f; print(f.answer())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "site", capture_output=True, check=True
    )
    assert done.stdout == b"42\n"


def _recorded(build: FinishedBuild, name: str) -> dict[str, str]:
    """The members that the provenance names under `name`, with their digests."""
    members: Any = build.provenance.environment[name]
    return {each["path"]: each["sha256"] for each in members}


def test_a_repaired_wheel_is_the_same_each_time(request_for: Request) -> None:
    one, two = (build_wheel(request_for("needs-library")) for _ in range(2))
    assert isinstance(one, FinishedBuild)
    assert isinstance(two, FinishedBuild)
    assert one.wheel.content_sha256 == two.wheel.content_sha256


@pytest.mark.skipif(
    native_toolchain(Path(sys.executable)).libpython_folder is None,
    reason="this interpreter has no shared libpython in a folder of its own",
)
def test_what_loads_libpython_still_finds_its_own_after_the_repair(request_for: Request) -> None:
    recipe = Recipe(env={"LINK_PYTHON": "1"})
    asked = request_for("needs-library", recipe=recipe)
    result = build_wheel(asked)
    assert isinstance(result, FinishedBuild), result
    assert result.provenance.environment["repaired_by"] == "auditwheel"
    (member,) = result.wheel.interpreter_bound
    with zipfile.ZipFile(result.wheel.path) as wheel:
        module = read_binary(wheel.read(member))
    assert isinstance(module, ElfFile)
    home = str(asked.toolchain.libpython_folder)
    assert home in (*module.rpath, *module.runpath)
    assert {tag.platform for tag in result.wheel.tags} == {f"linux_{asked.target.arch}"}


def test_what_loads_libpython_is_refused_for_a_portable_target(request_for: Request) -> None:
    asked = request_for("needs-library", recipe=Recipe(env={"LINK_PYTHON": "1"}))
    failure = build_wheel(replace(asked, target=replace(asked.target, build=None)))
    assert isinstance(failure, BuildFailure)
    assert failure.kind == "verification"
    assert "libpython" in failure.message


def test_a_library_that_nobody_has_is_a_refusal_and_not_a_half_repair(
    request_for: Request,
) -> None:
    failure = build_wheel(request_for("needs-library", recipe=Recipe(env={"LIBRARY": "lost"})))
    assert isinstance(failure, BuildFailure)
    assert failure.kind == "verification"
    assert "libfarmer.so.1" in failure.message


def test_a_declared_library_stays_outside(request_for: Request) -> None:
    recipe = Recipe(
        env={"LIBRARY": "lost"}, external_libraries={"libfarmer.so.1": "every farm has it"}
    )
    result = build_wheel(request_for("needs-library", recipe=recipe))
    assert isinstance(result, FinishedBuild), result
    assert result.provenance.environment["repaired_by"] == "none"


def test_a_wheel_that_cannot_be_read_is_left_to_verification(tmp_path: Path) -> None:
    broken = tmp_path / "x-1.0-py3-none-any.whl"
    broken.write_bytes(b"PK\3\4 no")
    assert missing_libraries(broken) == set()
    with zipfile.ZipFile(broken, "w") as wheel:
        wheel.writestr("x/_x.so", b"\x7fELF" + bytes(100))
    assert missing_libraries(broken) == set()
