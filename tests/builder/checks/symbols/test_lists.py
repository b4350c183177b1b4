"""The lists of symbols: what they say, and how they are made anew."""

from __future__ import annotations

import re
import sys
import sysconfig
from importlib.metadata import distribution
from pathlib import Path

import pytest
from click.testing import CliRunner

from builder.binaries.image import ElfFile
from builder.binaries.read import read_binary
from builder.checks.symbols import regenerate
from builder.checks.symbols.lists import (
    cpython_exports,
    cpython_exports_of,
    libsystem_at,
    libsystem_since,
    musl_since,
)
from builder.checks.symbols.stable_abi import is_cpython_name, stable_symbols

_HEAD = """--- !tapi-tbd
tbd-version:     4
install-name:    '/usr/lib/system/libspam.dylib'
exports:
"""
_OLD = f"""{_HEAD}  - targets:         [ x86_64-macos, x86_64-maccatalyst ]
    symbols:         [ _old, '_old$INODE64', '$ld$hide$os10.8$_marked', '$ld$hide$os10.11$_marked',
                       _marked ]
"""
_NEW = f"""{_HEAD}  - targets:         [ x86_64-macos ]
    symbols:         [ '_old$INODE64' ]
  - targets:         [ x86_64-macos, arm64e-macos,
                       arm64e.x1-macos ]
    symbols:         [ _old, _marked, _new, dyld_stub_binder ]
    weak-symbols:    [ _weak ]
    objc-classes:    [ OS_spam ]
reexports:
  - targets:         [ arm64-macos ]
    symbols:         [ _passed_on ]
...
"""


def test_a_list_says_since_when_a_name_is_there() -> None:
    made = regenerate.libsystem_list([("10.15", _OLD), ("11.0", _NEW)])
    assert made == {
        "arm64": {"11.0": "passed_on"},
        "arm64 x86_64": {"10.12": "marked", "10.15": "old", "11.0": "new weak dyld_stub_binder"},
        "x86_64": {"10.15": "old$INODE64"},
    }


def test_two_libraries_of_one_cpython_add_up() -> None:
    exports = [
        ("cp312", frozenset({"PyErr_Print", "PyInit_math", "main"})),
        ("cp313", frozenset({"PyErr_Print"})),
        ("cp313", frozenset({"_PyErr_New"})),
    ]
    assert regenerate.cpython_list(exports) == {"cp312 cp313": "PyErr_Print", "cp313": "_PyErr_New"}


@pytest.mark.parametrize(
    ("name", "arch", "since"),
    [
        ("malloc", "arm64", (0, 0)),
        ("dyld_stub_binder", "x86_64", (0, 0)),
        ("clock_gettime", "x86_64", (10, 12)),
        ("utimensat", "x86_64", (10, 13)),
        ("preadv", "arm64", (11, 0)),
        ("mkfifoat", "arm64", (13, 0)),
    ],
)
def test_what_macos_is_known_to_have_brought(name: str, arch: str, since: tuple[int, int]) -> None:
    table = libsystem_since(arch)
    assert table is not None
    assert table[name] == since


def _musl(release: str, names: str, arch: str = "x86_64") -> regenerate.Musl:
    return regenerate.Musl(release=release, arch=arch, exports=frozenset(names.split()))


def test_a_list_of_musl_says_since_when_a_name_is_there() -> None:
    builds = [
        _musl("1.2.2", "open open64 gettid fts_open"),
        _musl("1.2.2", "open open64 gettid __time64", "i686"),
        _musl("1.2.5", "open gettid statx"),
        _musl("1.2.5", "open gettid __time64 statx own", "riscv64"),
    ]
    assert regenerate.musl_list(builds) == {
        "i686 riscv64": {"1.2.0": "__time64"},
        "i686 riscv64 x86_64": {"1.1": "open open64", "1.2.2": "gettid"},
        "riscv64": {"1.1": "own"},
        "riscv64 x86_64": {"1.2.5": "statx"},
    }


