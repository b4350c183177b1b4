"""Wheels for iOS and Android: honest ones are accepted, and each way to lie is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.binaries.sign import sign_adhoc
from tests.builder.forge import android, dylib, elf, errors, fat, mach, names, only, verdict_of

_IOS = "p-1.0-cp313-cp313-ios_14_0_arm64_iphoneos.whl"
_SIMULATOR = "p-1.0-cp313-cp313-ios_14_0_arm64_iphonesimulator.whl"
_DEVICE_MODULE = "p/m.cpython-313-iphoneos.so"
_SIMULATOR_MODULE = "p/m.cpython-313-iphonesimulator.so"
_PYTHON = "@rpath/Python.framework/Python"

_ANDROID = "p-1.0-cp313-cp313-android_24_arm64_v8a.whl"
_ANDROID_MODULE = "p/m.cpython-313-aarch64-linux-android.so"


def _ios(install_name: str = _PYTHON, minimum: str = "14.0") -> bytes:
    library = mach(
        "arm64",
        minimum,
        ("helper",),
        flags=("-shared", f"-Wl,-install_name,{install_name}"),
        system="ios",
    )
    return mach("arm64", minimum, libraries=(("libdep.dylib", library),), system="ios")


def _simulator(minimum: str = "14.0") -> bytes:
    """zig's triple puts the simulator behind the version."""
    return mach("arm64", f"{minimum}-simulator", system="ios")


def test_an_honest_unsigned_ios_wheel_is_accepted(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _IOS, {_DEVICE_MODULE: _ios()})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_signature_does_no_harm_on_ios(tmp_path: Path) -> None:
    changed = bytearray(sign_adhoc(_ios(), "m.so"))
    changed[0x3000] ^= 1
    assert verdict_of(tmp_path, _IOS, {_DEVICE_MODULE: bytes(changed)}).verdict == "accept"


@pytest.mark.parametrize("platform", ["ios_13_0", "ios_14_0"])
def test_an_honest_simulator_wheel_is_accepted(tmp_path: Path, platform: str) -> None:
    """Every compiler writes 14.0 for the simulator on ARM, which is as old as that."""
    name = _SIMULATOR.replace("ios_14_0", platform)
    judgement = verdict_of(tmp_path, name, {_SIMULATOR_MODULE: _simulator()})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


@pytest.mark.parametrize(
    ("name", "member", "data", "platform"),
    [
        (_IOS, _DEVICE_MODULE, _simulator(), "iossimulator"),
        (_SIMULATOR, _SIMULATOR_MODULE, _ios(), "ios"),
        (_IOS, _DEVICE_MODULE, mach("arm64"), "macos"),
        (_SIMULATOR, _SIMULATOR_MODULE, mach("arm64"), "macos"),
    ],
)
def test_device_simulator_and_mac_are_three_systems(
    tmp_path: Path, name: str, member: str, data: bytes, platform: str
) -> None:
    judgement = verdict_of(tmp_path, name, {member: data})
    finding = only(judgement, "minimum-os")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", member, "arm64")
    assert finding.evidence["platform"] == platform


def test_ios_above_the_tag_is_retagged(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _IOS, {_DEVICE_MODULE: _ios(minimum="15.1")})
    assert (judgement.verdict, names(judgement)) == (
        "retag",
        {"cp313-cp313-ios_15_1_arm64_iphoneos"},
    )


@pytest.mark.parametrize(
    ("name", "member"), [(_IOS, _SIMULATOR_MODULE), (_SIMULATOR, _DEVICE_MODULE)]
)
def test_a_suffix_of_the_other_ios_is_refused(tmp_path: Path, name: str, member: str) -> None:
    data = _ios() if name == _IOS else _simulator()
    judgement = verdict_of(tmp_path, name, {member: data})
    assert judgement.verdict == "reject"
    assert only(judgement, "import-suffix").member == member


