from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import BuilderError, InterpreterError, UnbuildableTargetError
from builder.toolchain.cross import CrossToolchain, cross_toolchain
from builder.toolchain.macos import parse_macos_target
from builder.toolchain.native_python import native_python
from builder.toolchain.toolchain import Toolchain
from store.digest import digest_of_tree
from tests.builder.toolchain.conftest import PYTHON_TAG, described

HERE = Path(sys.executable)
ARM64 = f"macos-11.0-arm64:{PYTHON_TAG}"
MODULE = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "m", NULL, 0, NULL};
PyMODINIT_FUNC PyInit_m(void) { return PyModuleDef_Init(&module); }
"""


def sh(toolchain: CrossToolchain, scratch: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line as a backend hook would, in `scratch`."""
    scratch.mkdir(exist_ok=True)
    environment = {"PATH": os.defpath, "HOME": str(scratch), **toolchain.environment(scratch)}
    return subprocess.run(
        ["/bin/sh", "-c", line],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_is_a_toolchain(arm64: CrossToolchain) -> None:
    toolchain: Toolchain = arm64
    assert toolchain.python == HERE
    assert toolchain.config_settings("setuptools.build_meta") == {}
    assert toolchain.config_settings("mesonpy")["setup-args"].startswith("--cross-file=/")


@pytest.mark.parametrize(
    "target",
    [ARM64, pytest.param(f"macos-10.13-x86_64:{PYTHON_TAG}", marks=pytest.mark.slow)],
)
def test_a_compiled_module_is_the_targets(target: str, cross_cache: Path, tmp_path: Path) -> None:
    toolchain = cross_toolchain(parse_macos_target(target), HERE, cross_cache)
    (tmp_path / "m.c").write_text(MODULE)
    native = native_python(HERE)
    done = sh(
        toolchain,
        tmp_path,
        f"$CC -c m.c -I{native.include} -o m.o && $LDSHARED -L/usr/lib m.o -o $PWD/m.so",
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path).encode() not in (tmp_path / "m.so").read_bytes()
    arch, minimum, signed = described((tmp_path / "m.so").read_bytes())
    baseline = toolchain.macos.target.baseline
    assert (arch, minimum) == (toolchain.macos.target.arch, (baseline.major, baseline.minor))
    assert signed == (arch == "arm64")


@pytest.mark.slow
def test_two_caches_hold_the_same_folder(arm64: CrossToolchain, tmp_path: Path) -> None:
    again = cross_toolchain(arm64.macos.target, HERE, tmp_path / "other cache")
    assert again.folder != arm64.folder
    assert again.identity == arm64.identity
    assert str(tmp_path) not in json.dumps(again.identity)
    found = [path for path in again.folder.rglob("*") if path.is_file()]
    assert not [path for path in found if str(tmp_path).encode() in path.read_bytes()]


@pytest.mark.slow
def test_two_processes_make_one_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path;"
        "from builder.toolchain.cross import cross_toolchain;"
        "from builder.toolchain.macos import parse_macos_target;"
        "target = parse_macos_target(sys.argv[1]);"
        "made = cross_toolchain(target, Path(sys.executable), Path(sys.argv[2]));"
        "print(made.folder_sha256)"
    )
    call = [sys.executable, "-c", code, ARM64, str(tmp_path)]
    root = str(Path(__file__).parents[3])
    both = [
        subprocess.Popen(call, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root})
        for _ in range(2)
    ]
    said = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == said[1] != b""
    assert len(list((tmp_path / "toolchains").iterdir())) == 1


def test_a_changed_folder_is_refused(
    arm64: CrossToolchain, cross_cache: Path, tmp_path: Path
) -> None:
    shutil.copytree(cross_cache / "zig", tmp_path / "zig")  # saves the seconds of warming it
    made = cross_toolchain(parse_macos_target(ARM64), HERE, tmp_path)
    (made.folder / "include" / "pyconfig.h").write_text("#define HACKED 1\n")
    with pytest.raises(BuilderError, match="not as it was made"):
        cross_toolchain(parse_macos_target(ARM64), HERE, tmp_path)


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "toolchains").write_text("in the way")
    with pytest.raises(BuilderError, match="cannot be used"):
        cross_toolchain(parse_macos_target(ARM64), HERE, tmp_path)


def test_a_build_changes_neither_the_folder_nor_the_next_cache(
    arm64: CrossToolchain, tmp_path: Path
) -> None:
    base = digest_of_tree(arm64.warm.base)
    (tmp_path / "m.c").write_text(MODULE)
    assert sh(arm64, tmp_path, "$CC -c m.c -o m.o -I$OLDPWD").returncode == 1
    done = sh(
        arm64,
        tmp_path,
        f"$CC -c m.c -o m.o -I{native_python(HERE).include}"
        " && $WHEELFARM_PYTHON -c 'import urllib.request'",
    )
    assert done.returncode == 0, done.stderr
    assert digest_of_tree(arm64.warm.base) == base
    private = Path(arm64.environment(tmp_path)["ZIG_GLOBAL_CACHE_DIR"])
    assert private.is_relative_to(tmp_path)
    assert digest_of_tree(arm64.folder) == arm64.folder_sha256


