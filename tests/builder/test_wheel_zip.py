"""Hostile containers: whatever one zip reader would see and another would not is refused."""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import RefusedWheelError
from builder.judge import judge
from builder.wheel_zip import Limits, read_archive, unpacked
from tests.builder.forge import only, wheel

_NAME = "p-1.0-py3-none-any.whl"
_END = 22


def _honest(folder: Path) -> Path:
    return wheel(folder, _NAME, {"p/__init__.py": b"x = 1\n" * 50, "p/data.txt": b"data"})


def _refused(path: Path) -> str:
    judgement = judge(path)
    assert (judgement.verdict, judgement.tags) == ("reject", frozenset())
    finding = only(judgement, "archive-safety")
    assert finding.severity == "error"
    return finding.message


def _rewritten(path: Path, change: Callable[[bytearray], None]) -> Path:
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    return path


def _add(path: Path, info: zipfile.ZipInfo, data: bytes = b"x") -> Path:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(info, data)
    return path


@pytest.mark.parametrize("data", [b"", b"PK", b"no zip at all" * 10, bytes(100_000)])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / _NAME
    path.write_bytes(data)
    _refused(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = _honest(tmp_path).read_bytes()
    for length in range(0, len(whole), 37):
        path = tmp_path / _NAME
        path.write_bytes(whole[:length])
        _refused(path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil.py",
        "p/../../evil.py",
        "/etc/passwd",
        "p\\evil.py",
        "C:evil.py",
        "p//x.py",
        "./x.py",
        "p/\x1b[31m.py",
    ],
)
def test_a_path_that_leaves_the_wheel_is_refused(tmp_path: Path, name: str) -> None:
    assert "path" in _refused(_add(_honest(tmp_path), zipfile.ZipInfo(name)))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_a_link_or_device_is_refused(tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("p/link")
    info.external_attr = (kind | 0o777) << 16
    assert "no plain file" in _refused(_add(_honest(tmp_path), info))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_duplicate_member_is_refused(tmp_path: Path) -> None:
    assert "two members" in _refused(_add(_honest(tmp_path), zipfile.ZipInfo("p/data.txt")))


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    def encrypt(data: bytearray) -> None:
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1

    assert "encrypted" in _refused(_rewritten(_honest(tmp_path), encrypt))


def test_a_method_that_wheels_do_not_use_is_refused(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("p/x")
    info.compress_type = zipfile.ZIP_LZMA
    assert "method" in _refused(_add(_honest(tmp_path), info))


def test_headers_that_disagree_are_refused(tmp_path: Path) -> None:
    def rename(data: bytearray) -> None:
        at = data.index(b"p/data.txt")
        data[at : at + 10] = b"p/evil.txt"

    assert "disagree" in _refused(_rewritten(_honest(tmp_path), rename))


@pytest.mark.parametrize("offset", [14, 18, 22], ids=["crc", "packed", "size"])
def test_a_local_header_that_states_another_sum_is_refused(tmp_path: Path, offset: int) -> None:
    def change(data: bytearray) -> None:
        data[offset] ^= 1

    assert "disagree" in _refused(_rewritten(_honest(tmp_path), change))


def test_bytes_before_after_and_between_are_refused(tmp_path: Path) -> None:
    path = _honest(tmp_path)
    whole = path.read_bytes()
    for data in (b"#!/bin/sh\n" + whole, whole + b"x", whole + whole):
        path.write_bytes(data)
        _refused(path)


def test_a_prefix_whose_offsets_are_mended_is_refused(tmp_path: Path) -> None:
    path = _honest(tmp_path)
    out = io.BytesIO(b"PK\x03\x04" + bytes(60))
    out.seek(0, os.SEEK_END)
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(out, "a") as target:
        for info in source.infolist():
            target.writestr(info, source.read(info))
    path.write_bytes(out.getvalue())
    assert "before" in _refused(path)


def test_a_comment_is_refused(tmp_path: Path) -> None:
    path = _honest(tmp_path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"hidden"
    _refused(path)


def test_two_members_over_the_same_bytes_are_refused(tmp_path: Path) -> None:
    def overlap(data: bytearray) -> None:
        first = data.index(b"PK\x01\x02")
        second = data.index(b"PK\x01\x02", first + 4)
        data[second + 42 : second + 46] = data[first + 42 : first + 46]

    _refused(_rewritten(_honest(tmp_path), overlap))


def test_bad_bytes_are_refused(tmp_path: Path) -> None:
    honest = _honest(tmp_path)
    with zipfile.ZipFile(honest) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path = tmp_path / "stored" / _NAME
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)

    def damage(data: bytearray) -> None:
        data[data.index(b"x = 1")] ^= 1

    assert "CRC" in _refused(_rewritten(path, damage))


def test_a_member_larger_than_it_declares_is_refused(tmp_path: Path) -> None:
    def understate(data: bytearray) -> None:
        central = data.index(b"PK\x01\x02")
        for at in (22, central + 24):
            struct.pack_into("<I", data, at, 10)

    assert "more than its declared" in _refused(_rewritten(_honest(tmp_path), understate))


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / _NAME
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/zeros", bytes(80 << 20))
    assert "bomb" in _refused(path)


@pytest.mark.parametrize(
    "limits", [Limits(members=2), Limits(directory=50), Limits(member=5), Limits(total=20)]
)
def test_limits_hold(tmp_path: Path, limits: Limits) -> None:
    with _honest(tmp_path).open("rb") as file, pytest.raises(RefusedWheelError):
        read_archive(file, limits)


def test_streamed_and_zip64_archives_are_read(tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        """A stream that cannot be rewound, so zipfile writes data descriptors."""

        def seekable(self) -> bool:
            return False

        def seek(self, *_args: int) -> int:
            raise OSError

        def tell(self) -> int:
            raise OSError

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", b"one" * 100)
        with archive.open("b", "w", force_zip64=True) as member:
            member.write(b"two" * 100)
    file = io.BytesIO(pipe.getvalue())
    found = {e.path: b"".join(unpacked(file, e, at)) for e, at in read_archive(file).files()}
    assert found == {"a": b"one" * 100, "b": b"two" * 100}


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_changed_byte_never_crashes_the_reader(tmp_path: Path, position: int, value: int) -> None:
    path = _honest(tmp_path)

    def change(data: bytearray) -> None:
        data[position % len(data)] = value

    judgement = judge(_rewritten(path, change))
    assert all(finding.check != "check-crashed" for finding in judgement.findings)