def test_an_ios_wheel_without_its_architecture_is_refused(tmp_path: Path) -> None:
    data = mach("x86_64", "14.0-simulator", system="ios")
    judgement = verdict_of(tmp_path, _SIMULATOR, {_SIMULATOR_MODULE: data})
    finding = only(judgement, "macho-architecture")
    assert (judgement.verdict, finding.slice) == ("reject", "arm64")
    assert finding.evidence["held"] == ["x86_64"]


def test_an_empty_ios_slice_is_refused(tmp_path: Path) -> None:
    intel = mach("x86_64", "14.0-simulator", system="ios")
    data = fat(intel, mach("arm64", "14.0-simulator", ("nothing",), system="ios"))
    judgement = verdict_of(tmp_path, _SIMULATOR, {_SIMULATOR_MODULE: data})
    finding = only(judgement, "entry-point")
    assert (judgement.verdict, finding.slice) == ("reject", "arm64")


@pytest.mark.parametrize(
    "name",
    [
        "/opt/homebrew/lib/libfoo.dylib",
        "@rpath/libfoo.dylib",
        "/install/lib/libpython3.13.dylib",
        "/usr/lib/libpython3.13.so",
    ],
)
def test_an_ios_module_loads_what_the_device_has(tmp_path: Path, name: str) -> None:
    judgement = verdict_of(tmp_path, _IOS, {_DEVICE_MODULE: _ios(name)})
    finding = only(judgement, "macho-linkage")
    assert (judgement.verdict, finding.evidence["dependency"]) == ("reject", name)


def test_python_framework_is_one_build_s_own_on_a_mac(tmp_path: Path) -> None:
    data = mach("arm64", libraries=(("libdep.dylib", dylib(_PYTHON)),))
    name = "p-1.0-cp313-cp313-macosx_11_0_arm64.whl"
    judgement = verdict_of(tmp_path, name, {"p/m.cpython-313-darwin.so": data})
    assert judgement.verdict == "reject"
    assert only(judgement, "macho-linkage").evidence["dependency"] == _PYTHON


@pytest.mark.parametrize(
    ("platform", "target", "triple"),
    [
        ("android_24_arm64_v8a", "aarch64-linux-musl", "aarch64-linux-android"),
        ("android_24_x86_64", "x86_64-linux-musl", "x86_64-linux-android"),
        ("android_24_armeabi_v7a", "arm-linux-musleabihf", "arm-linux-androideabi"),
    ],
)
def test_an_honest_android_wheel_is_accepted(
    tmp_path: Path, platform: str, target: str, triple: str
) -> None:
    member = f"p/m.cpython-313-{triple}.so"
    data = android(target=target)
    judgement = verdict_of(tmp_path, f"p-1.0-cp313-cp313-{platform}.whl", {member: data})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_small_pages_are_refused_on_64_bits_only(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _ANDROID, {_ANDROID_MODULE: android(page=4096)})
    finding = only(judgement, "page-alignment")
    assert (judgement.verdict, finding.member) == ("reject", _ANDROID_MODULE)
    assert (finding.slice, finding.evidence["alignment"]) == ("aarch64", 4096)
    narrow = android(target="arm-linux-musleabihf", page=4096)
    name, member = _ANDROID.replace("arm64_v8a", "armeabi_v7a"), "p/m.so"
    assert verdict_of(tmp_path, name, {member: narrow}).verdict == "accept"


def test_a_newer_api_level_is_retagged(tmp_path: Path) -> None:
    members = {_ANDROID_MODULE: android(), "p/libdep.so": android(28, (), exports=("f",), uses="")}
    judgement = verdict_of(tmp_path, _ANDROID, members)
    finding = only(judgement, "android-api")
    assert (judgement.verdict, finding.member) == ("retag", "p/libdep.so")
    assert names(judgement) == {"cp313-cp313-android_28_arm64_v8a"}
    assert finding.evidence["api"] == 28


