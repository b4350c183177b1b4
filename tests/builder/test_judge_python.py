"""Suffixes, entry points, any-wheels: who can import what is inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from tests.builder.forge import (
    LINUX_SUFFIX,
    MAC_SUFFIX,
    elf,
    errors,
    mach,
    names,
    only,
    pe,
    universal,
    verdict_of,
    wheel,
    zig_elf,
)

_ARM = "macosx_11_0_arm64"
_MANY = "manylinux_2_17_x86_64"
_M = f"p/m{MAC_SUFFIX}"


@pytest.mark.parametrize(
    ("claim", "suffix", "holds"),
    [
        (f"cp313-cp313-{_ARM}", ".cpython-312-darwin.so", f"cp312-cp312-{_ARM}"),
        (f"cp313-cp313t-{_ARM}", ".cpython-313-darwin.so", f"cp313-cp313-{_ARM}"),
        (f"cp310-cp310-{_ARM}", ".pypy310-pp73-darwin.so", f"pp310-pypy310_pp73-{_ARM}"),
        (f"cp38-abi3-{_ARM}", ".cpython-312-darwin.so", f"cp312-cp312-{_ARM}"),
        (f"py3-none-{_ARM}", ".cpython-311-darwin.so", f"cp311-cp311-{_ARM}"),
        (f"cp313-none-{_ARM}", ".cpython-313-darwin.so", f"cp313-cp313-{_ARM}"),
        (f"cp313-cp313-{_ARM}", ".cpython-313t-darwin.so", f"cp313-cp313t-{_ARM}"),
        (f"cp314-cp314-{_ARM}", ".cpython-313t-darwin.so", f"cp313-cp313t-{_ARM}"),
        (f"cp315-cp315-{_ARM}", ".pypy310-pp73-darwin.so", f"pp310-pypy310_pp73-{_ARM}"),
        (f"cp38-abi3-{_ARM}", ".abi3t.so", f"cp315-abi3-{_ARM}"),
        (f"cp311.cp312-cp312-{_ARM}", ".cpython-312-darwin.so", f"cp312-cp312-{_ARM}"),
    ],
)
def test_the_suffix_says_who_imports_it(
    tmp_path: Path, claim: str, suffix: str, holds: str
) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", {f"p/m{suffix}": mach("arm64")})
    assert (judgement.verdict, names(judgement)) == ("retag", {holds})
    finding = next(f for f in judgement.findings if f.check == "import-suffix")
    assert (finding.member, finding.evidence["suffix"]) == (f"p/m{suffix}", suffix)


@pytest.mark.parametrize(
    ("claim", "suffix"),
    [
        (f"cp313-cp313t-{_ARM}", ".abi3.so"),
        (f"cp314-cp314t-{_ARM}", ".abi3t.so"),
        (f"cp315-cp315t-{_ARM}", ".abi3.so"),
        (f"cp315-abi3t-{_ARM}", ".abi3.so"),
        (f"cp311-cp311-{_ARM}", ".cpython-311-x86_64-linux-gnu.so"),
        (f"cp38-abi3-{_ARM}", ".cpython-37m-darwin.so"),
        (f"py3-none-{_ARM}", ".so"),
    ],
)
def test_a_suffix_that_nobody_there_imports_is_refused(
    tmp_path: Path, claim: str, suffix: str
) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", {f"p/m{suffix}": mach("arm64")})
    assert judgement.verdict == "reject"
    assert only(judgement, "import-suffix").member == f"p/m{suffix}"


@pytest.mark.parametrize(
    ("claim", "suffix"),
    [
        (f"cp311-cp311-{_ARM}", MAC_SUFFIX),
        (f"cp311-cp311-{_ARM}", ".so"),
        (f"cp311-none-{_ARM}", MAC_SUFFIX),
        (f"cp38-abi3-{_ARM}", ".abi3.so"),
        (f"cp311-cp311-{_ARM}", ".abi3.so"),
        (f"cp313-cp313t-{_ARM}", ".cpython-313t-darwin.so"),
        (f"cp313-cp313t-{_ARM}", ".so"),
        (f"cp315-cp315t-{_ARM}", ".abi3t.so"),
        (f"cp315-cp315-{_ARM}", ".abi3t-darwin.so"),
        (f"cp315-abi3-{_ARM}", ".abi3t.so"),
        (f"pp310-pypy310_pp73-{_ARM}", ".pypy310-pp73-darwin.so"),
    ],
)
def test_a_suffix_that_suits_is_accepted(tmp_path: Path, claim: str, suffix: str) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", {f"p/m{suffix}": mach("arm64")})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_one_module_for_several_pythons_needs_one_that_suits(tmp_path: Path) -> None:
    members = {_M: mach("arm64"), "p/m.cpython-312-darwin.so": mach("arm64")}
    name = f"p-1.0-cp312-cp312-{_ARM}.whl"
    assert verdict_of(tmp_path, name, members).verdict == "accept"


@pytest.mark.parametrize(
    ("claim", "suffixes", "holds"),
    [
        # cp312-cp311 is taken by nobody: it goes, and is not moved beside the claim that is true.
        ("cp311.cp312-cp311", ("311", "312"), {"cp311-cp311"}),
        # No free-threaded interpreter takes abi3, so none was promised anything.
        ("cp310-abi3", ("311", "313t"), {"cp311-cp311"}),
        # cp311-cp311 and cp312-cp312 fit into no one name, cp311.cp312-none does and says the same.
        ("cp310-abi3", ("311", "312"), {"cp311-none", "cp312-none"}),
        ("py3-none", ("311", "312"), {"cp311-none", "cp312-none"}),
        ("py312-none", ("311", "312"), {"cp312-cp312"}),
    ],
)
def test_a_claim_is_narrowed_to_the_largest_part_and_never_widened(
    tmp_path: Path, claim: str, suffixes: tuple[str, ...], holds: set[str]
) -> None:
    members = {f"p/m.cpython-{suffix}-darwin.so": mach("arm64") for suffix in suffixes}
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}-{_ARM}.whl", members)
    assert (judgement.verdict, names(judgement)) == ("retag", {f"{tag}-{_ARM}" for tag in holds})


def test_a_darwin_suffix_on_an_elf_file_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_MANY}.whl", {_M: elf()})
    assert judgement.verdict == "reject"
    assert only(judgement, "import-suffix").evidence["suffix"] == MAC_SUFFIX


@pytest.mark.parametrize(("exports", "found"), [(("other",), []), (("PyInit_x",), ["PyInit_x"])])
def test_a_module_without_its_entry_point_is_refused(
    tmp_path: Path, exports: tuple[str, ...], found: list[str]
) -> None:
    data = mach("arm64", "11.0", exports)
    judgement = verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: data})
    finding = only(judgement, "entry-point")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", _M, "arm64")
    assert finding.evidence["found"] == found


@pytest.mark.parametrize(
    ("member", "export"),
    [
        ("pkg/__init__.cpython-315-darwin.so", "PyInit_pkg"),
        ("pkg/größe.cpython-315-darwin.so", "PyInitU_gre_6ka8i"),
        ("pkg/m.cpython-315-darwin.so", "PyModExport_m"),
        ("pkg/größe.cpython-315-darwin.so", "PyModExportU_gre_6ka8i"),
    ],
)
def test_every_form_of_entry_point_is_known(tmp_path: Path, member: str, export: str) -> None:
    data = mach("arm64", "11.0", (export,))
    judgement = verdict_of(tmp_path, f"p-1.0-cp315-cp315-{_ARM}.whl", {member: data})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_an_export_hook_starts_a_module_from_its_first_python_on(tmp_path: Path) -> None:
    data = mach("arm64", "11.0", ("PyModExport_m",))
    judgement = verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: data})
    finding = only(judgement, "entry-point")
    assert (judgement.verdict, finding.member) == ("reject", _M)
    assert finding.evidence["expected"] == ["PyInit_m", "PyModExport_m"]
    stable = verdict_of(tmp_path, f"p-1.0-cp311-abi3-{_ARM}.whl", {"p/m.abi3.so": data})
    assert (stable.verdict, names(stable)) == ("retag", {f"cp315-abi3-{_ARM}"})
    both = mach("arm64", "11.0", ("PyModExport_m", "PyInit_m"))
    assert verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: both}).verdict == "accept"


def test_a_library_that_code_loads_needs_no_entry_point(tmp_path: Path) -> None:
    members = {"p/_raw.abi3.so": mach("arm64", "11.0", ("AES_start",))}
    name = f"p-1.0-cp38-abi3-{_ARM}.whl"
    assert verdict_of(tmp_path, name, members).verdict == "reject"
    loader = b"from ctypes import CDLL\nlib = CDLL(find('_raw'))\n"
    judgement = verdict_of(tmp_path, name, {**members, "p/load.py": loader})
    assert (judgement.verdict, only(judgement, "entry-point").severity) == ("accept", "note")


@pytest.mark.parametrize(
    ("source", "verdict"),
    [
        (b"import ctypes\nNAME = 'att' + 'ach.so'\n", "accept"),
        (b"db.load_extension(path)\n", "accept"),
        (b"", "reject"),
    ],
)
def test_a_plain_library_needs_some_loader(tmp_path: Path, source: bytes, verdict: str) -> None:
    members = {"p/attach.so": mach("arm64", "11.0", ("attach",)), "p/load.py": source}
    assert verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", members).verdict == verdict


def test_a_plain_module_that_uses_python_must_be_named_by_its_loader(tmp_path: Path) -> None:
    body = "extern int PyErr_Occurred(void);\nint use(void) { return PyErr_Occurred(); }\n"
    members = {"p/attach.so": elf(("attach",), body=body), "p/load.py": b"import ctypes\n"}
    name = f"p-1.0-cp311-cp311-{_MANY}.whl"
    assert verdict_of(tmp_path, name, members).verdict == "reject"
    members["p/load.py"] = b"import ctypes\nctypes.PyDLL('attach')\n"
    assert verdict_of(tmp_path, name, members).verdict == "accept"


def test_an_empty_file_with_a_module_s_name_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: b""})
    assert judgement.verdict == "reject"
    assert only(judgement, "entry-point").evidence["size"] == 0


def test_an_any_wheel_with_a_module_gets_its_true_tag(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-py3-none-any.whl", {_M: universal()}, purelib="true")
    judgement = judge(path)
    assert (judgement.verdict, names(judgement)) == (
        "retag",
        {"cp311-cp311-macosx_10_13_universal2"},
    )
    finding = only(judgement, "any-wheel")
    assert (finding.member, finding.evidence["archs"]) == (_M, ["x86_64", "arm64"])
    assert "root-is-purelib" in errors(judgement)


def test_an_any_wheel_with_a_linux_module_gets_its_true_tag(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", {f"p/m{LINUX_SUFFIX}": elf()})
    assert names(judgement) == {"cp311-cp311-manylinux_2_5_x86_64"}


def test_an_any_wheel_with_a_library_for_one_platform_is_retagged(tmp_path: Path) -> None:
    members = {"p/libdep.dylib": mach("arm64", "12.0", ("helper",))}
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", members)
    assert names(judgement) == {"py3-none-macosx_12_0_arm64"}
    assert only(judgement, "any-wheel").slice == "arm64"


def test_modules_for_two_platforms_have_no_common_claim(tmp_path: Path) -> None:
    members = {_M: mach("arm64"), f"p/m{LINUX_SUFFIX}": elf()}
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", members)
    assert (judgement.verdict, errors(judgement)) == ("reject", {"any-wheel"})


def test_libraries_for_several_platforms_are_data_of_an_any_wheel(tmp_path: Path) -> None:
    members = {
        "p/linux.so": elf(("attach",)),
        "p/arm.so": zig_elf("aarch64-linux-gnu.2.17", ("attach",)),
        "p/mac.dylib": mach("arm64", "11.0", ("attach",)),
        "p/load.py": b"import ctypes\nNAMES = ['linux', 'arm', 'mac']\n",
    }
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", members)
    assert (judgement.verdict, errors(judgement)) == ("accept", set())


def test_windows_launchers_are_data_of_an_any_wheel(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", {"p/t64.exe": _launcher()})
    assert (judgement.verdict, only(judgement, "any-wheel").severity) == ("accept", "note")


def _launcher() -> bytes:
    return pe("amd64", (), ("kernel32.dll",), ("/entry:use", "/subsystem:console"))


def test_a_windows_module_outside_windows_is_refused(tmp_path: Path) -> None:
    member = "p/m.cp311-win_amd64.pyd"
    for platform in ("any", _MANY):
        tag = "py3-none" if platform == "any" else "cp311-cp311"
        judgement = verdict_of(tmp_path, f"p-1.0-{tag}-{platform}.whl", {member: pe()})
        assert judgement.verdict == "reject"
        assert only(judgement, "windows-binary").member == member


def test_a_pure_wheel_bound_to_one_python_is_bound_to_its_builder(tmp_path: Path) -> None:
    for claim in ("py313-none-any", "py310-none-any", "py310.py312-none-any"):
        path = wheel(tmp_path, f"p-1.0-{claim}.whl", {"p/__init__.py": b""})
        judgement = judge(path, Context(built_by="cp311"))
        assert (judgement.verdict, names(judgement)) == ("retag", {"cp311-none-any"})
        assert judge(path).verdict == "accept"


@pytest.mark.parametrize("claim", ["py3-none-any", "py2.py3-none-any", "cp311-none-any"])
def test_a_wheel_for_every_python_stays_so(tmp_path: Path, claim: str) -> None:
    path = wheel(tmp_path, f"p-1.0-{claim}.whl", {"p/__init__.py": b""})
    assert judge(path, Context(built_by="cp311")).verdict == "accept"


def test_a_plain_module_in_an_any_wheel_is_its_builder_s(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-py3-none-any.whl", {"p/m.so": mach("arm64")})
    assert judge(path).verdict == "reject"
    assert names(judge(path, Context(built_by="cp311"))) == {f"cp311-cp311-{_ARM}"}


def _expecting(**modules: set[str]) -> Context:
    named = {reason.replace("__", "-"): frozenset(found) for reason, found in modules.items()}
    return Context(expected_modules=named)


def test_a_lost_module_is_refused(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-py3-none-any.whl", {"p/__init__.py": b""})
    judgement = judge(path, _expecting(recipe={"p.m"}))
    finding = only(judgement, "expected-modules")
    assert (judgement.verdict, finding.evidence["missing"]) == ("reject", ["p.m"])
    assert finding.evidence["expected_by"] == "recipe"


def test_a_sibling_of_the_same_system_must_agree(tmp_path: Path) -> None:
    path = wheel(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: mach("arm64")})
    sibling = "cp311__macosx_10_13_x86_64__0123456789ab"
    assert judge(path, _expecting(**{sibling: {"p.m"}})).verdict == "accept"
    assert judge(path, _expecting(**{sibling: {"p.m", "p.n"}})).verdict == "reject"


def test_a_sibling_of_another_system_says_only_some_or_none(tmp_path: Path) -> None:
    sibling = "cp311__manylinux_2_36_x86_64__0123456789ab"
    some = wheel(tmp_path, f"p-1.0-cp311-cp311-{_ARM}.whl", {_M: mach("arm64")})
    none = wheel(tmp_path, f"p-1.0-py3-none-{_ARM}.whl", {"p/__init__.py": b""})
    assert judge(some, _expecting(**{sibling: {"p.epoll"}})).verdict == "accept"
    assert judge(none, _expecting(**{sibling: {"p.epoll"}})).verdict == "reject"
