"""The list of macOS's libraries, and how it is made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.checks.apple.names import LIST, is_impossible, is_system, known_since
from builder.checks.apple.regenerate import (
    install_names,
    installed_as,
    main,
    names_since,
    with_sdks,
)

_STUB = """--- !tapi-tbd
tbd-version:     4
install-name:    '/usr/lib/libSystem.B.dylib'
exports:
  - targets:         [ x86_64-macos ]
    symbols:         [ _install ]
--- !tapi-tbd
install-name:    /usr/lib/system/libdyld.dylib
"""


@pytest.mark.parametrize(
    "name",
    [
        "/usr/lib/libSystem.B.dylib",
        "/usr/lib/libc++.1.dylib",
        "/usr/lib/system/libdyld.dylib",
        "/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation",
    ],
)
def test_what_every_mac_has_is_known(name: str) -> None:
    assert known_since()[name] == (0, 0)
    assert not is_impossible(name)


@pytest.mark.parametrize(
    "name",
    [
        "/usr/lib/libssl.0.9.8.dylib",
        "/usr/lib/libcrypto.35.dylib",
        "/usr/lib/libssl.48.dylib",
        "/usr/lib/libcrypto.dylib",
        "/usr/lib/libpython2.7.dylib",
        "/usr/lib/libgcc_s.1.dylib",
        "/usr/lib/libstdc++.6.dylib",
        "/usr/lib/swift/libswiftCore.dylib",
        "/usr/lib/libcrypto.46.dylib",
        "/usr/lib/libncurses.5.4.dylib",
        "/usr/lib/libpcap.A.dylib",
        "/usr/lib/libcharset.1.dylib",
        "/usr/lib/libicucore.A.dylib",
        "/usr/lib/libc++abi.dylib",
        "/usr/lib/libresolv.9.dylib",
        "/usr/lib/libtcl8.6.dylib",
        "/System/Library/Frameworks/Accelerate.framework/Versions/A/Frameworks/vecLib.framework/"
        "Versions/A/libBLAS.dylib",
        "/System/Library/Frameworks/Tcl.framework/Versions/8.5/Tcl",
        "/System/Library/Frameworks/Metal.framework/Metal",
    ],
)
def test_what_apple_ships_or_shipped_is_not_called_impossible(name: str) -> None:
    assert is_system(name)
    assert not is_impossible(name)


@pytest.mark.parametrize(
    "name",
    [
        "libusb.dylib",
        "libnobodyknows.dylib",
        "libzstd.1.dylib",
        "libpython3.13.dylib",
        "libz.so.1",
        "libz.evil.dylib",
        "lib" + "1" * 60_000 + "x.dylib",
    ],
    ids=lambda name: name[:20],
)
def test_what_no_list_has_in_any_version_is_impossible(name: str) -> None:
    assert is_impossible(f"/usr/lib/{name}")


def test_a_folder_of_which_too_few_are_known_is_not_called_impossible() -> None:
    assert not is_impossible("/usr/lib/swift/libswiftSomethingNew.dylib")
    assert not is_impossible("/usr/lib/system/libsystem_new.dylib")


def test_nothing_in_the_list_is_impossible() -> None:
    assert not [name for name in known_since() if is_impossible(name) or not is_system(name)]


def test_a_name_that_climbs_out_is_no_system_name() -> None:
    assert not is_system("/usr/lib/../local/lib/libz.dylib")
    assert not is_system("/usr/lib64/libz.dylib")


def test_the_list_is_written_as_the_script_writes_it() -> None:
    table = json.loads(LIST.read_text("ascii"))
    assert LIST.read_text("ascii") == json.dumps(table, indent=0, sort_keys=True) + "\n"


def test_install_names_are_read_from_a_stub() -> None:
    names = ["/usr/lib/libSystem.B.dylib", "/usr/lib/system/libdyld.dylib"]
    assert list(install_names(_STUB)) == names


def test_the_oldest_release_counts() -> None:
    found = [("/usr/lib/a.dylib", "11.0"), ("/usr/lib/a.dylib", "9.0"), ("@rpath/b", "11.0")]
    assert names_since(found) == {"/usr/lib/a.dylib": "9.0"}


def test_an_sdk_adds_what_its_stubs_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from tests.builder.forge import dylib, mach, wheel

    monkeypatch.setattr("builder.checks.apple.regenerate.LIST", tmp_path / "names.json")
    monkeypatch.setattr("builder.checks.apple.regenerate.STUBS", ())
    library = tmp_path / "sdk" / "usr" / "lib" / "libdeep.9.tbd"
    library.parent.mkdir(parents=True)
    library.write_text(_STUB.replace("libSystem.B", "libdeep"))
    framework = tmp_path / "sdk/System/Library/Frameworks/New.framework/Versions/A/New.tbd"
    framework.parent.mkdir(parents=True)
    framework.touch()
    old = tmp_path / "MacOSX10.9.sdk" / "usr" / "lib" / "libold.A.dylib"
    old.parent.mkdir(parents=True)
    old.touch()
    (tmp_path / "sdk" / "SDKSettings.json").write_text('{"Version": "12.3"}')
    module = mach("arm64", libraries=(("l.dylib", dylib("/usr/lib/libseen.dylib")),))
    (tmp_path / "wheels").mkdir()
    wheel(
        tmp_path / "wheels", "p-1.0-cp311-cp311-macosx_11_0_arm64.whl",
        {"p/m.cpython-311-darwin.so": module},
    )  # fmt: skip
    options = ["--ziglang", tmp_path, "--wheels", tmp_path / "wheels", "--sdk", tmp_path / "sdk"]
    options += ["--sdk", tmp_path / "MacOSX10.9.sdk"]
    run = CliRunner().invoke(main, [str(option) for option in options])
    assert run.exit_code == 0, run.output
    assert json.loads((tmp_path / "names.json").read_text()) == {
        "/System/Library/Frameworks/New.framework/Versions/A/New": "0.0",
        "/usr/lib/libSystem.B.dylib": "0.0",
        "/usr/lib/libdeep.9.dylib": "0.0",
        "/usr/lib/libdeep.dylib": "0.0",
        "/usr/lib/libold.A.dylib": "0.0",
        "/usr/lib/libseen.dylib": "0.0",
        "/usr/lib/system/libdyld.dylib": "0.0",
    }


def test_an_sdk_says_that_a_dated_name_is_older_never_that_it_is_newer() -> None:
    since = {"/usr/lib/a.dylib": "14.0", "/usr/lib/b.dylib": "11.0"}
    found = [
        ("/usr/lib/a.dylib", "12.3"),
        ("/usr/lib/b.dylib", "12.3"),
        ("/usr/lib/c.dylib", "9.0"),
    ]
    dated = {"/usr/lib/a.dylib": "12.3", "/usr/lib/b.dylib": "11.0", "/usr/lib/c.dylib": "0.0"}
    assert with_sdks(since, found) == dated


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/usr/lib/libz.1.tbd", "/usr/lib/libz.1.dylib"),
        ("/usr/lib/libz.1.dylib", "/usr/lib/libz.1.dylib"),
        ("/usr/lib/crt1.o", None),
        ("/S/A.framework/A.tbd", "/S/A.framework/A"),
        ("/S/A.framework/Versions/B/A", "/S/A.framework/Versions/B/A"),
        ("/S/A.framework/Versions/B/libx.tbd", "/S/A.framework/Versions/B/libx.dylib"),
        ("/S/A.framework/Headers/A.h", None),
    ],
)
def test_where_a_stub_lies_says_where_the_library_is(path: str, name: str | None) -> None:
    assert installed_as(path) == name


def test_a_folder_that_is_no_sdk_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    monkeypatch.setattr("builder.checks.apple.regenerate.STUBS", ())
    run = CliRunner().invoke(main, ["--ziglang", str(tmp_path), "--sdk", str(tmp_path)])
    assert (run.exit_code, "no SDK of macOS" in run.output) == (2, True)


def test_a_missing_wheel_of_ziglang_is_a_usage_error(tmp_path: Path) -> None:
    from click.testing import CliRunner

    run = CliRunner().invoke(main, ["--ziglang", str(tmp_path)])
    assert (run.exit_code, "ziglang 0.9.1" in run.output) == (2, True)