@pytest.mark.parametrize("api", [21, None, 10_000])
def test_an_older_or_unsaid_api_level_leaves_the_tag(tmp_path: Path, api: int | None) -> None:
    judgement = verdict_of(tmp_path, _ANDROID, {_ANDROID_MODULE: android(api)})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


@pytest.mark.parametrize(
    ("library", "python"),
    [
        ("libc.so.6", "cp313-cp313"),
        ("libc++_shared.so", "cp313-cp313"),
        ("libaaudio.so", "cp313-cp313"),
        ("libpython3.12.so", "cp313-cp313"),
        ("libpython3.13t.so", "cp313-cp313"),
        ("libpython3.13.so", "cp313-cp313t"),
        ("libpython3.13.so", "cp313-abi3"),
    ],
)
def test_a_library_that_android_lacks_is_refused(tmp_path: Path, library: str, python: str) -> None:
    data = android(needs=(library, "libpython3.13.so"))
    name = _ANDROID.replace("cp313-cp313", python)
    judgement = verdict_of(tmp_path, name, {"p/m.so": data})
    found = {f.evidence["library"] for f in judgement.findings if f.check == "android-linkage"}
    assert judgement.verdict == "reject"
    assert library in found


@pytest.mark.parametrize(
    ("library", "tag"),
    [
        ("libpython3.so", "cp313-abi3-android_24"),
        ("libpython3.13t.so", "cp313-cp313t-android_24"),
        ("libssl_python.so", "cp313-cp313-android_24"),
        ("libaaudio.so", "cp313-cp313-android_26"),
    ],
)
def test_a_library_that_such_an_android_has_is_accepted(
    tmp_path: Path, library: str, tag: str
) -> None:
    own = () if "libpython" in library else ("libpython3.13.so",)
    name = f"p-1.0-{tag}_arm64_v8a.whl"
    judgement = verdict_of(tmp_path, name, {"p/m.so": android(needs=(library, *own))})
    assert (judgement.verdict, errors(judgement)) == ("accept", set())


def test_a_module_that_names_no_libpython_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _ANDROID, {_ANDROID_MODULE: android(needs=("libc.so",))})
    finding = only(judgement, "android-linkage")
    assert (judgement.verdict, finding.member) == ("reject", _ANDROID_MODULE)
    assert finding.evidence["needed"] == ["libc.so"]


def test_libpython_may_be_named_by_a_library_of_the_wheel(tmp_path: Path) -> None:
    members = {
        _ANDROID_MODULE: android(needs=("libdep.so",)),
        "p/libdep.so": android(exports=("f",), soname="libdep.so"),
    }
    assert verdict_of(tmp_path, _ANDROID, members).verdict == "accept"


def test_a_linux_library_in_an_android_wheel_is_refused(tmp_path: Path) -> None:
    name = _ANDROID.replace("arm64_v8a", "x86_64")
    source = "extern int puts(const char *);\nint use(void) { return puts(0); }\n"
    judgement = verdict_of(tmp_path, name, {"p/m.so": elf(flags=(), body=source)})
    assert judgement.verdict == "reject"
    assert "libc.so.6" in {str(f.evidence.get("library")) for f in judgement.findings}


@pytest.mark.parametrize("suffix", ["aarch64-linux-gnu", "x86_64-linux-android"])
def test_a_suffix_of_another_system_or_architecture_is_refused(tmp_path: Path, suffix: str) -> None:
    member = f"p/m.cpython-313-{suffix}.so"
    judgement = verdict_of(tmp_path, _ANDROID, {member: android()})
    assert judgement.verdict == "reject"
    assert only(judgement, "import-suffix").member == member


def test_another_architecture_in_an_android_wheel_is_refused(tmp_path: Path) -> None:
    data = android(target="x86_64-linux-musl")
    judgement = verdict_of(tmp_path, _ANDROID, {_ANDROID_MODULE: data})
    finding = only(judgement, "elf-architecture")
    assert (judgement.verdict, finding.slice) == ("reject", "x86_64")
