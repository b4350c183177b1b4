"""Our readers against lief and against LLVM, over every binary of every real wheel.

Two independent judges, neither of them the engine: whatever one of them says otherwise fails, and
is either mended or explained in docs/corpus.md.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.binaries.image import ElfFile, MachFile, PeFile
from builder.binaries.read import looks_like_binary, read_binary
from tests.builder.binaries.test_against_lief import compare, our_elf, our_pe, our_slice
from tests.corpus import by_llvm
from tests.corpus.listed import Listed, read_list

pytestmark = [pytest.mark.corpus, pytest.mark.network]
_each_wheel = pytest.mark.parametrize(
    "listed",
    [
        pytest.param(wheel, id=str(wheel), marks=pytest.mark.xdist_group(wheel.sha256))
        for wheel in read_list()
    ],
)


def _binaries(listed: Listed, path: Path) -> Iterator[tuple[str, bytes]]:
    """The Mach-O, ELF and PE members; at least one, when the tag is for one system."""
    found = 0
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            if looks_like_binary(data[:8]):
                found += 1
                yield name, data
    assert found or any(tag.platform == "any" for tag in listed.claimed)


@_each_wheel
def test_lief_says_the_same(listed: Listed, path: Path) -> None:
    for name, data in _binaries(listed, path):
        compare(name, data)


@_each_wheel
def test_llvm_says_the_same(listed: Listed, path: Path, tmp_path: Path) -> None:
    if missing := by_llvm.missing_tools():
        pytest.skip(f"the package llvm is not installed: {', '.join(missing)}")
    for name, data in _binaries(listed, path):
        binary = tmp_path / "binary"
        binary.write_bytes(data)
        assert _differences(name, data, binary) == []


def _differences(name: str, data: bytes, path: Path) -> list[str]:
    """Each field in which LLVM says otherwise, with what each of the two says only by itself."""
    ours = read_binary(data)
    if isinstance(ours, MachFile):
        pairs = list(zip(map(our_slice, ours.slices), by_llvm.macho(path), strict=True))
    elif isinstance(ours, PeFile):
        pairs = [(our_pe(ours), by_llvm.pe(path))]
    else:
        assert isinstance(ours, ElfFile), name
        pairs = [(our_elf(ours), by_llvm.elf(path))]
    return [
        f"{name}: {field}: {_only(mine[field], value)}"
        for mine, theirs in pairs
        for field, value in theirs.items()
        if mine[field] != value
    ]


def _only(mine: object, theirs: object) -> str:
    if isinstance(mine, frozenset) and isinstance(theirs, set):
        return f"only ours {sorted(mine - theirs)[:20]}, only theirs {sorted(theirs - mine)[:20]}"
    return f"{mine!r}, theirs {theirs!r}"
