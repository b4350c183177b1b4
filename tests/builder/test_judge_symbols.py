"""Symbols: what an abi3 tag may use, what a slice must find, and where."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from tests.builder.forge import (
    calling,
    elf,
    errors,
    fat,
    mach,
    names,
    only,
    pe,
    verdict_of,
    wheel,
)

_ARM = "macosx_11_0_arm64"
_MANY = "manylinux_2_17_x86_64"
_ABI3 = "p/m.abi3.so"


@cache
def _mach(*symbols: str, weak: tuple[str, ...] = (), arch: str = "arm64") -> bytes:
    minimum = "11.0" if arch == "arm64" else "10.13"
    return mach(arch, minimum, body=calling(*symbols, weak=weak))


@cache
def _elf(*symbols: str, weak: tuple[str, ...] = ()) -> bytes:
    return elf(body=calling(*symbols, weak=weak))


@pytest.mark.parametrize(
    ("claim", "symbols", "since"),
    [
        ("cp38-abi3", ("PyBuffer_Release",), 11),
        ("cp36-abi3", ("PyModuleDef_Init", "PyType_GetSlot", "PyCMethod_New"), 9),
        ("cp3-abi3", ("PyErr_SetImportErrorSubclass",), 6),
    ],
)
def test_a_newer_symbol_raises_an_abi3_tag_to_its_version(
    tmp_path: Path, claim: str, symbols: tuple[str, ...], since: int
) -> None:
    for platform, data, arch in (
        (_ARM, _mach(*symbols), "arm64"),
        (_MANY, _elf(*symbols), "x86_64"),
    ):
        judgement = verdict_of(tmp_path, f"p-1.0-{claim}-{platform}.whl", {_ABI3: data})
        assert (judgement.verdict, names(judgement)) == ("retag", {f"cp3{since}-abi3-{platform}"})
        finding = only(judgement, "abi3-symbols")
        assert (finding.member, finding.slice, finding.severity) == (_ABI3, arch, "error")
        assert finding.evidence["symbols"] == {symbols[-1]: f"3.{since}"}


@pytest.mark.parametrize(
    ("claim", "symbols", "weak"),
    [
        ("cp311-abi3", ("PyBuffer_Release", "_Py_Dealloc", "PyErr_SetString"), ()),
        ("cp38-abi3", ("PyErr_SetString",), ("PyBuffer_Release",)),
        ("cp311-cp311", ("PyBuffer_Release", "_PyObject_GetDictPtr"), ()),
    ],
)
def test_a_tag_that_its_symbols_keep_to_is_accepted(
    tmp_path: Path, claim: str, symbols: tuple[str, ...], weak: tuple[str, ...]
) -> None:
    for platform, data in ((_ARM, _mach(*symbols, weak=weak)), (_MANY, _elf(*symbols, weak=weak))):
        judgement = verdict_of(tmp_path, f"p-1.0-{claim}-{platform}.whl", {_ABI3: data})
        assert (judgement.verdict, errors(judgement)) == ("accept", set())


def test_one_slice_with_a_newer_symbol_raises_the_tag(tmp_path: Path) -> None:
    data = fat(_mach(arch="x86_64"), _mach("PyBuffer_Release"))
    name = "p-1.0-cp38-abi3-macosx_10_13_universal2.whl"
    judgement = verdict_of(tmp_path, name, {_ABI3: data})
    assert names(judgement) == {"cp311-abi3-macosx_10_13_universal2"}
    assert only(judgement, "abi3-symbols").slice == "arm64"


@pytest.mark.parametrize("symbol", ["_PyObject_GetDictPtr", "PyUnicode_AsUTF8"])
def test_a_symbol_outside_the_stable_abi_is_for_its_builder_alone(
    tmp_path: Path, symbol: str
) -> None:
    path = wheel(tmp_path, f"p-1.0-cp38-abi3-{_ARM}.whl", {_ABI3: _mach(symbol)})
    refused = judge(path)
    finding = only(refused, "abi3-symbols")
    assert (refused.verdict, finding.member, finding.slice) == ("reject", _ABI3, "arm64")
    assert (finding.evidence["symbols"], finding.evidence["count"]) == ([symbol], 1)
    known = judge(path, Context(built_by="cp311"))
    assert (known.verdict, names(known)) == ("retag", {f"cp311-cp311-{_ARM}"})


def test_a_symbol_of_debug_builds_is_outside_the_stable_abi(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-cp38-abi3-{_MANY}.whl", {_ABI3: _elf("_Py_RefTotal")})
    assert only(judgement, "abi3-symbols").evidence["symbols"] == ["_Py_RefTotal"]


def test_a_builder_outside_the_claim_proves_nothing(tmp_path: Path) -> None:
    path = wheel(tmp_path, f"p-1.0-cp312-abi3-{_ARM}.whl", {_ABI3: _mach("_PyObject_GetDictPtr")})
    assert judge(path, Context(built_by="cp311")).verdict == "reject"
    newer = {_ABI3: _mach("_PyObject_GetDictPtr", "PyBuffer_Release")}
    path = wheel(tmp_path, f"p-1.0-cp38-abi3-{_ARM}.whl", newer)
    assert judge(path, Context(built_by="cp310")).verdict == "reject"


def test_a_project_s_own_symbols_are_its_own(tmp_path: Path) -> None:
    library = mach(
        "arm64",
        "11.0",
        ("PySpam_Helper",),
        flags=("-shared", "-install_name", "@rpath/libspam.dylib"),
    )
    members = {_ABI3: _mach("PySpam_Helper"), "p/libspam.dylib": library}
    name = f"p-1.0-cp38-abi3-{_ARM}.whl"
    assert errors(verdict_of(tmp_path, name, members)) == set()
    del members["p/libspam.dylib"]
    assert errors(verdict_of(tmp_path, name, members)) == {"abi3-symbols"}


def test_a_declared_library_may_have_symbols_of_such_names(tmp_path: Path) -> None:
    """PySide6 has PyRun_String from shiboken6, which is another wheel."""
    spam = elf(("PyRun_String",), ("-nostdlib", "-Wl,-soname,libspam.so"))
    declared = Context(external_libraries={"libspam.so": "the wheel spam-libs brings it"})
    name = f"p-1.0-cp38-abi3-{_MANY}.whl"
    linked = elf(body=calling("PyRun_String"), libraries=(("libspam.so", spam),))
    path = wheel(tmp_path, name, {_ABI3: linked})
    assert "abi3-symbols" in errors(judge(path))
    judgement = judge(path, declared)
    finding = only(judgement, "abi3-symbols")
    assert (judgement.verdict, finding.severity) == ("accept", "note")
    assert finding.evidence["symbols"] == ["PyRun_String"]
    path = wheel(tmp_path, name, {_ABI3: _elf("PyRun_String")})
    assert judge(path, declared).verdict == "reject"


def test_a_module_for_one_version_is_no_business_of_the_abi3_tag(tmp_path: Path) -> None:
    members = {_ABI3: _mach(), "p/m.cpython-38-darwin.so": _mach("_PyObject_GetDictPtr")}
    name = f"p-1.0-cp39-abi3-{_ARM}.whl"
    assert verdict_of(tmp_path, name, members).verdict == "accept"


def test_abi3t_begins_with_its_first_interpreter(tmp_path: Path) -> None:
    data = mach("arm64", "11.0", ("PyModExport_m",))
    for suffix in (".abi3t.so", ".so", ".abi3t-darwin.so"):
        judgement = verdict_of(tmp_path, f"p-1.0-cp313-abi3t-{_ARM}.whl", {f"p/m{suffix}": data})
        assert (judgement.verdict, names(judgement)) == ("retag", {f"cp315-abi3t-{_ARM}"})
        name = f"p-1.0-cp315-abi3.abi3t-{_ARM}.whl"
        judgement = verdict_of(tmp_path, name, {f"p/m{suffix}": data})
        assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_module_with_a_static_definition_is_no_abi3t_module(tmp_path: Path) -> None:
    members = {"p/m.abi3t.so": _mach("PyModuleDef_Init")}
    judgement = verdict_of(tmp_path, f"p-1.0-cp315-abi3t-{_ARM}.whl", members)
    finding = only(judgement, "abi3-symbols")
    assert (judgement.verdict, finding.slice) == ("reject", "arm64")
    assert finding.evidence["symbols"] == ["PyModuleDef_Init"]
    both = verdict_of(tmp_path, f"p-1.0-cp315-abi3.abi3t-{_ARM}.whl", members)
    assert (both.verdict, names(both)) == ("retag", {f"cp315-abi3-{_ARM}"})


def test_a_suffix_with_a_platform_begins_with_its_first_interpreter(tmp_path: Path) -> None:
    members = {"p/m.abi3-x86_64-linux-gnu.so": elf()}
    judgement = verdict_of(tmp_path, f"p-1.0-cp310-abi3-{_MANY}.whl", members)
    assert (judgement.verdict, names(judgement)) == ("retag", {f"cp315-abi3-{_MANY}"})
    assert only(judgement, "import-suffix").evidence["suffix"] == ".abi3-x86_64-linux-gnu.so"
    wrong = {"p/m.abi3-aarch64-linux-gnu.so": elf()}
    assert verdict_of(tmp_path, f"p-1.0-cp315-abi3-{_MANY}.whl", wrong).verdict == "reject"


@pytest.mark.parametrize(
    ("symbol", "holds"),
    [
        ("PyErr_SetFromWindowsErr", "cp38-abi3"),
        ("PyBuffer_Release", "cp311-abi3"),
        ("_PyObject_GetDictPtr", None),
    ],
)
def test_the_stable_abi_of_windows(tmp_path: Path, symbol: str, holds: str | None) -> None:
    data = pe(imports=("python3.dll",), symbols=(symbol,))
    judgement = verdict_of(tmp_path, "p-1.0-cp38-abi3-win_amd64.whl", {"p/m.pyd": data})
    assert names(judgement) == ({f"{holds}-win_amd64"} if holds else set())
    if holds != "cp38-abi3":
        finding = only(judgement, "abi3-symbols")
        assert (finding.member, finding.slice) == ("p/m.pyd", "amd64")
        assert symbol in dict.fromkeys(finding.evidence["symbols"])  # type: ignore[arg-type]
