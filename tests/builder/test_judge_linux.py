"""Lies of Linux wheels: architecture, glibc floor, musl, libraries, executable stacks."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from tests.builder.forge import (
    LINUX_SUFFIX,
    elf,
    errors,
    names,
    only,
    verdict_of,
    wheel,
    zig_elf,
)

_M = f"p/m{LINUX_SUFFIX}"
_THREADS = '__asm__(".symver pthread_create,pthread_create@GLIBC_2.34");\n' + (
    "extern int pthread_create();\nint use(void) { return pthread_create(); }\n"
)
_PLAIN = "extern int puts(const char *);\nint use(void) { return puts(0); }\n"


def _name(platform: str) -> str:
    return f"p-1.0-cp311-cp311-{platform}.whl"


def _newer() -> bytes:
    return elf(flags=(), body=_THREADS)


def _old() -> bytes:
    return elf(flags=(), body=_PLAIN)


def _needing(soname: str) -> bytes:
    stub = elf(("helper",), ("-nostdlib", f"-Wl,-soname,{soname}"))
    return elf(libraries=((soname, stub),))


def test_glibc_2_34_under_2_17_is_retagged(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: _newer()})
    assert names(judgement) == {"cp311-cp311-manylinux_2_34_x86_64"}
    finding = only(judgement, "libc-floor")
    assert (finding.member, finding.slice) == (_M, "x86_64")
    assert finding.evidence["needs"] == "GLIBC_2.34"


def test_an_absolute_rpath_is_a_warning_and_one_below_origin_is_none(tmp_path: Path) -> None:
    away = elf(flags=("-nostdlib", "-Wl,-rpath,/home/builder/lib"))
    near = elf(flags=("-nostdlib", "-Wl,-rpath,$ORIGIN/../p.libs"))
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: away})
    finding = only(judgement, "elf-rpath")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert (finding.member, finding.slice) == (_M, "x86_64")
    assert "/home/builder/lib" in str(finding.evidence)
    beside = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: near})
    assert not [found for found in beside.findings if found.check == "elf-rpath"]


@pytest.mark.parametrize(("rpath", "verdict"), [("/opt/py/lib", "accept"), ("/other", "reject")])
def test_what_loads_libpython_must_look_for_its_own(
    tmp_path: Path, rpath: str, verdict: str
) -> None:
    soname = "libpython3.11.so.1.0"
    stub = elf(("helper",), ("-nostdlib", f"-Wl,-soname,{soname}"))
    module = elf(flags=("-nostdlib", f"-Wl,-rpath,{rpath}"), libraries=((soname, stub),))
    path = wheel(tmp_path, _name("linux_x86_64"), {_M: module})
    judgement = judge(path, Context(libpython_name=soname, libpython_folder="/opt/py/lib"))
    assert judgement.verdict == verdict
    assert errors(judgement) == (set() if verdict == "accept" else {"elf-rpath"})


def test_an_old_name_beside_a_new_one_goes_with_it(tmp_path: Path) -> None:
    name = _name("manylinux2014_x86_64.manylinux_2_17_x86_64")
    assert names(verdict_of(tmp_path, name, {_M: _newer()})) == {
        "cp311-cp311-manylinux_2_34_x86_64"
    }
    assert verdict_of(tmp_path, name, {_M: _old()}).verdict == "accept"


def test_a_plain_linux_tag_becomes_the_true_manylinux(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name("linux_x86_64"), {_M: _newer()})
    assert names(judgement) == {"cp311-cp311-manylinux_2_34_x86_64"}
    older = verdict_of(tmp_path, _name("linux_x86_64"), {_M: _old()})
    assert names(older) == {"cp311-cp311-manylinux_2_5_x86_64"}


def test_a_conservative_glibc_tag_stays(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name("manylinux_2_28_x86_64"), {_M: _old()})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    data = zig_elf("aarch64-linux-gnu.2.17")
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {"p/m.so": data})
    finding = only(judgement, "elf-architecture")
    assert (judgement.verdict, finding.member, finding.slice) == ("reject", "p/m.so", "aarch64")


def test_one_member_of_another_architecture_is_refused(tmp_path: Path) -> None:
    other = zig_elf("aarch64-linux-gnu.2.17", ("helper",))
    members = {_M: _old(), "p.libs/libdep-1234.so.1": other}
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), members)
    assert judgement.verdict == "reject"
    assert only(judgement, "elf-architecture").member == "p.libs/libdep-1234.so.1"


def test_a_file_for_no_machine_is_refused(tmp_path: Path) -> None:
    data = bytearray(elf())
    struct.pack_into("<H", data, 18, 0)
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: bytes(data)})
    assert judgement.verdict == "reject"
    assert only(judgement, "elf-architecture").evidence["machine"] == 0


def test_a_cut_file_is_refused_though_record_does_not_list_it(tmp_path: Path) -> None:
    path = wheel(
        tmp_path, _name("manylinux_2_17_x86_64"), {_M: _old()}, extra={"p/x.so": _old()[:5000]}
    )
    judgement = judge(path)
    assert judgement.verdict == "reject"
    assert only(judgement, "malformed-binary").member == "p/x.so"
    assert only(judgement, "record").member == "p/x.so"


@pytest.mark.parametrize("platform", ["manylinux_2_17_x86_64", "linux_x86_64"])
def test_a_missing_library_is_refused_unless_declared(tmp_path: Path, platform: str) -> None:
    path = wheel(tmp_path, _name(platform), {_M: _needing("libfoo.so.3")})
    judgement = judge(path)
    finding = only(judgement, "elf-linkage")
    assert (judgement.verdict, finding.evidence["library"]) == ("reject", "libfoo.so.3")
    declared = judge(path, Context(external_libraries={"libfoo.so.3": "foo-libs brings it"}))
    assert declared.verdict in {"accept", "retag"}
    assert only(declared, "elf-linkage").severity == "note"


def test_a_library_in_the_wheel_is_there(tmp_path: Path) -> None:
    members = {
        _M: _needing("libdep-77.so.1"),
        "p.libs/libdep-77.so.1": elf(("helper",), ("-nostdlib", "-Wl,-soname,libdep-77.so.1")),
    }
    assert verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), members).verdict == "accept"


def test_libpython_binds_a_linux_wheel_to_one_interpreter(tmp_path: Path) -> None:
    soname = "libpython3.11.so.1.0"
    path = wheel(tmp_path, _name("linux_x86_64"), {_M: _needing(soname)})
    own = Context(libpython_name=soname)
    assert only(judge(path), "elf-linkage").evidence["library"] == soname
    assert judge(path).verdict == "reject"
    assert (judge(path, own).verdict, names(judge(path, own))) == (
        "accept",
        {"cp311-cp311-linux_x86_64"},
    )
    assert judge(path, replace(own, portable=True)).verdict == "reject"
    assert judge(path, Context(libpython_name="libpython3.12.so.1.0")).verdict == "reject"


def test_libpython_is_never_in_a_manylinux_wheel(tmp_path: Path) -> None:
    soname = "libpython3.11.so.1.0"
    path = wheel(tmp_path, _name("manylinux_2_17_x86_64"), {_M: _needing(soname)})
    assert judge(path, Context(libpython_name=soname)).verdict == "reject"


def test_musl_in_a_manylinux_wheel_is_refused(tmp_path: Path) -> None:
    data = _needing("libc.musl-x86_64.so.1")
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: data})
    assert judgement.verdict == "reject"
    assert "libc.musl-x86_64.so.1" in str([f.evidence for f in judgement.findings])


def test_glibc_in_a_musllinux_wheel_is_refused(tmp_path: Path) -> None:
    member = "p/m.cpython-311-x86_64-linux-musl.so"
    judgement = verdict_of(tmp_path, _name("musllinux_1_2_x86_64"), {member: _old()})
    assert judgement.verdict == "reject"
    assert errors(judgement) <= {"elf-linkage", "libc-floor"}


def test_an_honest_musl_wheel_is_accepted(tmp_path: Path) -> None:
    member = "p/m.cpython-311-x86_64-linux-musl.so"
    data = _needing("libc.musl-x86_64.so.1")
    judgement = verdict_of(tmp_path, _name("musllinux_1_2_x86_64"), {member: data})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_gnu_suffix_in_a_musl_wheel_is_refused(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name("musllinux_1_2_x86_64"), {_M: elf()})
    assert judgement.verdict == "reject"
    assert only(judgement, "import-suffix").member == _M


def test_an_executable_stack_is_refused(tmp_path: Path) -> None:
    data = elf(flags=("-nostdlib", "-Wl,-z,execstack"))
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), {_M: data})
    assert (judgement.verdict, only(judgement, "executable-stack").member) == ("reject", _M)


def test_objects_for_other_processors_are_data(tmp_path: Path) -> None:
    data = bytearray(zig_elf("aarch64-linux-gnu.2.17", ("probe",)))
    struct.pack_into("<2H", data, 16, 1, 247)  # ET_REL, EM_BPF
    members = {_M: _old(), "p/probe.o": bytes(data)}
    judgement = verdict_of(tmp_path, _name("manylinux_2_17_x86_64"), members)
    assert "elf-architecture" not in errors(judgement)
