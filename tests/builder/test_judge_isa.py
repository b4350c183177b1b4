"""What an x86-64 file says it needs of the processor, against what is promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from builder.binaries.image import ElfFile
from builder.binaries.read import read_binary
from builder.checks.context import Context
from builder.judge import judge
from tests.builder.forge import LINUX_SUFFIX, elf, names, only, verdict_of, wheel

_M = f"p/m{LINUX_SUFFIX}"
_NAME = "p-1.0-cp311-cp311-manylinux_2_17_x86_64.whl"


def _at(level: str, exports: tuple[str, ...] = ("PyInit_m",)) -> bytes:
    return elf(exports, ("-nostdlib", f"-Wl,-z,{level}"))


@pytest.mark.parametrize("level", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_a_module_that_needs_a_newer_processor_is_refused(tmp_path: Path, level: str) -> None:
    judgement = verdict_of(tmp_path, _NAME, {_M: _at(level)})
    finding = only(judgement, "isa-level")
    assert (judgement.verdict, finding.severity) == ("reject", "error")
    assert (finding.member, finding.slice) == (_M, "x86_64")
    assert finding.evidence["needs"] == level


def test_a_target_may_ask_for_a_level(tmp_path: Path) -> None:
    path = wheel(tmp_path, _NAME, {_M: _at("x86-64-v3")})
    for isa, verdict, severity in (
        ("x86-64-v2", "reject", "error"),
        ("x86-64-v3", "accept", "note"),
        ("x86-64-v4", "accept", "note"),
    ):
        judgement = judge(path, Context(isa=isa))
        found = [f.severity for f in judgement.findings if f.check == "isa-level"]
        assert (judgement.verdict, found) == (verdict, [severity])


@pytest.mark.parametrize("level", ["x86-64-baseline", "noexecstack"])
def test_the_baseline_is_what_the_tag_says(tmp_path: Path, level: str) -> None:
    judgement = verdict_of(tmp_path, _NAME, {_M: _at(level)})
    assert (judgement.verdict, judgement.findings) == ("accept", ())


def test_what_is_used_when_it_is_there_is_no_need(tmp_path: Path) -> None:
    """numpy holds code for several levels, and chooses at run time."""
    body = '__attribute__((target("avx2"))) int fast(int *a) { return a[0] + a[7]; }\n'
    data = elf(flags=("-nostdlib", "-Wl,-z,x86-64-baseline"), body=body)
    assert verdict_of(tmp_path, _NAME, {_M: data}).verdict == "accept"


def test_a_library_counts_when_a_module_links_it(tmp_path: Path) -> None:
    library = _at("x86-64-v3", ("helper",))
    flags = ("-nostdlib", "-Wl,-rpath,$ORIGIN")
    linked = elf(flags=flags, libraries=(("libfast.so", library),))
    both = {_M: linked, "p/libfast.so": library}
    assert only(verdict_of(tmp_path, _NAME, both), "isa-level").member == "p/libfast.so"
    assert verdict_of(tmp_path, _NAME, both).verdict == "reject"
    apart = {_M: elf(flags=flags), "p/libfast.so": library}
    judgement = verdict_of(tmp_path, _NAME, apart)
    assert (judgement.verdict, only(judgement, "isa-level").severity) == ("accept", "note")


def test_a_note_that_leaves_its_segment_is_not_read() -> None:
    whole = _at("x86-64-v3")
    place = whole.index(b"\x02\x80\x00\xc0\x04\x00\x00\x00")
    broken = whole[: place + 4] + b"\xff\xff\xff\x7f" + whole[place + 8 :]
    file, honest = read_binary(broken), read_binary(whole)
    assert isinstance(honest, ElfFile)
    assert replace(honest, isa_needed=None) == file


def test_a_level_that_is_not_known_is_above_every_other(tmp_path: Path) -> None:
    whole = _at("x86-64-v4")
    place = whole.index(b"\x02\x80\x00\xc0\x04\x00\x00\x00") + 8
    future = whole[:place] + b"\x20\x00\x00\x00" + whole[place + 4 :]
    path = wheel(tmp_path, _NAME, {_M: future})
    judgement = judge(path, Context(isa="x86-64-v4"))
    assert (judgement.verdict, names(judgement)) == ("reject", set())
    assert only(judgement, "isa-level").evidence["needs"] == "x86-64-bit-5"