@pytest.mark.parametrize(
    ("name", "arch", "since"),
    [
        ("malloc", "x86_64", (1, 1, 0)),
        ("open64", "x86_64", (1, 1, 0)),
        ("open64", "riscv64", (1, 1, 0)),
        ("gettid", "aarch64", (1, 2, 2)),
        ("qsort_r", "s390x", (1, 2, 3)),
        ("statx", "riscv64", (1, 2, 5)),
        ("__clock_gettime64", "armv7l", (1, 2, 0)),
        ("__clock_gettime64", "x86_64", None),
        ("fts_open", "x86_64", None),
        ("__fprintf_chk", "x86_64", None),
    ],
)
def test_what_musl_is_known_to_have_brought(
    name: str, arch: str, since: tuple[int, int, int] | None
) -> None:
    table = musl_since(arch)
    assert table is not None
    assert table.get(name) == since


def test_no_list_is_not_an_empty_one() -> None:
    assert musl_since("mips64") is None
    assert libsystem_since("i386") is None
    assert libsystem_at("ppc", (10, 6)) is None
    assert cpython_exports_of("cp27") is None


def test_the_newest_list_is_that_of_the_installed_stub() -> None:
    """The compiler for macOS brings the stub that the newest list was made from."""
    files = distribution("ziglang").files or []
    stub = next(file for file in files if str(file).endswith("libc/darwin/libSystem.tbd"))
    made = regenerate.libsystem_list([("27.0", stub.read_text("utf-8"))])
    names = {n for archs, rows in made.items() if "arm64" in archs for n in rows["27.0"].split()}
    known = libsystem_at("arm64", (27, 0))
    assert known is not None
    assert len(names) > 9000
    assert names <= known


@pytest.mark.skipif(sys.platform != "linux", reason="the lists are made from ELF files")
def test_the_running_cpython_exports_what_its_list_says() -> None:
    folder, name = sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("INSTSONAME")
    library = Path(str(folder), str(name))
    path = library if library.suffix != ".a" and library.is_file() else Path(sys.executable)
    file = read_binary(path.resolve().read_bytes())
    assert isinstance(file, ElfFile)
    listed = cpython_exports_of(f"cp3{sys.version_info.minor}")
    assert listed is not None
    public = {name for name in listed if name.startswith("Py") and name in stable_symbols()}
    assert public <= file.exports


def test_the_lists_hold_nothing_but_names() -> None:
    assert all(map(is_cpython_name, cpython_exports()))
    assert {"cp38", "cp313", "cp313t", "cp315"} <= set().union(*cpython_exports().values())
    assert all(name.isprintable() and " " not in name for name in libsystem_since("arm64") or {})


def test_the_script_writes_the_same_bytes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regenerate, "CPYTHON", tmp_path / "cpython.json.gz")
    library = Path(sys.executable).resolve()
    for _ in range(2):
        ran = CliRunner().invoke(regenerate.main, ["--libpython", f"cp311={library}"])
        assert ran.exit_code == 0, ran.output
        first = (tmp_path / "cpython.json.gz").read_bytes()
        monkeypatch.setattr(regenerate, "CPYTHON", tmp_path / "again.json.gz")
    assert (tmp_path / "again.json.gz").read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--ziglang", "FOLDER"], "ziglang 0.9.1"),
        (["--libpython", "cp311"], "NAME=FILE"),
        (["--musl", "1.2.3"], "NAME=FILE"),
        (["--musl", "bookworm=PYTHON"], "no release of musl"),
        (["--libpython", "cp311=FOLDER/none"], "cannot read"),
        (["--libpython", "cp311=FOLDER/text"], "no ELF file"),
        (["--libpython", "cp311=FOLDER/broken"], "no ELF file"),
    ],
)
def test_the_script_names_what_it_lacks(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "text").write_text("text")
    (tmp_path / "broken").write_bytes(b"\x7fELF")
    places = {"FOLDER": str(tmp_path), "PYTHON": str(Path(sys.executable).resolve())}
    given = [re.sub("FOLDER|PYTHON", lambda m: places[m[0]], word) for word in arguments]
    ran = CliRunner().invoke(regenerate.main, given)
    assert ran.exit_code == 2
    assert said in ran.output