def test_a_build_makes_no_run_time_library_again(arm64: CrossToolchain, tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("int one(void) { return 1; }\n")
    (tmp_path / "n.c").write_text("int one(void); int two(void) { return 2 * one(); }\n")
    line = (
        "$CC -O3 -c m.c -o m.o && $CC -c n.c -o n.o && $AR rcs libm1.a m.o && $RANLIB libm1.a"
        " && $LDSHARED n.o -L. -lm1 -lm -ldl -lpthread -o n.so"
    )
    done = sh(arm64, tmp_path, line)
    assert done.returncode == 0, done.stderr
    assert described((tmp_path / "n.so").read_bytes()) == ("arm64", (11, 0), True)
    libraries = [
        sorted(folder.glob("o/*/*.a")) for folder in (arm64.warm.base, tmp_path / "zig-cache")
    ]
    assert [path.name for path in libraries[0]] == [path.name for path in libraries[1]] != []


def test_every_call_is_logged(arm64: CrossToolchain, tmp_path: Path) -> None:
    output = "build/lib.x/pkg/lost.cpython-311-darwin.so"
    line = f"$CC -c none.c -o none.o; $LDSHARED none.o -o {output}; $AR rcs x.a"
    assert sh(arm64, tmp_path, line).returncode == 0
    calls = [json.loads(one) for one in (tmp_path / "tool-calls.jsonl").read_text().splitlines()]
    assert [(call["tool"], call["status"] != 0) for call in calls] == [
        *(("cc", True), ("cc", True), ("ar", False)),
    ]
    assert calls[1]["output"] == output
    assert arm64.attempted_modules(tmp_path, tmp_path / "no.log") == {"pkg.lost"}


SHOW = """
import json, os, platform, sys, sysconfig
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION")
except ValueError:
    libc = None
print(json.dumps({
    "platform": sys.platform, "system": platform.system(), "machine": os.uname().machine,
    "mac_ver": platform.mac_ver()[0], "libc": libc, "tag": sysconfig.get_platform(),
    "suffix": sysconfig.get_config_var("EXT_SUFFIX"),
    "include": sysconfig.get_paths()["include"],
    "config": sysconfig.get_config_h_filename(),
}))
"""


def shown(toolchain: CrossToolchain, python: Path, scratch: Path) -> dict[str, object]:
    """What `python` believes of its platform under the cross view."""
    (scratch / "show.py").write_text(SHOW)
    done = sh(toolchain, scratch, f"{python} show.py")
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer


def test_the_view_shows_the_target(arm64: CrossToolchain, tmp_path: Path) -> None:
    interpreter = arm64.macos.target.interpreter
    assert shown(arm64, HERE, tmp_path) == {
        "platform": "darwin",
        "system": "Darwin",
        "machine": "arm64",
        "mac_ver": "11.0",
        "libc": None,
        "tag": "macosx-11.0-arm64",
        "suffix": interpreter.ext_suffix,
        "include": str(arm64.folder / "include"),
        "config": str(arm64.folder / "include" / "pyconfig.h"),
    }


def test_a_python_of_another_version_sees_the_machine(
    arm64: CrossToolchain, tmp_path: Path, python_of: Callable[[str], Path]
) -> None:
    other = "3.12" if PYTHON_TAG != "cp312" else "3.13"
    seen = shown(arm64, python_of(other), tmp_path)
    assert seen["platform"] == sys.platform
    assert "darwin" not in str(seen["suffix"])
    assert "macosx" not in str(seen["tag"])


def test_tags_that_a_backend_computes_are_the_targets(
    arm64: CrossToolchain, tmp_path: Path
) -> None:
    call = f"{HERE} -c 'from packaging.tags import sys_tags; print(next(sys_tags()))'"
    assert (
        sh(arm64, tmp_path, call).stdout.strip() == f"{PYTHON_TAG}-{PYTHON_TAG}-macosx_11_0_arm64"
    )


def test_configure_takes_the_target_for_its_host(arm64: CrossToolchain, tmp_path: Path) -> None:
    call = 'host_alias=; . "$CONFIG_SITE"; echo "$host_alias $cross_compiling $ac_cv_host"'
    triple = "aarch64-apple-darwin20.0.0"
    assert sh(arm64, tmp_path, call).stdout.split() == [triple, "yes", triple]


def test_a_framework_without_an_sdk_fails_clearly(arm64: CrossToolchain, tmp_path: Path) -> None:
    (tmp_path / "m.c").write_text("int x;\n")
    done = sh(arm64, tmp_path, "$CC -c m.c -o m.o && $LDSHARED m.o -framework IOKit -o m.so")
    assert done.returncode == 1
    assert "framework 'IOKit' is Apple's" in done.stderr
    assert not (tmp_path / "m.so").exists()


def test_an_sdk_brings_frameworks_and_is_part_of_the_identity(
    arm64: CrossToolchain, cross_cache: Path, tmp_path: Path
) -> None:
    sdk = make_sdk(tmp_path / "Mac OS.sdk")
    toolchain = cross_toolchain(arm64.macos.target, HERE, cross_cache, sdk=sdk)
    scratch = tmp_path / "build"
    scratch.mkdir()
    (scratch / "m.c").write_text(
        "#include <Thing/Thing.h>\n#include <only_apple.h>\n"
        "int f(void) { return thing() + ONLY; }\n"
    )
    done = sh(toolchain, scratch, "$CC -c m.c -o m.o && $LDSHARED m.o -framework Thing -o m.so")
    assert done.returncode == 0, done.stderr
    assert b"/System/Library/Frameworks/Thing.framework/Thing" in (scratch / "m.so").read_bytes()
    assert toolchain.identity["sdk_sha256"] is not None
    assert {**toolchain.identity, "sdk_sha256": None} == arm64.identity


def make_sdk(sdk: Path) -> Path:
    """A folder laid out as an SDK is, with one header and one framework of our own."""
    framework = sdk / "System/Library/Frameworks/Thing.framework"
    (framework / "Headers").mkdir(parents=True)
    (framework / "Headers" / "Thing.h").write_text("int thing(void);\n")
    (framework / "Thing.tbd").write_text(
        "--- !tapi-tbd\ntbd-version: 4\ntargets: [ arm64-macos, x86_64-macos ]\n"
        "install-name: '/System/Library/Frameworks/Thing.framework/Thing'\n"
        "exports:\n  - targets: [ arm64-macos, x86_64-macos ]\n    symbols: [ _thing ]\n...\n"
    )
    (sdk / "usr" / "include").mkdir(parents=True)
    (sdk / "usr" / "lib").mkdir()
    (sdk / "usr" / "include" / "only_apple.h").write_text("#define ONLY 1\n")
    return sdk


def test_a_folder_that_is_no_sdk_is_refused(cross_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(UnbuildableTargetError, match="no macOS SDK"):
        cross_toolchain(parse_macos_target(ARM64), HERE, cross_cache, sdk=tmp_path)


def test_supplied_headers_are_taken_as_they_are(
    arm64: CrossToolchain, cross_cache: Path, tmp_path: Path
) -> None:
    given = tmp_path / "include"
    for header in sorted((arm64.folder / "include").rglob("*.h")):
        copy = given / header.relative_to(arm64.folder / "include")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(header.read_bytes())
    with (given / "pyconfig.h").open("a") as file:
        file.write("#define SUPPLIED 1\n")
    made = cross_toolchain(arm64.macos.target, HERE, cross_cache, headers=given)
    assert json.loads((made.folder / "target.json").read_text())["headers"] == "supplied"
    assert json.loads((made.folder / "sysconfig.json").read_text())["SUPPLIED"] == 1
    assert made.identity != arm64.identity


def test_headers_of_another_system_are_refused(cross_cache: Path, tmp_path: Path) -> None:
    target, native = parse_macos_target(ARM64), native_python(HERE).include
    with pytest.raises(UnbuildableTargetError, match="not of a Python for macOS"):
        cross_toolchain(target, HERE, cross_cache, headers=native)
    with pytest.raises(UnbuildableTargetError, match="no Python headers") as caught:
        cross_toolchain(target, HERE, cross_cache, headers=tmp_path)
    assert caught.value.hint


def test_the_interpreter_has_to_be_of_the_targets_version(cross_cache: Path) -> None:
    other = "cp310"
    with pytest.raises(UnbuildableTargetError, match=r"not CPython 3\.10"):
        cross_toolchain(parse_macos_target(f"macos-11.0-arm64:{other}"), HERE, cross_cache)


@pytest.mark.parametrize("text", ["", "#!/bin/sh\necho no\n", "#!/bin/sh\nexit 3\n"])
def test_what_is_no_interpreter_is_refused(text: str, cross_cache: Path, tmp_path: Path) -> None:
    fake = tmp_path / "python"
    if text:
        fake.write_text(text)
        fake.chmod(0o755)
    with pytest.raises(InterpreterError):
        cross_toolchain(parse_macos_target(ARM64), fake, cross_cache)


def test_a_target_that_is_no_macos_is_refused(arm64: CrossToolchain, cross_cache: Path) -> None:
    from dataclasses import replace

    from store.target import Baseline

    linux = replace(
        arm64.macos.target, baseline=Baseline(kind="manylinux", major=2, minor=17), arch="aarch64"
    )
    with pytest.raises(UnbuildableTargetError, match="builds for macOS, not manylinux_2_17"):
        cross_toolchain(linux, HERE, cross_cache)
    debug = replace(arm64.macos.target.interpreter, soabi="cpython-311d-darwin")
    with pytest.raises(UnbuildableTargetError, match="no macOS interpreter"):
        cross_toolchain(replace(arm64.macos.target, interpreter=debug), HERE, cross_cache)
