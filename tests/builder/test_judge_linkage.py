"""Libraries that another Mac does not have, interpreters that modules are tied to, signatures."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from builder.binaries.sign import sign_adhoc
from builder.checks.context import Context
from builder.judge import judge
from tests.builder.binaries.signatures import place, resigned
from tests.builder.forge import (
    MAC_SUFFIX,
    dylib,
    fat,
    mach,
    names,
    only,
    verdict_of,
    wheel,
    with_command,
)

_ARM = "p-1.0-cp311-cp311-macosx_11_0_arm64.whl"
_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
_M = f"p/m{MAC_SUFFIX}"
_SHARED = ("-shared",)
_CODE_SIGNATURE = 0x1D
_LOAD_DYLIB = 0xC
_LOAD_WEAK_DYLIB = 0x80000018
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


_LOADING = b"""
import ctypes, pathlib
for file in pathlib.Path(__file__).parent.glob("lib/libsymspg.*"):
    ctypes.CDLL(str(file))
from . import m
"""


def test_code_may_load_the_library_before_the_module(tmp_path: Path) -> None:
    """spglib: dyld takes the loaded image that bears the install name."""
    members = {
        _M: _linked("@rpath/libsymspg.2.dylib"),
        "p/lib/libsymspg.2.4.dylib": dylib("@rpath/libsymspg.2.dylib"),
        "p/__init__.py": _LOADING,
    }
    judgement = verdict_of(tmp_path, _ARM, members)
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert finding.evidence["library"] == "p/lib/libsymspg.2.4.dylib"
    assert finding.evidence["loaded_by"] == "code"


@pytest.mark.parametrize(
    ("code", "library"),
    [
        (_LOADING.replace(b"symspg", b"other"), dylib("@rpath/libsymspg.2.dylib")),
        (_LOADING.replace(b"ctypes", b"os"), dylib("@rpath/libsymspg.2.dylib")),
        (_LOADING, dylib("@rpath/libsymspg.3.dylib")),
        (_LOADING, dylib("@rpath/libsymspg.2.dylib", "x86_64")),
    ],
    ids=["not named", "no loader", "another install name", "another architecture"],
)
def test_a_library_that_nothing_loads_before_is_lost(
    tmp_path: Path, code: bytes, library: bytes
) -> None:
    members = {
        _M: _linked("@rpath/libsymspg.2.dylib"),
        "p/lib/libsymspg.2.4.dylib": library,
        "p/__init__.py": code,
    }
    judgement = verdict_of(tmp_path, _ARM, members)
    assert judgement.verdict == "reject"


def test_a_short_name_must_stand_in_the_code_with_its_prefix(tmp_path: Path) -> None:
    """Every code that uses ctypes has a z somewhere."""
    members = {
        _M: _linked("@rpath/libz.1.dylib"),
        "p/lib/libz.1.dylib": dylib("@rpath/libz.1.dylib"),
        "p/__init__.py": b"import ctypes, zlib",
    }
    assert verdict_of(tmp_path, _ARM, members).verdict == "reject"
    members["p/__init__.py"] = b"import ctypes; ctypes.CDLL('lib/libz.1.dylib')"
    assert verdict_of(tmp_path, _ARM, members).verdict == "accept"


def _bundle(data: bytes) -> bytes:
    """A signed library made an MH_BUNDLE, which zig's linker cannot write."""
    patched = bytearray(data)
    struct.pack_into("<I", patched, 12, 8)
    return resigned(bytes(patched))


def test_a_plugin_finds_what_the_program_that_opens_it_has_loaded(tmp_path: Path) -> None:
    """PySide6's plugin for Qt Designer bears the rpaths of the modules beside Qt."""
    name, rpath = "@rpath/libqt.dylib", "-Wl,-rpath,@loader_path/Qt/lib"
    plugin = _bundle(
        mach(
            flags=("-shared", rpath), exports=("qt_plugin_instance",),
            libraries=(("libqt.dylib", dylib(name)),),
        )
    )  # fmt: skip
    members = {"p/Qt/plugins/designer/libplugin.dylib": plugin, "p/Qt/lib/libqt.dylib": dylib(name)}
    judgement = verdict_of(tmp_path, _ARM, members)
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert finding.evidence["loaded_by"] == "program"
    del members["p/Qt/lib/libqt.dylib"]
    assert verdict_of(tmp_path, _ARM, members).verdict == "reject"


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


@pytest.mark.parametrize(
    "name",
    [
        "/usr/lib/libpython3.11.dylib",
        "/usr/lib/libz.so.1",
        "/usr/lib/x86_64-linux-gnu/libz.dylib",
        "/usr/lib/libssl.1.1.dylib",
        "/usr/lib/libcrypto.3.dylib",
        "/usr/lib/libgfortran.5.dylib",
        "/usr/lib/libpng16.16.dylib",
        "/usr/lib/libnobodyknows.dylib",
        "/System/Library/Frameworks/Python3.11/libthing.so",
    ],
)
def test_a_system_name_that_no_macos_has_refuses(tmp_path: Path, name: str) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name)})
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, "arm64")
    assert finding.evidence["dependency"] == name


