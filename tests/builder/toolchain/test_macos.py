from __future__ import annotations

import pytest

from builder.errors import UnbuildableTargetError
from builder.toolchain.macos import darwin_release, macos_target, parse_macos_target
from store.errors import MalformedError
from store.fingerprint import fingerprint_of
from store.target import Baseline


def test_a_name_becomes_a_portable_target() -> None:
    target = parse_macos_target("macos-11.0-arm64:cp311")
    assert target == macos_target("cp311", "arm64", 11, 0)
    assert target.build is None
    assert target.platform == "macosx_11_0_arm64"
    assert target.interpreter.soabi == "cpython-311-darwin"
    assert target.interpreter.ext_suffix == ".cpython-311-darwin.so"
    assert fingerprint_of(target).startswith("cp311-macosx_11_0_arm64-")


def test_free_threaded_python_has_an_abi_of_its_own() -> None:
    target = parse_macos_target("macos-10.13-x86_64:cp313t")
    assert target.interpreter.free_threaded
    assert target.interpreter.soabi == "cpython-313t-darwin"
    assert "cp313-cp313t-macosx_10_13_x86_64" in {str(tag) for tag in target.supported_tags()}


@pytest.mark.parametrize(
    ("text", "error", "says"),
    [
        ("macos-11.0-arm64", MalformedError, "not a macOS target"),
        ("linux-11.0-arm64:cp311", MalformedError, "not a macOS target"),
        ("macos-11.0-arm64:cp311\n", MalformedError, "not a macOS target"),
        ("macos-" + "9" * 5000 + ".0-arm64:cp311", MalformedError, "not a macOS target"),
        ("macos-10.15-arm64:cp311", MalformedError, "no macOS 10.15 for arm64"),
        ("macos-12.3-arm64:cp311", MalformedError, "no installer ever matches"),
        ("macos-16.0-arm64:cp311", MalformedError, "no macOS 16.0"),
        ("macos-25.0-x86_64:cp311", MalformedError, "no macOS 25.0"),
        ("macos-99.0-x86_64:cp311", MalformedError, "no macOS 99.0"),
        ("macos-9.0-x86_64:cp311", MalformedError, "no macOS 9.0"),
        ("macos-10.16-x86_64:cp311", MalformedError, "no macOS 10.16"),
        ("macos-10.6-x86_64:cp311", UnbuildableTargetError, "too old for the compiler"),
        ("macos-11.0-universal2:cp311", UnbuildableTargetError, "universal2 is not built by name"),
        ("macos-11.0-ppc:cp311", MalformedError, "no macOS architecture"),
        ("macos-11.0-arm64:pp311", MalformedError, "not a CPython tag"),
        ("macos-11.0-arm64:cp37", UnbuildableTargetError, "too old"),
        ("macos-11.0-arm64:cp312t", MalformedError, "free-threaded CPython began"),
    ],
)
def test_what_cannot_be_is_refused_with_a_hint(text: str, error: type, says: str) -> None:
    with pytest.raises(error, match=says) as caught:
        parse_macos_target(text)
    assert caught.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("major", "minor", "release"),
    [
        (10, 9, "13.0.0"),
        (10, 13, "17.0.0"),
        (11, 0, "20.0.0"),
        (15, 0, "24.0.0"),
        (26, 0, "25.0.0"),
    ],
)
def test_the_kernel_of_a_macos(major: int, minor: int, release: str) -> None:
    assert darwin_release(Baseline(kind="macosx", major=major, minor=minor)) == release
