"""Each undefined symbol of an ELF file of a musllinux wheel is looked for where musl would."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from builder.verify import verify_for_store
from store.verdict import ProofLevel, VerifiedWheel
from tests.builder.forge import elf, errors, musl, names, only, verdict_of, wheel

_OLD, _NEW = "musllinux_1_1_x86_64", "musllinux_1_2_x86_64"
_M = "p/m.cpython-312-x86_64-linux-musl.so"


def _name(platform: str = _NEW, python: str = "cp312-cp312") -> str:
    return f"p-1.0-{python}-{platform}.whl"


def test_what_musl_and_cpython_have_is_found(tmp_path: Path) -> None:
    data = musl("malloc", "open64", "PyErr_SetString", weak=("__gmon_start__",))
    for platform in (_OLD, _NEW):
        judgement = verdict_of(tmp_path, _name(platform), {_M: data})
        assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_symbol_of_a_later_musl_raises_the_tag(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(_OLD), {_M: musl("reallocarray", "malloc")})
    assert (judgement.verdict, names(judgement)) == ("retag", {f"cp312-cp312-{_NEW}"})
    error = next(f for f in judgement.findings if f.severity == "error")
    assert (error.check, error.member, error.slice) == ("musl-symbols", _M, "x86_64")
    assert error.evidence["symbols"] == {"reallocarray": "1.2.2"}


def test_a_weak_symbol_of_a_later_musl_is_reported(tmp_path: Path) -> None:
    judgement = verdict_of(tmp_path, _name(_OLD), {_M: musl(weak=("reallocarray",))})
    finding = only(judgement, "musl-symbols")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert finding.evidence["symbols"] == {"reallocarray": "1.2.2"}


def test_a_symbol_of_a_patch_release_is_reported(tmp_path: Path) -> None:
    """No tag can ask for musl 1.2.3; uvloop and pyarrow do."""
    judgement = verdict_of(tmp_path, _name(), {_M: musl("qsort_r")})
    finding = only(judgement, "musl-symbols")
    assert (judgement.verdict, finding.severity) == ("accept", "warning")
    assert finding.evidence["symbols"] == {"qsort_r": "1.2.3"}


@pytest.mark.parametrize("symbol", ["__fprintf_chk", "zmq_msg_init", "fts_open", "__udivti3"])
def test_a_symbol_that_nobody_has_is_refused_unless_weak(tmp_path: Path, symbol: str) -> None:
    judgement = verdict_of(tmp_path, _name(), {_M: musl(symbol)})
    finding = only(judgement, "musl-symbols")
    assert (judgement.verdict, finding.severity) == ("reject", "error")
    assert (finding.member, finding.slice) == (_M, "x86_64")
    assert finding.evidence["symbols"] == [symbol]
    judgement = verdict_of(tmp_path, _name(), {_M: musl(weak=(symbol,))})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_a_vendored_library_brings_its_symbols(tmp_path: Path) -> None:
    library = elf(("zmq_msg_init",), ("-nostdlib", "-Wl,-soname,libzmq.so"))
    module = musl("zmq_msg_init", libraries=(("libzmq.so", library),))
    members = {_M: module, "p.libs/libzmq.so": library}
    assert verdict_of(tmp_path, _name(), members).findings == ()


def test_a_library_of_the_policy_brings_only_what_it_is_named_for(tmp_path: Path) -> None:
    needs = ("libc.musl-x86_64.so.1", "libz.so.1")
    judgement = verdict_of(tmp_path, _name(), {_M: musl("inflate", needs=needs)})
    assert (judgement.verdict, only(judgement, "musl-symbols").severity) == ("accept", "note")
    assert errors(verdict_of(tmp_path, _name(), {_M: musl("zmq_init", needs=needs)})) == {
        "musl-symbols"
    }


def test_a_declared_library_may_bring_anything(tmp_path: Path) -> None:
    data = musl("zmq_msg_init", needs=("libc.musl-x86_64.so.1", "libzmq.so.5"))
    path = wheel(tmp_path, _name(), {_M: data})
    judgement = judge(path, Context(external_libraries={"libzmq.so.5": "of a sibling"}))
    assert judgement.verdict == "accept"
    assert only(judgement, "musl-symbols").evidence["libraries"] == ["libzmq.so.5"]


@pytest.mark.parametrize(
    ("python", "symbol", "verdict"),
    [
        ("cp312-cp312", "PyUnicode_AsUTF8", "accept"),
        ("cp312-cp312", "PyErr_SetStrings", "reject"),
        ("cp312-cp312", "PyUnicode_FromUnicode", "reject"),
        ("cp38-abi3", "PyErr_SetString", "accept"),
    ],
)
def test_a_symbol_of_another_cpython_is_refused(
    tmp_path: Path, python: str, symbol: str, verdict: str
) -> None:
    member = "p/m.abi3.so" if python.endswith("abi3") else _M
    judgement = verdict_of(tmp_path, _name(python=python), {member: musl(symbol)})
    assert judgement.verdict == verdict


def test_time64_names_are_those_of_32_bits_since_1_2(tmp_path: Path) -> None:
    needs = ("libc.musl-x86.so.1",)
    data = musl("__clock_gettime64", arch="x86", needs=needs)
    member = "p/m.cpython-312-i386-linux-musl.so"
    judgement = verdict_of(tmp_path, _name("musllinux_1_1_i686"), {member: data})
    assert (judgement.verdict, names(judgement)) == ("retag", {"cp312-cp312-musllinux_1_2_i686"})


def test_what_the_linker_makes_may_come_from_the_interpreter(tmp_path: Path) -> None:
    data = musl("unique").replace(b"\0unique\0", b"\0_edata\0")  # lld answers to _edata itself
    judgement = verdict_of(tmp_path, _name(), {_M: data})
    assert (judgement.verdict, only(judgement, "musl-symbols").severity) == ("accept", "note")


def test_an_architecture_without_a_list_is_not_judged(tmp_path: Path) -> None:
    data = musl("zmq_msg_init", arch="powerpc64", needs=("libc.musl-powerpc64.so.1",))
    judgement = verdict_of(tmp_path, _name("musllinux_1_2_ppc64"), {"p/m.so": data})
    assert "musl-symbols" not in errors(judgement)


def _proof(folder: Path, members: dict[str, bytes], platform: str = _NEW) -> ProofLevel:
    path = wheel(folder, _name(platform), members)
    out = folder / "out"
    out.mkdir(exist_ok=True)
    verified = verify_for_store(path, Context(), out)
    assert isinstance(verified, VerifiedWheel)
    return verified.proof


def test_a_wheel_whose_every_symbol_is_found_is_link_checked(tmp_path: Path) -> None:
    assert _proof(tmp_path, {_M: musl("malloc", "PyErr_SetString")}) == "link-checked"
    assert _proof(tmp_path, {_M: musl(weak=("qsort_r",))}) == "link-checked"


def test_what_no_list_tells_of_proves_no_links(tmp_path: Path) -> None:
    needs = ("libc.musl-x86_64.so.1", "libz.so.1")
    assert _proof(tmp_path, {_M: musl("inflate", needs=needs)}) == "statically-verified"
    assert _proof(tmp_path, {_M: musl("qsort_r")}) == "statically-verified"
    glibc = {"p/m.cpython-312-x86_64-linux-gnu.so": elf()}
    assert _proof(tmp_path, glibc, "manylinux_2_17_x86_64") == "statically-verified"
    assert _proof(tmp_path, {"p/__init__.py": b""}) == "statically-verified"
