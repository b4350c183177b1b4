"""Lies about the minimum macOS: rounded up, split where slices differ, never without need."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from builder.binaries.sign import sign_adhoc
from tests.builder.forge import (
    MAC_SUFFIX,
    dylib,
    errors,
    fat,
    mach,
    names,
    only,
    universal,
    verdict_of,
    with_command,
)

_M = f"p/m{MAC_SUFFIX}"
_BUILD_VERSION = 0x32
_UNKNOWN_COMMAND = 0x7FFF


def _name(platform: str) -> str:
    return f"p-1.0-cp311-cp311-{platform}.whl"


@pytest.mark.parametrize(
    ("platform", "data", "holds"),
    [
        ("macosx_10_13_universal2", universal("12.0", "12.0"), {"macosx_12_0_universal2"}),
        ("macosx_10_13_universal2", universal("10.15", "11.0"), {"macosx_10_15_universal2"}),
        (
            "macosx_11_0_universal2",
            universal("11.0", "13.0"),
            {"macosx_11_0_x86_64", "macosx_13_0_arm64"},
        ),
        (
            "macosx_10_13_universal2",
            universal("12.0", "11.0"),
            {"macosx_12_0_x86_64", "macosx_11_0_arm64"},
        ),
        ("macosx_11_0_arm64", mach("arm64", "11.1"), {"macosx_12_0_arm64"}),
        ("macosx_15_0_arm64", mach("arm64", "15.5"), {"macosx_26_0_arm64"}),
        ("macosx_10_9_x86_64", mach("x86_64", "10.13"), {"macosx_10_13_x86_64"}),
        ("macosx_12_3_arm64", mach("arm64", "12.3"), {"macosx_13_0_arm64"}),
        ("macosx_10_9_arm64", mach("arm64", "11.0"), {"macosx_11_0_arm64"}),
    ],
)
def test_the_tag_is_raised_to_what_the_slices_need(
    tmp_path: Path, platform: str, data: bytes, holds: set[str]
) -> None:
    judgement = verdict_of(tmp_path, _name(platform), {_M: data})
    assert judgement.verdict == "retag"
    assert names(judgement) == {f"cp311-cp311-{name}" for name in holds}
    assert errors(judgement) == {"minimum-os"}


def test_the_finding_names_the_slice_that_is_above(tmp_path: Path) -> None:
    data = universal("10.13", "12.0")
    judgement = verdict_of(tmp_path, _name("macosx_10_13_universal2"), {_M: data})
    finding = only(judgement, "minimum-os")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert finding.evidence["minimum_os"] == "12.0.0"


@pytest.mark.parametrize(
    ("platform", "data"),
    [
        ("macosx_12_0_arm64", mach("arm64", "11.0")),
        ("macosx_10_13_universal2", universal("10.13", "11.0")),
        ("macosx_11_0_universal2", universal("10.13", "11.0")),
    ],
)
def test_a_conservative_or_exact_tag_stays(tmp_path: Path, platform: str, data: bytes) -> None:
    judgement = verdict_of(tmp_path, _name(platform), {_M: data})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_vendored_library_above_the_tag_counts(tmp_path: Path) -> None:
    library = dylib("@rpath/libdep.dylib", minimum="14.0")
    members = {_M: mach("arm64"), "p/.dylibs/libdep.dylib": library}
    judgement = verdict_of(tmp_path, _name("macosx_11_0_arm64"), members)
    assert names(judgement) == {"cp311-cp311-macosx_14_0_arm64"}
    assert only(judgement, "minimum-os").member == "p/.dylibs/libdep.dylib"


def test_a_slice_that_says_no_minimum_is_a_warning(tmp_path: Path) -> None:
    data = sign_adhoc(with_command(mach("arm64"), _BUILD_VERSION, _UNKNOWN_COMMAND), "m.so")
    judgement = verdict_of(tmp_path, _name("macosx_11_0_arm64"), {_M: data})
    finding = only(judgement, "minimum-os")
    assert (judgement.verdict, finding.severity, finding.slice) == ("accept", "warning", "arm64")


def test_ios_in_a_macos_wheel_is_refused(tmp_path: Path) -> None:
    data = mach("arm64", "14.0", system="ios")
    judgement = verdict_of(tmp_path, _name("macosx_11_0_arm64"), {_M: data})
    finding = only(judgement, "minimum-os")
    assert (judgement.verdict, finding.slice) == ("reject", "arm64")
    assert finding.evidence["platform"] == "ios"


def test_ios_in_one_slice_of_a_fat_file_is_refused(tmp_path: Path) -> None:
    data = fat(mach("x86_64", "11.0"), mach("arm64", "14.0", system="ios"))
    judgement = verdict_of(tmp_path, _name("macosx_11_0_universal2"), {_M: data})
    assert judgement.verdict == "reject"
    assert only(judgement, "minimum-os").slice == "arm64"


def test_macos_in_an_ios_wheel_is_refused(tmp_path: Path) -> None:
    name = "p-1.0-cp313-cp313-ios_13_0_arm64_iphoneos.whl"
    member = "p/m.cpython-313-iphoneos.so"
    judgement = verdict_of(tmp_path, name, {member: mach("arm64")})
    assert judgement.verdict == "reject"
    assert only(judgement, "minimum-os").evidence["claimed"] == "ios"


def test_an_honest_ios_wheel_is_accepted(tmp_path: Path) -> None:
    name = "p-1.0-cp313-cp313-ios_14_0_arm64_iphoneos.whl"
    member = "p/m.cpython-313-iphoneos.so"
    judgement = verdict_of(tmp_path, name, {member: mach("arm64", "14.0", system="ios")})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_minimum_that_no_tag_can_say_is_refused(tmp_path: Path) -> None:
    data = bytearray(mach("arm64"))
    at = data.index(struct.pack("<3I", _BUILD_VERSION, 32, 1)) + 12
    struct.pack_into("<I", data, at, 0xFFFF0000)  # macOS 65535
    judgement = verdict_of(tmp_path, _name("macosx_11_0_arm64"), {_M: bytes(data)})
    assert judgement.verdict == "reject"
    assert "minimum-os" in errors(judgement)
    assert all(finding.check != "check-crashed" for finding in judgement.findings)
