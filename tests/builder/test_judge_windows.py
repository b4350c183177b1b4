"""Lies of Windows wheels: architecture, the Python that a module is linked to, missing DLLs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builder.forge import errors, names, only, pe, verdict_of

_PROGRAM = ("/entry:use", "/subsystem:console")
_M = "p/m.cp311-win_amd64.pyd"


def _name(platform: str = "win_amd64", python: str = "cp311-cp311") -> str:
    return f"p-1.0-{python}-{platform}.whl"


@pytest.mark.parametrize(
    ("platform", "arch"), [("win_amd64", "amd64"), ("win_arm64", "arm64"), ("win32", "x86")]
)
def test_an_honest_windows_wheel_is_accepted(tmp_path: Path, platform: str, arch: str) -> None:
    member = f"p/m.cp311-{platform}.pyd"
    judgement = verdict_of(tmp_path, _name(platform), {member: pe(arch)})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


@pytest.mark.parametrize("arch", ["arm64", "x86"])
def test_a_module_of_another_architecture_is_refused(tmp_path: Path, arch: str) -> None:
    judgement = verdict_of(tmp_path, _name(), {_M: pe(arch)})
    finding = only(judgement, "windows-architecture")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, arch)
    assert finding.evidence["claimed"] == ["amd64"]


def test_one_module_of_another_architecture_among_right_ones_is_refused(tmp_path: Path) -> None:
    members = {_M: pe(), "p/n.pyd": pe("arm64", ("PyInit_n",))}
    judgement = verdict_of(tmp_path, _name(), members)
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-architecture").member == "p/n.pyd"


def test_a_suffix_for_another_architecture_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(), {"p/m.cp311-win_arm64.pyd": pe()})
    finding = only(judgement, "import-suffix")
    assert (judgement.verdict, finding.evidence["suffix"]) == ("reject", ".cp311-win_arm64.pyd")


def test_arm_code_for_emulated_programs_is_not_amd64(tmp_path: Path) -> None:
    from tests.builder.binaries.test_pe import with_hybrid_map

    judgement = verdict_of(tmp_path, _name(), {_M: with_hybrid_map(pe())})
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-architecture").slice == "arm64ec"


def test_a_dll_that_the_module_loads_must_be_of_its_architecture(tmp_path: Path) -> None:
    members = {_M: pe(imports=("python311.dll", "Dep.dll")), "p.libs/dep.dll": pe("arm64", ("f",))}
    judgement = verdict_of(tmp_path, _name(), members)
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-architecture").member == "p.libs/dep.dll"


def test_files_for_other_processes_are_data(tmp_path: Path) -> None:
    members = {
        _M: pe(),
        "p/attach_x86.dll": pe("x86", ("attach",), ("kernel32.dll",)),
        "p/inject_x86.exe": pe("x86", (), ("kernel32.dll",), _PROGRAM),
    }
    judgement = verdict_of(tmp_path, _name(), members)
    assert (judgement.verdict, errors(judgement)) == ("accept", set())
    notes = {finding.member for finding in judgement.findings}
    assert notes == {"p/attach_x86.dll", "p/inject_x86.exe"}


def test_a_wheel_whose_only_dll_is_of_another_architecture_is_refused(tmp_path: Path) -> None:
    member = "p/native.dll"
    name = _name(python="py3-none")
    assert verdict_of(tmp_path, name, {member: pe("amd64", ("f",), ())}).verdict == "accept"
    judgement = verdict_of(tmp_path, name, {member: pe("arm64", ("f",), ())})
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-architecture").member == member


@pytest.mark.parametrize(
    ("platform", "arch", "verdict"),
    [
        ("win32", "amd64", "reject"),
        ("win_amd64", "arm64", "reject"),
        ("win_amd64", "x86", "accept"),
        ("win_arm64", "amd64", "accept"),
    ],
)
def test_a_script_must_run_where_the_tag_says(
    tmp_path: Path, platform: str, arch: str, verdict: str
) -> None:
    member = "p-1.0.data/scripts/tool.exe"
    program = pe(arch, (), (), _PROGRAM)
    judgement = verdict_of(tmp_path, _name(platform, "py3-none"), {member: program})
    assert judgement.verdict == verdict
    assert only(judgement, "windows-architecture").member == member


@pytest.mark.parametrize("suffix", [".cp312-win_amd64.pyd", ".cp313t-win_amd64.pyd"])
def test_a_suffix_for_another_python_is_refused(tmp_path: Path, suffix: str) -> None:
    member = f"p/m{suffix}"
    judgement = verdict_of(tmp_path, _name(python="cp313-cp313"), {member: pe(imports=())})
    finding = only(judgement, "import-suffix")
    assert (judgement.verdict, finding.member) == ("reject", member)
    assert finding.evidence["suffix"] == suffix


def test_a_py3_none_tag_over_a_windows_module_is_retagged(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(python="py3-none"), {_M: pe()})
    assert (judgement.verdict, names(judgement)) == ("retag", {"cp311-cp311-win_amd64"})


@pytest.mark.parametrize("dll", ["python310.dll", "PYTHON311_d.dll", "python311t.dll"])
def test_a_module_that_loads_another_python_is_refused(tmp_path: Path, dll: str) -> None:
    judgement = verdict_of(tmp_path, _name(), {"p/m.pyd": pe(imports=(dll,))})
    finding = only(judgement, "windows-linkage")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", "p/m.pyd", "amd64")
    assert finding.evidence["library"] == dll.lower()


def test_a_dll_beside_the_module_that_loads_another_python_is_refused(tmp_path: Path) -> None:
    helper = pe("amd64", ("f",), ("python310.dll",))
    members = {_M: pe(imports=("helper.dll",)), "p/helper.dll": helper}
    judgement = verdict_of(tmp_path, _name(), members)
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-linkage").member == "p/helper.dll"


@pytest.mark.parametrize(
    ("python", "dll", "holds"),
    [
        ("cp38-abi3", "python3.dll", "cp38-abi3"),
        ("cp38-abi3", "python311.dll", "cp311-cp311"),
        ("cp313-cp313t", "python313t.dll", "cp313-cp313t"),
        ("cp313-cp313", "python3.dll", "cp313-cp313"),
        ("cp312-abi3", "python311.dll", None),
        ("cp313-cp313t", "python3.dll", None),
    ],
)
def test_the_dll_of_python_bounds_the_tag(
    tmp_path: Path, python: str, dll: str, holds: str | None
) -> None:
    judgement = verdict_of(tmp_path, _name(python=python), {"p/m.pyd": pe(imports=(dll,))})
    assert names(judgement) == ({f"{holds}-win_amd64"} if holds else set())


@pytest.mark.parametrize("dll", ["VCRUNTIME140D.dll", "ucrtbased.dll", "libgcc_s_seh-1.dll"])
def test_a_runtime_that_no_windows_has_is_refused(tmp_path: Path, dll: str) -> None:
    linked = pe(imports=("python311.dll", dll))
    judgement = verdict_of(tmp_path, _name(), {_M: linked})
    assert judgement.verdict == "reject"
    assert only(judgement, "windows-linkage").evidence["library"] == dll.lower()
    vendored = {_M: linked, f"p.libs/{dll}": pe("amd64", ("f",), ())}
    assert verdict_of(tmp_path, _name(), vendored).verdict == "accept"


def test_a_runtime_that_is_loaded_on_demand_may_be_missing(tmp_path: Path) -> None:
    data = pe(delayed=("libgomp-1.dll",))
    assert verdict_of(tmp_path, _name(), {_M: data}).verdict == "accept"


def test_a_program_named_pyd_is_no_module(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(), {_M: pe("amd64", (), (), _PROGRAM)})
    finding = only(judgement, "file-type")
    assert (judgement.verdict, finding.member) == ("reject", _M)
    assert finding.evidence["type"] == "EXE"


@pytest.mark.parametrize("exports", [(), ("PyInit_other",)])
def test_a_module_without_its_entry_point_is_refused(
    tmp_path: Path, exports: tuple[str, ...]
) -> None:
    judgement = verdict_of(tmp_path, _name(), {_M: pe("amd64", exports)})
    finding = only(judgement, "entry-point")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, "amd64")
    assert finding.evidence["found"] == list(exports)


def test_a_truncated_module_is_refused(tmp_path: Path) -> None:
    for size in (40, 300, 2000):
        judgement = verdict_of(tmp_path, _name(), {_M: pe()[:size]})
        assert judgement.verdict == "reject"
        assert only(judgement, "malformed-binary").member == _M


def test_text_under_a_module_s_name_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(), {_M: b"MZ is a state of mind\n" * 9})
    assert judgement.verdict == "reject"
    assert only(judgement, "entry-point").member == _M
