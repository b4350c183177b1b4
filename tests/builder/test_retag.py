"""Retagged wheels: accepted, reproducible, never wider than what was claimed; and publishing."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from packaging.tags import Tag

from builder.checks.context import Context
from builder.errors import RefusedWheelError
from builder.judge import judge
from builder.retag import content_digest, write_retagged
from builder.verify import retag_to, reverify, verify_for_store
from builder.wheel import open_wheel
from store.tags import MacPlatform, parse_platform
from store.verdict import Judgement, VerifiedWheel
from tests.builder.forge import (
    LINUX_SUFFIX,
    MAC_SUFFIX,
    elf,
    fat,
    mach,
    metadata,
    names,
    only,
    record,
    universal,
    wheel,
    write_zip,
)

_M = f"p/m{MAC_SUFFIX}"
_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"


def _published(result: VerifiedWheel | Judgement) -> VerifiedWheel:
    assert isinstance(result, VerifiedWheel), result
    return result


def _out(folder: Path) -> Path:
    out = folder / "out"
    out.mkdir(exist_ok=True)
    return out


def test_the_new_wheel_says_the_same_in_name_wheel_and_record(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: universal("11.0", "13.0"), "p/__init__.py": b""})
    judgement = retag_to(path, judge(path), _out(tmp_path), Context())
    expected = "p-1.0-cp311-cp311-macosx_11_0_x86_64.macosx_13_0_arm64.whl"
    assert (judgement.verdict, judgement.filename) == ("accept", expected)
    with zipfile.ZipFile(_out(tmp_path) / expected) as archive:
        text = archive.read("p-1.0.dist-info/WHEEL").decode()
        order = archive.namelist()
    assert text == (
        "Wheel-Version: 1.0\nGenerator: forge\nRoot-Is-Purelib: false\n"
        "Tag: cp311-cp311-macosx_11_0_x86_64\nTag: cp311-cp311-macosx_13_0_arm64\n"
    )
    assert order[:2] == ["p/__init__.py", _M]
    assert order[-1] == "p-1.0.dist-info/RECORD"


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    members = {_M: mach("x86_64"), "p/__init__.py": b"x", "p-1.0.data/scripts/run": b"#!python\n"}
    first, second = tmp_path / "a", tmp_path / "b"
    for folder, parts in ((first, members), (second, dict(reversed(members.items())))):
        folder.mkdir()
        path = wheel(folder, _UNIVERSAL, parts)
        os.utime(path, (1, 1))
        retag_to(path, judge(path), _out(folder), Context())
    one, two = next(_out(first).iterdir()), next(_out(second).iterdir())
    assert (one.name, one.read_bytes()) == (two.name, two.read_bytes())


def test_times_and_modes_are_fixed_and_programs_stay_programs(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64"), "p-1.0.data/scripts/run": b"#!python"})
    retag_to(path, judge(path), _out(tmp_path), Context())
    with zipfile.ZipFile(next(_out(tmp_path).iterdir())) as archive:
        infos = archive.infolist()
    assert {info.date_time for info in infos} == {(1980, 1, 1, 0, 0, 0)}
    modes = {info.filename: info.external_attr >> 16 for info in infos}
    assert modes.pop("p-1.0.data/scripts/run") == 0o100755
    assert set(modes.values()) == {0o100644}


def test_retagging_keeps_the_wheel_s_own_build_tag(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-3local-cp311-cp311-macosx_11_0_universal2.whl", {_M: mach()})
    judgement = retag_to(path, judge(path), _out(tmp_path), Context())
    assert judgement.filename == "p-1.0-3local-cp311-cp311-macosx_11_0_arm64.whl"


def test_signatures_over_record_are_left_out(tmp_path: Path) -> None:
    parts = {
        "p-1.0.dist-info/METADATA": metadata("p", "1.0"),
        "p-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\n",
    }
    signature = {"p-1.0.dist-info/RECORD.jws": b"{}"}
    listed = {**parts, "p-1.0.dist-info/RECORD": record(parts, "p-1.0.dist-info")}
    path = tmp_path / "p-1.0-py3-none-any.whl"
    write_zip(path, {**listed, **signature})
    assert retag_to(path, judge(path), _out(tmp_path), Context()).verdict == "accept"
    with zipfile.ZipFile(next(_out(tmp_path).iterdir())) as archive:
        assert "p-1.0.dist-info/RECORD.jws" not in archive.namelist()


def test_nothing_half_written_stays_behind(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64"), "p/data": os.urandom(500)})
    opened, tags = open_wheel(path), judge(path).tags
    data = bytearray(path.read_bytes())
    data[data.index(b"p/data") + 200] ^= 0xFF  # the file changes between judging and writing
    path.write_bytes(data)
    with pytest.raises(RefusedWheelError, match="changed"):
        write_retagged(opened, tags, _out(tmp_path), None)
    assert list(_out(tmp_path).iterdir()) == []


_SLICES = st.sampled_from(["10.9", "10.13", "11.0", "11.3", "12.0", "14.2"])
_ARCHS = st.lists(st.sampled_from(["x86_64", "arm64"]), min_size=1, max_size=2, unique=True)
_CLAIMS = st.sampled_from(
    [
        "macosx_10_9_universal2",
        "macosx_11_0_universal2",
        "macosx_10_13_universal2.macosx_11_0_arm64",
        "macosx_12_3_universal2",
        "macosx_11_0_x86_64",
        "macosx_11_0_arm64",
    ]
)


def _module(name: str, archs: list[str], minimums: list[str]) -> bytes:
    pairs = [(arch, "11.0" if arch == "arm64" and m < "11" else m) for arch, m in
             zip(archs, minimums, strict=False)]  # fmt: skip
    thin = [mach(arch, minimum, (f"PyInit_{name}",)) for arch, minimum in pairs]
    return thin[0] if len(thin) == 1 else fat(*thin)


def _served(tag: Tag) -> set[tuple[str, int]]:
    """(architecture, macOS major * 100 + minor) for every release that the tag is true of."""
    platform = parse_platform(tag.platform)
    assert isinstance(platform, MacPlatform)
    releases = [(10, minor) for minor in range(4, 17)] + [(major, 0) for major in range(11, 30)]
    return {
        (arch, major * 100 + minor)
        for arch in platform.archs
        for major, minor in releases
        if (major, minor) >= platform.minimum_os(arch)
    }


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(claim=_CLAIMS, one=_ARCHS, two=_ARCHS, minimums=st.lists(_SLICES, min_size=4, max_size=4))
def test_retagging_is_sound(
    tmp_path: Path, claim: str, one: list[str], two: list[str], minimums: list[str]
) -> None:
    members = {
        f"p/a{MAC_SUFFIX}": _module("a", one, minimums[:2]),
        f"p/b{MAC_SUFFIX}": _module("b", two, minimums[2:]),
    }
    path = wheel(tmp_path, f"p-1.0-cp311-cp311-{claim}.whl", members)
    first = judge(path)
    if first.verdict != "retag":
        assert (first.tags == frozenset()) == (first.verdict == "reject")
        return
    again = retag_to(path, first, _out(tmp_path), Context())
    written = _out(tmp_path) / again.filename
    assert (again.verdict, again.tags) == ("accept", first.tags)
    claimed = set().union(*(_served(tag) for tag in open_wheel(path).claimed))
    corrected = claim == "macosx_11_0_x86_64" and one == two == ["arm64"]
    assert corrected or set().union(*(_served(tag) for tag in first.tags)) <= claimed
    before = written.read_bytes()
    write_retagged(open_wheel(written), again.tags, _out(tmp_path), None)
    assert written.read_bytes() == before


def test_what_is_published_is_named_by_its_content(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("x86_64"), "p/__init__.py": b""})
    verified = _published(verify_for_store(path, Context(), _out(tmp_path)))
    build = f"1_{verified.content_sha256[:12]}"
    assert verified.filename == f"p-1.0-{build}-cp311-cp311-macosx_11_0_x86_64.whl"
    assert (verified.name, verified.version, verified.requires_python) == ("p", "1.0", None)
    assert verified.extension_modules == {"p.m"}
    assert verified.interpreter_bound == ()
    assert "macho-architecture" in {finding.check for finding in verified.findings}
    assert _published(reverify(verified.path)).sha256 == verified.sha256


def test_an_accepted_wheel_is_written_afresh_too(tmp_path: Path) -> None:
    path = wheel(tmp_path, "P-1.0-py3-none-any.whl", {"p/__init__.py": b""})
    verified = _published(verify_for_store(path, Context(), _out(tmp_path)))
    assert verified.filename.startswith("p-1.0-1_")
    assert names_of(verified) == {"py3-none-any"}


def names_of(verified: VerifiedWheel) -> set[str]:
    """The tags of a verified wheel, as text."""
    return {str(tag) for tag in verified.tags}


def test_the_content_s_digest_forgets_tags_and_remembers_the_rest(tmp_path: Path) -> None:
    def digest(filename: str, members: dict[str, bytes]) -> str:
        return content_digest(open_wheel(wheel(tmp_path, filename, members)))

    base = {_M: universal(), "p/__init__.py": b"x"}
    one = digest(_UNIVERSAL, base)
    assert digest("p-1.0-7-cp311-cp311-macosx_12_0_arm64.whl", base) == one
    assert digest(_UNIVERSAL, {**base, "p/__init__.py": b"y"}) != one
    assert digest(_UNIVERSAL, {_M: base[_M], "p/moved.py": b"x"}) != one


def test_a_published_name_must_be_that_of_its_content(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-1_0123456789ab-py3-none-any.whl", {"p/__init__.py": b""})
    assert judge(path).verdict == "accept"
    refused = reverify(path)
    assert isinstance(refused, Judgement)
    assert (refused.verdict, refused.tags) == ("reject", frozenset())
    assert only(refused, "content-name").evidence["build"] == "1_0123456789ab"


def test_a_published_file_that_would_need_a_retag_is_refused(tmp_path: Path) -> None:
    refused = reverify(wheel(tmp_path, _UNIVERSAL, {_M: mach("arm64")}))
    assert isinstance(refused, Judgement)
    assert refused.verdict == "reject"


def test_a_refused_wheel_leaves_nothing_to_publish(tmp_path: Path) -> None:
    path = wheel(tmp_path, _UNIVERSAL, {_M: mach("arm64", "11.0", ("nothing",))})
    refused = verify_for_store(path, Context(), _out(tmp_path))
    assert isinstance(refused, Judgement)
    assert (refused.verdict, list(_out(tmp_path).iterdir())) == ("reject", [])


def test_a_wheel_tied_to_libpython_says_so(tmp_path: Path) -> None:
    soname = "libpython3.11.so.1.0"
    stub = elf(("helper",), ("-nostdlib", f"-Wl,-soname,{soname}"))
    members = {f"p/m{LINUX_SUFFIX}": elf(libraries=((soname, stub),))}
    path = wheel(tmp_path, "p-1.0-cp311-cp311-linux_x86_64.whl", members)
    context = Context(libpython_name=soname, built_by="cp311")
    verified = _published(verify_for_store(path, context, _out(tmp_path)))
    assert verified.interpreter_bound == (f"p/m{LINUX_SUFFIX}",)
    assert names_of(verified) == {"cp311-cp311-linux_x86_64"}
    assert isinstance(reverify(verified.path), Judgement)
    assert isinstance(reverify(verified.path, context), VerifiedWheel)


def test_a_wheel_that_claims_another_python_is_published_for_its_builder(tmp_path: Path) -> None:
    path = wheel(tmp_path, "p-1.0-py313-none-any.whl", {"p/__init__.py": b""})
    verified = _published(verify_for_store(path, Context(built_by="cp311"), _out(tmp_path)))
    assert names_of(verified) == {"cp311-none-any"}
    assert names(judge(verified.path)) == {"cp311-none-any"}
