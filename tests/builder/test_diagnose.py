from __future__ import annotations

from pathlib import Path

import pytest

from builder.diagnose import first_error, out_of_memory

TRACEBACK = "Traceback (most recent call last):\n  File 'setup.py', line 1\n    import x\n"

LOGS = {
    "psutil/arch.c:9:10: fatal error: 'CoreFoundation/CoreFoundation.h' file not found\n"
    "1 error generated.\nerror: command '/x/cc' failed with exit code 1\n": (
        "psutil/arch.c:9:10: fatal error: 'CoreFoundation/CoreFoundation.h' file not found"
    ),
    "a.c:1:2: warning: unused\na.c:3:4: error: unknown type name 'foo'\na.c:5:6: error: b\n": (
        "a.c:3:4: error: unknown type name 'foo'"
    ),
    "/usr/bin/ld: cannot find -lldap: No such file\ncollect2: error: ld returned 1 exit status\n": (
        "/usr/bin/ld: cannot find -lldap: No such file"
    ),
    "a.o: in function `f':\na.c:(.text+0x1): undefined reference to `g'\n": (
        "a.c:(.text+0x1): undefined reference to `g'"
    ),
    f"{TRACEBACK}ModuleNotFoundError: No module named 'Cython'\n": (
        "ModuleNotFoundError: No module named 'Cython'"
    ),
    f"{TRACEBACK}KeyError: 1\n\nDuring handling, another:\n\n{TRACEBACK}RuntimeError: no\n": (
        "RuntimeError: no"
    ),
    "../meson.build:3:11: ERROR: Dependency \"openblas\" not found\n\nA full log is\n": (
        '../meson.build:3:11: ERROR: Dependency "openblas" not found'
    ),
    "-- x\nCMake Error at CMakeLists.txt:3 (find_package):\n  Could not find X\n": (
        "CMake Error at CMakeLists.txt:3 (find_package):"
    ),
    "   Compiling a\nerror[E0433]: failed to resolve\nerror: could not compile `a`\n": (
        "error[E0433]: failed to resolve"
    ),
    "running build\nerror: command '/usr/bin/cc' failed with exit code 1\n": (
        "error: command '/usr/bin/cc' failed with exit code 1"
    ),
    "just\nwords\n\n": "words",
    "": None,
}  # fmt: skip


@pytest.mark.parametrize("log", LOGS)
def test_the_first_real_error_is_found(log: str, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(log)
    assert first_error(tmp_path / "log") == LOGS[log]


def test_what_is_found_is_safe_to_show(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"\x1b[31merror: \x1b]0;title\x07re\x00d\xe2\x80\xae\xff" + b"x" * 90_000)
    found = first_error(log)
    assert found is not None
    assert found.startswith("error: re d")
    assert found.isprintable()
    assert len(found) == 400


def test_only_this_hooks_part_of_the_log_is_read(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a.c:1:1: error: probe\nlast\n")
    assert first_error(tmp_path / "log", start=22) == "last"


@pytest.mark.parametrize(
    ("line", "memory"),
    [
        ("gcc: fatal error: Killed signal terminated program cc1plus", True),
        ("MemoryError", True),
        ("cc1: out of memory allocating 65536 bytes", True),
        ("checking for MemoryError... no", False),
    ],
)
def test_memory_that_ran_out_is_told_apart(line: str, memory: bool, tmp_path: Path) -> None:
    (tmp_path / "log").write_text(f"before\n{line}\n")
    assert out_of_memory(tmp_path / "log") is memory
