"""Pure or not: what the tag, Root-Is-Purelib and .data/purelib say, against what is inside."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from builder.checks.context import Context
from builder.judge import judge
from builder.verify import retag_to
from builder.wheel import open_wheel
from tests.builder.forge import (
    LINUX_SUFFIX,
    MAC_SUFFIX,
    calling,
    dylib,
    elf,
    errors,
    mach,
    names,
    only,
    pe,
    verdict_of,
    wheel,
)

_ARM = "macosx_11_0_arm64"
_MANY = "manylinux_2_17_x86_64"
_PURELIB = "p-1.0.data/purelib"


@pytest.mark.parametrize(
    "claim", [f"py3-none-{_ARM}", f"cp311-cp311-{_ARM}", f"py3-none-{_MANY}", "py3-none-win_amd64"]
)
def test_a_platform_tag_over_pure_code_is_a_conservative_claim(tmp_path: Path, claim: str) -> None:
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", {"p/__init__.py": b""})
    assert (judgement.verdict, names(judgement)) == ("accept", {claim})


@pytest.mark.parametrize(
    ("platform", "member", "make"),
    [
        (_ARM, f"p/m{MAC_SUFFIX}", mach),
        (_ARM, "p/libdep.dylib", partial(dylib, "@rpath/libdep.dylib")),
        (_MANY, f"p/m{LINUX_SUFFIX}", elf),
    ],
)
def test_root_is_purelib_over_binaries_is_mended(
    tmp_path: Path, platform: str, member: str, make: Callable[[], bytes]
) -> None:
    name = f"p-1.0-cp311-cp311-{platform}.whl"
    path = wheel(tmp_path, name, {member: make()}, purelib="true")
    judgement = judge(path)
    assert (judgement.verdict, errors(judgement)) == ("retag", {"root-is-purelib"})
    finding = only(judgement, "root-is-purelib")
    assert (finding.member, finding.evidence["right"]) == ("p-1.0.dist-info/WHEEL", "false")
    out = tmp_path / "out"
    out.mkdir()
    assert retag_to(path, judgement, out, Context()).verdict == "accept"
    assert open_wheel(out / name).header("Root-Is-Purelib") == ("false",)


@pytest.mark.parametrize(
    ("claim", "member", "make"),
    [
        (f"cp311-cp311-{_ARM}", f"p/m{MAC_SUFFIX}", mach),
        (f"py3-none-{_ARM}", "p/libdep.dylib", partial(dylib, "@rpath/libdep.dylib")),
        (f"cp311-cp311-{_MANY}", f"p/m{LINUX_SUFFIX}", elf),
        (f"py3-none-{_MANY}", "p/libdep.so.1", partial(elf, ("helper",))),
        ("py3-none-win_amd64", "p/dep.dll", partial(pe, "amd64", ("helper",), ())),
    ],
)
def test_a_binary_in_purelib_is_refused(
    tmp_path: Path, claim: str, member: str, make: Callable[[], bytes]
) -> None:
    place = f"{_PURELIB}/{member}"
    judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", {place: make()})
    assert (judgement.verdict, only(judgement, "purelib-binary").member) == ("reject", place)


def test_libraries_among_which_code_chooses_may_lie_in_purelib(tmp_path: Path) -> None:
    members = {
        f"{_PURELIB}/p/linux.so": elf(("attach",)),
        f"{_PURELIB}/p/mac.dylib": mach("arm64", "11.0", ("attach",)),
        f"{_PURELIB}/p/load.py": b"import ctypes\nNAMES = ['linux', 'mac']\n",
    }
    judgement = verdict_of(tmp_path, "p-1.0-py3-none-any.whl", members)
    assert (judgement.verdict, errors(judgement)) == ("accept", set())


@pytest.mark.parametrize(
    ("suffix", "symbols", "holds"),
    [
        (".abi3.so", (), "cp32-abi3"),
        (".abi3.so", ("PyBuffer_Release",), "cp311-abi3"),
        (".abi3-darwin.so", (), "cp315-abi3"),
    ],
)
def test_a_stable_module_in_a_wheel_for_every_python_gets_its_true_tag(
    tmp_path: Path, suffix: str, symbols: tuple[str, ...], holds: str
) -> None:
    members = {f"p/m{suffix}": mach("arm64", body=calling(*symbols))}
    for claim in (f"py3-none-{_ARM}", "py3-none-any", f"py2.py3-none-{_ARM}"):
        judgement = verdict_of(tmp_path, f"p-1.0-{claim}.whl", members)
        assert (judgement.verdict, names(judgement)) == ("retag", {f"{holds}-{_ARM}"})