@pytest.mark.parametrize(
    ("name", "severity"),
    [
        ("/usr/lib/libcrypto.46.dylib", "warning"),
        ("/usr/lib/swift/libswiftSomethingNew.dylib", "warning"),
        ("/System/Library/PrivateFrameworks/Some.framework/Versions/A/Some", "warning"),
        ("/System/Library/Frameworks/Some.framework/Versions/A/Some", "note"),
        ("/System/Library/Frameworks/Some.framework/Some", "note"),
    ],
)
def test_a_system_name_that_no_list_has_is_told(tmp_path: Path, name: str, severity: str) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name)})
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.severity) == ("accept", severity)
    assert finding.evidence["dependency"] == name


@pytest.mark.parametrize(
    "name",
    [
        "/usr/lib/libz.1.dylib",
        "/usr/lib/libc++.1.dylib",
        "/usr/lib/libresolv.9.dylib",
        "/usr/lib/libncurses.5.4.dylib",
        "/usr/lib/system/libsystem_kernel.dylib",
        "/System/Library/Frameworks/AppKit.framework/Versions/C/AppKit",
    ],
)
def test_a_known_system_name_is_silent(tmp_path: Path, name: str) -> None:
    judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name)})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


_NEWER = "/usr/lib/system/libsystem_darwindirectory.dylib"


def test_a_library_that_came_with_a_later_macos_refuses(tmp_path: Path) -> None:
    data = _linked(_NEWER)
    judgement = verdict_of(tmp_path, _ARM, {_M: data})
    finding = only(judgement, "macho-linkage")
    assert judgement.verdict == "reject"
    assert "only since 14.0" in finding.message
    later = _ARM.replace("11_0", "14_0")
    assert verdict_of(tmp_path, later, {_M: data}).verdict == "accept"


def test_a_weak_library_may_be_missing(tmp_path: Path) -> None:
    data = _linked("/opt/lib/libopt.dylib")
    weak = with_command(data, _LOAD_DYLIB, _LOAD_WEAK_DYLIB, holding=b"libopt")
    assert verdict_of(tmp_path, _ARM, {_M: data}).verdict == "reject"
    assert verdict_of(tmp_path, _ARM, {_M: sign_adhoc(weak, "m.so")}).verdict == "accept"


def test_a_file_that_is_no_library_is_none(tmp_path: Path) -> None:
    name = "@loader_path/libdep.dylib"
    for data in (b"libdep comes with Homebrew\n", mach("arm64", flags=("-e", "_PyInit_m"))):
        judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name), "p/libdep.dylib": data})
        finding = only(judgement, "macho-linkage")
        assert judgement.verdict == "reject"
        assert finding.evidence["found"] == ["p/libdep.dylib"]
        assert "lacks arm64" in finding.message


def test_a_library_without_the_slice_refuses_it(tmp_path: Path) -> None:
    """The library's thin architecture narrows the tag before anything is linked."""
    name = "@loader_path/libdep.dylib"
    module = fat(_linked(name, arch="x86_64"), _linked(name))
    library = dylib(name, "x86_64")
    judgement = verdict_of(tmp_path, _UNIVERSAL, {_M: module, "p/libdep.dylib": library})
    assert names(judgement) == {"cp311-cp311-macosx_11_0_x86_64"}
    finding = only(judgement, "macho-architecture")
    assert (finding.member, finding.slice) == ("p/libdep.dylib", "arm64")
    intel = dylib(name, "x86_64")
    judgement = verdict_of(tmp_path, _ARM, {_M: _linked(name), "p/libdep.dylib": intel})
    assert judgement.verdict == "reject"


def test_a_library_s_own_minimum_os_counts(tmp_path: Path) -> None:
    name = "@loader_path/libdep.dylib"
    members = {_M: _linked(name), "p/libdep.dylib": dylib(name, minimum="13.0")}
    judgement = verdict_of(tmp_path, _ARM, members)
    assert names(judgement) == {"cp311-cp311-macosx_13_0_arm64"}
    assert only(judgement, "minimum-os").member == "p/libdep.dylib"


def test_a_program_finds_libraries_from_its_own_folder(tmp_path: Path) -> None:
    name = "@executable_path/../lib/libdep.dylib"
    program = mach("arm64", flags=("-e", "_PyInit_m"), libraries=(("l.dylib", dylib(name)),))
    members = {_M: mach("arm64"), "p/bin/tool": program, "p/lib/libdep.dylib": dylib(name)}
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
