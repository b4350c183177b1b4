from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from builder.toolchain.attempts import announced_modules, attempted, linked_modules, tool_calls

LIB = "build/lib.macosx-11.0-arm64-cpython-311"


def linked(*outputs: object) -> frozenset[str]:
    return linked_modules(iter([{"links": True, "output": output} for output in outputs]))


@pytest.mark.parametrize(
    ("output", "name"),
    [
        (f"{LIB}/pkg/_speedups.cpython-311-darwin.so", "pkg._speedups"),
        (f"/b/tree/{LIB}/top.cpython-311-darwin.so", "top"),
        ("build/lib/pkg/x.abi3.so", "pkg.x"),
        (f"{LIB}/pkg/plain.so", "pkg.plain"),
        (f"{LIB}/lib/inner/x.so", "inner.x"),
    ],
)
def test_setuptools_output_tells_the_module(output: str, name: str) -> None:
    assert linked(output) == {name}


@pytest.mark.parametrize(
    "output",
    [
        "src/_lift.cpython-311-darwin.so",  # Meson: where it will be installed is not said
        "_lift.cpython-311-darwin.so",
        f"{LIB}/pkg/libfoo.dylib",
        f"{LIB}/pkg/not-a-name.so",
        "build/temp.macosx-11.0-arm64-cpython-311/conftest",
        None,
        7,
    ],
)
def test_other_outputs_tell_nothing(output: object) -> None:
    assert linked(output) == frozenset()


def test_what_was_only_compiled_is_no_module() -> None:
    call = {"links": False, "output": f"{LIB}/pkg/x.so"}
    assert linked_modules(iter([call])) == frozenset()


def test_setuptools_announces_what_it_builds(tmp_path: Path) -> None:
    log = tmp_path / "build.log"
    log.write_text(
        "x\nbuilding 'pkg._a' extension\r\n  building 'no' extension\nbuilding 'b' lib\n"
    )
    assert announced_modules(log) == {"pkg._a"}


def test_a_name_without_its_package_gives_way() -> None:
    assert attempted(frozenset({"pkg._a"}), frozenset({"_a", "_lost"})) == {"pkg._a", "_lost"}


def test_a_hostile_log_is_only_text(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    good = {"tool": "cc", "links": True}
    log.write_text("\n".join(["[" * 100_000, "{", "7", "null", "9" * 9999, json.dumps(good)]))
    assert list(tool_calls(log)) == [good]


def test_a_pipe_or_a_link_in_the_place_of_a_log_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    for name in ("pipe", "link", "none", "."):
        assert list(tool_calls(tmp_path / name)) == []
