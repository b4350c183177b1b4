"""Lies about the architecture of macOS wheels: the verdict, the exact tags, the finding."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from store.tags import supported_tags
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
    wheel,
)

_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
_ARM = "p-1.0-cp311-cp311-macosx_11_0_arm64.whl"
_INTEL = "p-1.0-cp311-cp311-macosx_11_0_x86_64.whl"
_M = f"p/m{MAC_SUFFIX}"


def _other(name: str, arch: str = "x86_64") -> bytes:
    return mach(arch, "11.0", (f"PyInit_{name}",))


def test_an_honest_universal2_wheel_is_accepted(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: universal(), "p/__init__.py": b""})
    assert (judgement.verdict, judgement.findings) == ("accept", ())
    assert names(judgement) == {"cp311-cp311-macosx_11_0_universal2"}


def test_universal2_over_x86_64_alone_is_retagged(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: mach("x86_64")})
    assert judgement.verdict == "retag"
    assert names(judgement) == {"cp311-cp311-macosx_11_0_x86_64"}
    finding = only(judgement, "macho-architecture")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert finding.evidence["held"] == ["x86_64"]


def test_universal2_over_x86_64_alone_does_not_serve_arm64(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64")})
    arm = frozenset(supported_tags("cp311", "cp311", "macosx_14_0_arm64"))
    judgement = judge(path, Context(target="cp311-macosx_14_0_arm64", target_tags=arm))
    assert (judgement.verdict, judgement.tags) == ("reject", frozenset())
    assert only(judgement, "serves-target").evidence["holds"] == ["cp311-cp311-macosx_11_0_x86_64"]


def test_one_thin_member_among_fat_ones_decides(tmp_path: Path) -> None:
    honest = universal(exports=("PyInit_a",))
    members = {f"p/a{MAC_SUFFIX}": honest, _M: mach("arm64")}
    judgement = verdict_of(tmp_path, _UNIVERSAL, members)
    assert judgement.verdict == "retag"
    assert names(judgement) == {"cp311-cp311-macosx_11_0_arm64"}
    finding = only(judgement, "macho-architecture")
    assert (finding.member, finding.slice) == (_M, "x86_64")


def test_disjoint_thin_members_leave_nothing(tmp_path: Path) -> None:
    members = {f"p/a{MAC_SUFFIX}": _other("a"), _M: mach("arm64")}
    judgement = verdict_of(tmp_path, _UNIVERSAL, members)
    assert (judgement.verdict, judgement.tags) == ("reject", frozenset())
    assert {finding.slice for finding in judgement.findings} == {"arm64", "x86_64"}


def test_an_x86_64_binary_is_no_arm64_wheel(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: mach("x86_64")})
    assert judgement.verdict == "reject"
    finding = only(judgement, "macho-architecture")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert finding.evidence["held"] == ["x86_64"]


def test_an_x86_64_tag_over_arm64_alone_is_corrected(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _INTEL, {_M: mach("arm64", "12.0")})
    assert judgement.verdict == "retag"
    assert names(judgement) == {"cp311-cp311-macosx_12_0_arm64"}


def test_a_fat_file_of_one_slice_is_not_universal2(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: fat(mach("arm64"))})
    assert names(judgement) == {"cp311-cp311-macosx_11_0_arm64"}
    assert only(judgement, "macho-architecture").evidence["fat"] is True


def test_a_wheel_fat_beyond_its_tag_is_accepted(tmp_path: Path) -> None:
    assert verdict_of(tmp_path, _ARM, {_M: universal()}).verdict == "accept"


def test_an_empty_slice_is_not_a_module(tmp_path: Path) -> None:
    empty = fat(mach("x86_64"), mach("arm64", "11.0", ("nothing",)))
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: empty})
    assert judgement.verdict == "retag"
    assert names(judgement) == {"cp311-cp311-macosx_11_0_x86_64"}
    finding = only(judgement, "entry-point")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert "PyInit_m" in str(finding.evidence["expected"])


@pytest.mark.parametrize(("arch", "subtype"), [("arm64", 2), ("x86_64", 8)])
def test_arm64e_and_x86_64h_are_not_the_plain_ones(tmp_path: Path, arch: str, subtype: int) -> None:
    data = bytearray(mach(arch))
    struct.pack_into("<I", data, 8, subtype)
    judgement = verdict_of(tmp_path, _ARM if arch == "arm64" else _INTEL, {_M: bytes(data)})
    assert judgement.verdict == "reject"
    held = only(judgement, "macho-architecture").evidence["held"]
    assert held == ["arm64e" if arch == "arm64" else "x86_64h"]


def test_a_thin_script_counts(tmp_path: Path) -> None:
    members = {_M: universal(), "p-1.0.data/scripts/tool": mach("arm64", exports=("main",))}
    judgement = verdict_of(tmp_path, _UNIVERSAL, members)
    assert names(judgement) == {"cp311-cp311-macosx_11_0_arm64"}
    assert only(judgement, "macho-architecture").member == "p-1.0.data/scripts/tool"


def test_a_thin_binary_behind_an_odd_name_counts(tmp_path: Path) -> None:
    members = {_M: universal(), "p/data.bin": mach("x86_64")}
    judgement = verdict_of(tmp_path, _UNIVERSAL, members)
    assert names(judgement) == {"cp311-cp311-macosx_11_0_x86_64"}


def test_a_vendored_library_that_lacks_the_architecture_leaves_nothing(tmp_path: Path) -> None:
    library = dylib("@rpath/libdep.dylib", "x86_64")
    judgement = verdict_of(tmp_path, _ARM, {_M: mach("arm64"), "p/.dylibs/libdep.dylib": library})
    assert judgement.verdict == "reject"
    assert only(judgement, "macho-architecture").member == "p/.dylibs/libdep.dylib"


def _lying_entry() -> bytes:
    data = bytearray(universal())
    struct.pack_into(">I", data, 8, 0x0100000C)  # the first entry calls its x86_64 slice arm64
    struct.pack_into(">I", data, 28, 0x01000007)
    return bytes(data)


def _overlapping() -> bytes:
    data = bytearray(universal())
    struct.pack_into(">I", data, 8 + 20 + 8, 0x4000)
    return bytes(data)


def _no_progress() -> bytes:
    data = bytearray(mach("arm64"))
    struct.pack_into("<I", data, 36, 0)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [_lying_entry(), _overlapping(), universal()[:-20000], mach("arm64")[:3000], _no_progress()],
    ids=["lying-entry", "overlap", "cut-fat", "cut-thin", "command-of-no-size"],
)
def test_a_broken_binary_is_refused(tmp_path: Path, data: bytes) -> None:
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: data})
    assert judgement.verdict == "reject"
    assert only(judgement, "malformed-binary").member == _M


@pytest.mark.parametrize(
    ("flags", "kind"), [(("-c",), "MH_OBJECT"), (("-e", "_PyInit_m"), "MH_EXECUTE")]
)
def test_an_object_or_a_program_is_no_module(
    tmp_path: Path, flags: tuple[str, ...], kind: str
) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: mach("arm64", flags=flags)})
    assert judgement.verdict == "reject"
    finding = only(judgement, "file-type")
    assert (finding.member, finding.slice, finding.evidence["type"]) == (_M, "arm64", kind)


def test_an_elf_file_in_a_macos_wheel_is_a_warning(tmp_path: Path) -> None:
    from tests.builder.forge import zig_elf

    members = {_M: mach("arm64"), "p/linux.bin": zig_elf("aarch64-linux-gnu.2.17")}
    judgement = verdict_of(tmp_path, _ARM, members)
    assert (judgement.verdict, errors(judgement)) == ("accept", set())
    assert only(judgement, "elf-architecture").member == "p/linux.bin"
