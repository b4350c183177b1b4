"""Each undefined symbol of a Mach-O slice is looked for where dyld would."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.verify import verify_for_store
from store.verdict import ProofLevel, VerifiedWheel
from tests.builder.forge import (
    calling,
    dylib,
    elf,
    errors,
    fat,
    mach,
    names,
    only,
    verdict_of,
    wheel,
)

_ARM = "macosx_11_0_arm64"
_INTEL = "macosx_10_13_x86_64"
_M = "p/m.cpython-312-darwin.so"
_NAME = f"p-1.0-cp312-cp312-{_ARM}.whl"


@cache
def _mach(*symbols: str, weak: tuple[str, ...] = (), arch: str = "arm64") -> bytes:
    minimum = "11.0" if arch == "arm64" else "10.13"
    return mach(arch, minimum, body=calling(*symbols, weak=weak))


@pytest.mark.parametrize(
    ("arch", "platform", "symbol", "since"),
    [
        ("arm64", _ARM, "mkfifoat", "13.0"),
        ("arm64", "macosx_14_0_arm64", "strchrnul", "15.0"),
        ("x86_64", _INTEL, "preadv", "11.0"),
        ("x86_64", "macosx_10_11_x86_64", "clock_gettime", "10.12"),
    ],
)
def test_a_strong_symbol_of_a_later_macos_is_refused(
    tmp_path: Path, arch: str, platform: str, symbol: str, since: str
) -> None:
    data = mach(arch, "11.0" if arch == "arm64" else "10.9", body=calling(symbol))
    judgement = verdict_of(tmp_path, f"p-1.0-cp312-cp312-{platform}.whl", {_M: data})
    finding = only(judgement, "link-symbols")
    assert (judgement.verdict, finding.severity) == ("reject", "error")
    assert (finding.member, finding.slice) == (_M, arch)
    assert finding.evidence["symbols"] == {symbol: since}


def test_a_tag_that_starts_with_the_symbol_s_macos_is_accepted(tmp_path: Path) -> None:
    name = "p-1.0-cp312-cp312-macosx_13_0_arm64.whl"
    judgement = verdict_of(tmp_path, name, {_M: _mach("mkfifoat")})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_weak_symbol_of_a_later_macos_is_reported(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _NAME, {_M: _mach(weak=("mkfifoat",))})
    finding = only(judgement, "link-symbols")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert (finding.member, finding.slice) == (_M, "arm64")
    assert finding.evidence["symbols"] == {"mkfifoat": "13.0"}


def test_one_slice_that_asks_for_too_much_is_let_go(tmp_path: Path) -> None:
    data = fat(_mach(arch="x86_64"), _mach("mkfifoat"))
    name = "p-1.0-cp312-cp312-macosx_10_13_universal2.whl"
    judgement = verdict_of(tmp_path, name, {_M: data})
    assert (judgement.verdict, names(judgement)) == ("retag", {f"cp312-cp312-{_INTEL}"})
    assert only(judgement, "link-symbols").slice == "arm64"


def test_a_library_that_was_there_for_one_architecture_only(tmp_path: Path) -> None:
    """The linker left the symbols of the other slice to dyld, without a word."""
    data = fat(_mach("zmq_msg_init", arch="x86_64"), _mach())
    name = "p-1.0-cp312-cp312-macosx_10_13_universal2.whl"
    judgement = verdict_of(tmp_path, name, {_M: data})
    assert (judgement.verdict, names(judgement)) == ("retag", {f"cp312-cp312-{_ARM}"})
    finding = only(judgement, "link-symbols")
    assert (finding.slice, finding.evidence["symbols"]) == ("x86_64", ["zmq_msg_init"])


def test_a_symbol_that_nobody_has_is_refused_unless_weak(tmp_path: Path) -> None:
    assert errors(verdict_of(tmp_path, _NAME, {_M: _mach("zmq_msg_init")})) == {"link-symbols"}
    judgement = verdict_of(tmp_path, _NAME, {_M: _mach(weak=("zmq_msg_init",))})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_vendored_library_brings_its_symbols(tmp_path: Path) -> None:
    body = "extern void helper(void); void use(void) { helper(); }"
    members = {_M: mach("arm64", body=body), "p/libdep.dylib": dylib("@rpath/libdep.dylib")}
    judgement = verdict_of(tmp_path, _NAME, members)
    assert (judgement.verdict, judgement.findings) == ("accept", ())
    del members["p/libdep.dylib"]
    assert errors(verdict_of(tmp_path, _NAME, members)) == {"link-symbols"}


@pytest.mark.parametrize(
    ("library", "symbols", "verdict"),
    [
        (
            "/System/Library/Frameworks/IOKit.framework/Versions/A/IOKit",
            ("IOMasterPort",),
            "accept",
        ),
        ("/usr/lib/libc++.1.dylib", ("__cxa_throw",), "accept"),
        ("/usr/lib/libc++.1.dylib", ("zmq_msg_init",), "reject"),
        ("/usr/lib/libsqlite3.dylib", ("sqlite3_open",), "accept"),
    ],
)
def test_a_library_without_a_list_may_have_what_it_is_named_for(
    tmp_path: Path, library: str, symbols: tuple[str, ...], verdict: str
) -> None:
    data = mach(
        "arm64", body=calling(*symbols), libraries=(("libsystem.dylib", dylib(library)),),
    )  # fmt: skip
    judgement = verdict_of(tmp_path, _NAME, {_M: data})
    finding = only(judgement, "link-symbols")
    severity = "note" if verdict == "accept" else "error"
    assert (judgement.verdict, finding.severity) == (verdict, severity)
    assert finding.evidence["symbols"] == list(symbols)


def test_core_foundation_comes_with_the_interpreter(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _NAME, {_M: _mach("CFBundleGetMainBundle")})
    assert (judgement.verdict, only(judgement, "link-symbols").severity) == ("accept", "note")


@pytest.mark.parametrize(
    ("interpreter", "symbol", "verdict"),
    [
        ("cp311", "PyErr_SetString", "accept"),
        ("cp311", "PyUnicode_AsUTF8", "accept"),
        ("cp38", "PyObject_CallNoArgs", "reject"),  # since 3.9
        ("cp313", "PyUnicode_FromUnicode", "reject"),  # until 3.11
        ("cp311", "PyErr_SetStrings", "reject"),  # never
        ("cp311", "_PyLong_AsTime_t", "accept"),
        ("cp316", "PyErr_SetStrings", "accept"),  # no list
    ],
)
def test_a_symbol_of_another_cpython_is_refused(
    tmp_path: Path, interpreter: str, symbol: str, verdict: str
) -> None:
    member = f"p/m.cpython-{interpreter[2:]}-darwin.so"
    name = f"p-1.0-{interpreter}-{interpreter}-{_ARM}.whl"
    judgement = verdict_of(tmp_path, name, {member: _mach(symbol)})
    assert judgement.verdict == verdict
    if verdict == "reject":
        finding = only(judgement, "link-symbols")
        assert (finding.member, finding.evidence["symbols"]) == (member, [symbol])


def test_a_private_symbol_of_a_later_cpython_may_have_come_with_a_patch(tmp_path: Path) -> None:
    members = {"p/m.cpython-38-darwin.so": _mach("_PyErr_ChainExceptions1")}
    judgement = verdict_of(tmp_path, f"p-1.0-cp38-cp38-{_ARM}.whl", members)
    assert (judgement.verdict, only(judgement, "link-symbols").severity) == ("accept", "note")


def test_free_threaded_cpython_has_a_list_of_its_own(tmp_path: Path) -> None:
    free, shared = "p/m.cpython-313t-darwin.so", "p/m.cpython-313-darwin.so"
    data = _mach("_Py_MergeZeroLocalRefcount")
    assert verdict_of(tmp_path, f"p-1.0-cp313-cp313t-{_ARM}.whl", {free: data}).findings == ()
    assert verdict_of(tmp_path, f"p-1.0-cp313-cp313-{_ARM}.whl", {shared: data}).verdict == "reject"


@pytest.mark.parametrize(
    ("members", "platform", "proof"),
    [
        ({_M: _mach("malloc", "PyErr_SetString")}, _ARM, "link-checked"),
        ({_M: _mach("malloc", weak=("mkfifoat",))}, _ARM, "link-checked"),
        ({_M: _mach("CFBundleGetMainBundle")}, _ARM, "statically-verified"),
        ({"p/m.cpython-312-x86_64-linux-gnu.so": elf()}, "manylinux_2_17_x86_64", None),
        ({_M: _mach(), "p/data.elf": elf()}, _ARM, "statically-verified"),
        ({"p/__init__.py": b""}, _ARM, "statically-verified"),
    ],
)
def test_the_proof_says_whether_every_symbol_was_found(
    tmp_path: Path, members: dict[str, bytes], platform: str, proof: ProofLevel | None
) -> None:
    path = wheel(tmp_path, f"p-1.0-cp312-cp312-{platform}.whl", members)
    out = tmp_path / "out"
    out.mkdir()
    verified = verify_for_store(path, Context(), out)
    assert isinstance(verified, VerifiedWheel)
    assert verified.proof == (proof or "statically-verified")
