"""Libraries that another Mac does not have, interpreters that modules are tied to, signatures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.binaries.sign import sign_adhoc
from builder.checks.context import Context
from builder.judge import judge
from tests.builder.binaries.signatures import place, resigned
from tests.builder.forge import MAC_SUFFIX, dylib, fat, mach, names, only, verdict_of, wheel

_ARM = "p-1.0-cp311-cp311-macosx_11_0_arm64.whl"
_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
_M = f"p/m{MAC_SUFFIX}"
_SHARED = ("-shared",)
_CODE_SIGNATURE = 0x1D
_SPARE_COMMAND = 0x2B  # LC_DYLIB_CODE_SIGN_DRS: of the same form, and no signature


def _linked(install_name: str, *flags: str, arch: str = "arm64") -> bytes:
    """A module that loads a library by `install_name`."""
    library = (("libdep.dylib", dylib(install_name, arch)),)
    return mach(arch, "11.0", flags=(*_SHARED, *flags), libraries=library)


@pytest.mark.parametrize(
    "name",
    [
        "/opt/homebrew/opt/foo/lib/libfoo.dylib",
        "/usr/local/lib/libfoo.dylib",
        "/install/lib/libpython3.13.dylib",
        "/Library/Frameworks/Python.framework/Versions/3.11/Python",
        "@rpath/libdep.dylib",
        "@loader_path/libdep.dylib",
        "@executable_path/../lib/libdep.dylib",
        "libdep.dylib",
        "/usr/lib/../../opt/libfoo.dylib",
    ],
)
def test_a_library_that_other_machines_lack_refuses(tmp_path: Path, name: str) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name)})
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, "arm64")
    assert finding.evidence["dependency"] == name


def test_only_an_absolute_rpath_leads_nowhere(tmp_path: Path) -> None:
    members = {
        _M: _linked("@rpath/libdep.dylib", "-Wl,-rpath,/opt/lib"),
        "p/libdep.dylib": dylib("@rpath/libdep.dylib"),
    }
    finding = only(verdict_of(tmp_path, _ARM, members), "macho-linkage")
    assert finding.evidence["rpaths"] == ["/opt/lib"]


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("@loader_path/.dylibs/libdep.dylib", ()),
        ("@rpath/libdep.dylib", ("-Wl,-rpath,@loader_path/.dylibs",)),
    ],
)
def test_a_library_in_the_wheel_is_found(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    members = {_M: _linked(name, *flags), "p/.dylibs/libdep.dylib": dylib(name)}
    assert verdict_of(tmp_path, _ARM, members).verdict == "accept"


def test_a_bad_dependency_in_one_slice_refuses(tmp_path: Path) -> None:
    data = fat(mach("x86_64", "11.0"), _linked("/opt/lib/libdep.dylib"))
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: data})
    assert judgement.verdict == "reject"
    assert only(judgement, "macho-linkage").slice == "arm64"


def test_a_slice_that_no_tag_promises_may_link_what_it_likes(tmp_path: Path) -> None:
    data = fat(_linked("/opt/lib/libdep.dylib", arch="x86_64"), mach("arm64"))
    assert verdict_of(tmp_path, _ARM, {_M: data}).verdict == "accept"


def test_a_declared_library_is_a_note_with_its_reason(tmp_path: Path) -> None:
    path = wheel(tmp_path, _ARM, {_M: _linked("@rpath/libQt.dylib")})
    assert judge(path).verdict == "reject"
    judgement = judge(path, Context(external_libraries={"libQt.dylib": "PyQt5-Qt5 brings it"}))
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.severity) == ("accept", "note")
    assert finding.evidence["reason"] == "PyQt5-Qt5 brings it"


def test_libpython_serves_the_one_interpreter_that_it_names(tmp_path: Path) -> None:
    framework = "/Library/Frameworks/Python.framework/Versions/3.11/Python"
    path = wheel(tmp_path, _ARM, {_M: _linked(framework)})
    own = Context(libpython_name=framework)
    assert judge(path, own).verdict == "accept"
    assert judge(path, replace(own, portable=True)).verdict == "reject"
    assert judge(path, Context(libpython_name="/other/Python")).verdict == "reject"


def test_an_unsigned_arm64_slice_is_refused(tmp_path: Path) -> None:
    from tests.builder.forge import with_command

    data = with_command(mach("arm64"), _CODE_SIGNATURE, _SPARE_COMMAND)
    judgement = verdict_of(tmp_path, _ARM, {_M: data})
    finding = only(judgement, "code-signature")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, "arm64")


_INTEL = "p-1.0-cp311-cp311-macosx_11_0_x86_64.whl"


def _signed(arch: str) -> bytes:
    return sign_adhoc(mach(arch), "m.so")


def _changed(data: bytes, at: int = 0x1400) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


@pytest.mark.parametrize(("name", "arch"), [(_ARM, "arm64"), (_INTEL, "x86_64")])
def test_a_slice_that_was_changed_after_it_was_signed_is_refused(
    tmp_path: Path, name: str, arch: str
) -> None:
    assert verdict_of(tmp_path, name, {_M: _signed(arch)}).verdict == "accept"
    judgement = verdict_of(tmp_path, name, {_M: _changed(_signed(arch))})
    finding = only(judgement, "code-signature")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, arch)
    assert finding.evidence["directory"] == "sha256"
    assert finding.evidence["wrong_pages"] == [0 if arch == "arm64" else 1]


def test_each_directory_of_a_signature_is_judged(tmp_path: Path) -> None:
    data = resigned(mach("arm64"), (1, 2))
    assert verdict_of(tmp_path, _ARM, {_M: data}).verdict == "accept"
    judgement = verdict_of(tmp_path, _ARM, {_M: _changed(data)})
    found = {str(f.evidence["directory"]) for f in judgement.findings}
    assert (judgement.verdict, found) == ("reject", {"sha1", "sha256"})


@pytest.mark.parametrize(("name", "arch"), [(_ARM, "arm64"), (_INTEL, "x86_64")])
def test_a_malformed_signature_is_refused(tmp_path: Path, name: str, arch: str) -> None:
    data = _signed(arch)
    broken = _changed(data, place(data)[1] + 1)
    finding = only(verdict_of(tmp_path, name, {_M: broken}), "code-signature")
    assert "magic" in str(finding.evidence["fault"])


def test_a_changed_slice_of_a_fat_file_is_named(tmp_path: Path) -> None:
    data = fat(mach("x86_64", "11.0"), _changed(mach("arm64")))
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: data})
    assert judgement.verdict == "reject"
    assert only(judgement, "code-signature").slice == "arm64"


def test_a_changed_slice_that_no_tag_promises_does_no_harm(tmp_path: Path) -> None:
    data = fat(mach("x86_64"), _changed(mach("arm64")))
    assert verdict_of(tmp_path, _INTEL, {_M: data}).verdict == "accept"


def test_an_unsigned_x86_64_slice_is_normal(tmp_path: Path) -> None:
    name = "p-1.0-cp311-cp311-macosx_11_0_x86_64.whl"
    judgement = verdict_of(tmp_path, name, {_M: mach("x86_64")})
    assert judgement.verdict == "accept"
    assert names(judgement) == {"cp311-cp311-macosx_11_0_x86_64"}
