from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from builder.archive import ArchiveLimits, read_member, unpack_archive
from builder.errors import ArchiveError

Member = tuple[tarfile.TarInfo, bytes]


def file(name: str, data: bytes = b"data", *, mode: int = 0o644, mtime: int = 1000) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = len(data), mode, mtime
    return info, data


def special(name: str, kind: bytes, linkname: str = "") -> Member:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, linkname
    return info, b""


def symlink(name: str, target: str) -> Member:
    return special(name, tarfile.SYMTYPE, target)


def hardlink(name: str, target: str) -> Member:
    return special(name, tarfile.LNKTYPE, target)


@pytest.fixture
def tar(tmp_path: Path) -> Callable[[Iterable[Member]], Path]:
    def write(members: Iterable[Member]) -> Path:
        path = tmp_path / "x-1.0.tar.gz"
        with tarfile.open(path, "w:gz") as archive:
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        return path

    return write


Tar = Callable[[Iterable[Member]], Path]


def unpack(archive: Path, tmp_path: Path, limits: ArchiveLimits | None = None) -> Path:
    (tmp_path / "into").mkdir()
    return unpack_archive(archive, tmp_path / "into", limits).tree


def outside(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name != "into")


def test_files_modes_times_and_inner_links_come_out(tar: Tar, tmp_path: Path) -> None:
    members = [
        file("x-1.0/a.txt", b"a", mtime=2000),
        file("x-1.0/bin/run", b"#!", mode=0o4777),
        symlink("x-1.0/bin/alias", "../a.txt"),
        hardlink("x-1.0/again.txt", "x-1.0/a.txt"),
        special("x-1.0/empty", tarfile.DIRTYPE),
    ]
    (tmp_path / "into").mkdir()
    unpacked = unpack_archive(tar(members), tmp_path / "into")
    tree = unpacked.tree
    assert unpacked.newest_mtime == 2000
    assert (tree / "bin/alias").read_text() == "a"
    assert (tree / "again.txt").read_text() == "a"
    assert (tree / "a.txt").stat().st_mtime == 2000
    assert stat.S_IMODE((tree / "bin/run").stat().st_mode) & ~os.umask(0o022) == 0o755
    assert (tree / "empty").is_dir()


def test_a_link_to_nothing_is_left_out(tar: Tar, tmp_path: Path) -> None:
    tree = unpack(tar([file("x-1.0/a"), symlink("x-1.0/b", "gone")]), tmp_path)
    assert not (tree / "b").is_symlink()


HOSTILE: dict[str, tuple[list[Member], str]] = {
    "dotdot": ([file("x-1.0/../../evil")], "outside of the folder"),
    "dotdot alone": ([file("..")], "outside of the folder"),
    "absolute": ([file("/tmp/evil")], "outside of the folder"),
    "backslash": ([file("x-1.0/a\\..\\b")], "backslash"),
    "control character": ([file("x-1.0/a\x1b[2J")], "control characters"),
    "not utf-8": ([file("x-1.0/a\udcff")], "control characters"),
    "very long": ([file("x-1.0/" + "n/" * 600 + "f")], "too long"),
    "absolute link": ([file("x-1.0/a"), symlink("x-1.0/l", "/etc/passwd")], "absolute"),
    "link out": ([file("x-1.0/a"), symlink("x-1.0/l", "../../log")], "leaves the folder"),
    "link to the folder above": ([file("x-1.0/a"), symlink("x-1.0/l", "..")], "leaves the folder"),
    "link out through a link": (
        [
            file("x-1.0/d/e/a"),
            symlink("x-1.0/deep", "d/e"),
            symlink("x-1.0/out", "deep/../../../../log"),
        ],
        "leaves the folder",
    ),
    "write through a link": (
        [symlink("x-1.0/l", "../.."), file("x-1.0/l/evil")], "written to one place",
    ),
    "link loop": (
        [file("x-1.0/a"), symlink("x-1.0/l", "m"), symlink("x-1.0/m", "l")], "cannot be followed",
    ),
    "empty link": ([file("x-1.0/a"), symlink("x-1.0/l", "")], "empty"),
    "hard link out": ([file("x-1.0/a"), hardlink("x-1.0/l", "../../log")], "outside"),
    "hard link forward": ([hardlink("x-1.0/l", "x-1.0/a"), file("x-1.0/a")], "no file before it"),
    "hard link to a link": (
        [file("x-1.0/a"), symlink("x-1.0/s", "a"), hardlink("x-1.0/l", "x-1.0/s")],
        "no file before it",
    ),
    "device": ([special("x-1.0/null", tarfile.CHRTYPE)], "device"),
    "block device": ([special("x-1.0/sda", tarfile.BLKTYPE)], "device"),
    "pipe": ([special("x-1.0/pipe", tarfile.FIFOTYPE)], "pipe"),
    "twice": ([file("x-1.0/a"), file("x-1.0/a")], "one place"),
    "case": ([file("x-1.0/Readme"), file("x-1.0/README")], "one place"),
    "unicode": ([file("x-1.0/\u00e9"), file("x-1.0/e\u0301")], "one place"),
    "folder over file": ([file("x-1.0/a"), file("x-1.0/a/b")], "one place"),
    "file over folder": ([file("x-1.0/a/b"), file("x-1.0/a")], "one place"),
    "two tops": ([file("x-1.0/a"), file("y-1.0/a")], "one top folder"),
    "top is a file": ([file("x-1.0")], "not a folder"),
    "top is a link": ([symlink("x-1.0", "."), ], "not a folder|leaves"),
    "nothing": ([], "one top folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("filter_there", [True, False])
def test_what_is_hostile_is_refused_and_nothing_gets_out(
    name: str, filter_there: bool, tar: Tar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    members, words = HOSTILE[name]
    if filter_there:
        words += "|data filter refuses"
    else:
        # As on a Python before 3.11.4: our own rules have to be enough.
        monkeypatch.delattr(tarfile, "data_filter", raising=False)
    (tmp_path / "log").write_text("ours")
    archive = tar(members)
    before = outside(tmp_path)
    with pytest.raises(ArchiveError, match=words):
        unpack(archive, tmp_path)
    assert outside(tmp_path) == before
    assert (tmp_path / "log").read_text() == "ours"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (ArchiveLimits(members=2), "more than 2 members"),
        (ArchiveLimits(member_bytes=99), "larger than 99"),
        (ArchiveLimits(total_bytes=150), "more than 150 bytes"),
        (ArchiveLimits(links=0), "more than 0 links"),
    ],
)
def test_limits_hold(limits: ArchiveLimits, words: str, tar: Tar, tmp_path: Path) -> None:
    archive = tar([file("x/a", b"a" * 100), file("x/b", b"b" * 90), symlink("x/c", "a")])
    with pytest.raises(ArchiveError, match=words):
        unpack(archive, tmp_path, limits)


def test_copies_of_a_file_count(tar: Tar, tmp_path: Path) -> None:
    copies = [hardlink(f"x/{n}", "x/a") for n in range(10)]
    with pytest.raises(ArchiveError, match="unpacks to more than 500"):
        unpack(tar([file("x/a", b"a" * 100), *copies]), tmp_path, ArchiveLimits(total_bytes=500))


def test_a_header_bomb_is_not_read_into_memory(tmp_path: Path) -> None:
    bomb = tarfile.TarInfo("x-1.0/a")
    bomb.type, bomb.size = tarfile.XHDTYPE, 1 << 30
    with gzip.open(tmp_path / "x.tar.gz", "wb", compresslevel=1) as out:
        out.write(bomb.tobuf(tarfile.USTAR_FORMAT))
        out.write(bytes(4 << 20))
    with pytest.raises(ArchiveError, match="header"):
        unpack(tmp_path / "x.tar.gz", tmp_path)


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    sparse = tarfile.TarInfo("x-1.0/a")
    sparse.type, sparse.size = tarfile.GNUTYPE_SPARSE, 0
    block = bytearray(sparse.tobuf(tarfile.GNU_FORMAT))
    block[483:495] = b"77777777777\0"  # the real size, 8 GiB
    block[148:156] = b"        "
    block[148:156] = b"%06o\0 " % sum(block)
    with gzip.open(tmp_path / "x.tar.gz", "wb") as out:
        out.write(bytes(block) + bytes(1024))
    with pytest.raises(ArchiveError, match="sparse"):
        unpack(tmp_path / "x.tar.gz", tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 10, 200, -1, -9])
def test_a_cut_off_archive_says_so(keep: int, tar: Tar, tmp_path: Path) -> None:
    archive = tar([file("x-1.0/a", os.urandom(5000))])
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(ArchiveError, match=r"cut off|corrupt|one top folder"):
        unpack(archive, tmp_path)


def test_any_changed_byte_is_noticed(tar: Tar, tmp_path: Path) -> None:
    archive = tar([file("x-1.0/a", b"data" * 50), file("x-1.0/b", b"more")])
    good = archive.read_bytes()
    data = good.index(b"\0", 10) + 1  # behind the gzip header, whose file name nobody reads
    for place in range(data, len(good)):
        archive.write_bytes(good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :])
        into = tmp_path / f"into-{place}"
        into.mkdir()
        with pytest.raises(ArchiveError):
            unpack_archive(archive, into)


def test_read_member_finds_the_one_at_the_top(tar: Tar) -> None:
    archive = tar([file("x-1.0/sub/PKG-INFO", b"no"), file("x-1.0/PKG-INFO", b"yes")])
    assert read_member(archive, "PKG-INFO", 100) == b"yes"
    assert read_member(archive, "setup.py", 100) is None
    with pytest.raises(ArchiveError, match="larger than 2"):
        read_member(archive, "PKG-INFO", 2)


# --- zip ---------------------------------------------------------------------------------------


def zip_of(path: Path, members: dict[str, bytes], mode: int = 0o100644) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6))
            info.external_attr = mode << 16
            archive.writestr(info, data)
    return path


def test_a_zip_comes_out(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x-1.0.zip", {"x-1.0/": b"", "x-1.0/a/b": b"ab"})
    (tmp_path / "into").mkdir()
    unpacked = unpack_archive(archive, tmp_path / "into")
    assert (unpacked.tree / "a/b").read_bytes() == b"ab"
    assert unpacked.newest_mtime == 1577934246
    assert read_member(archive, "nothing", 10) is None


@pytest.mark.parametrize(
    ("members", "mode", "words"),
    [
        ({"x/../../evil": b""}, 0o100644, "outside"),
        ({"/evil": b""}, 0o100644, "outside"),
        ({"x/l": b"../../log"}, 0o120777, "leaves the folder|not a folder"),
        ({"x/l": b"/etc/passwd"}, 0o120777, "absolute"),
        ({"x/p": b""}, 0o010644, "pipe"),
        ({"x/a": b"", "X/A": b""}, 0o100644, "one place"),
        ({"x/a": b"", "y/a": b""}, 0o100644, "one top folder"),
    ],
)
def test_a_hostile_zip_is_refused(
    members: dict[str, bytes], mode: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text("ours")
    archive = zip_of(tmp_path / "x-1.0.zip", members, mode)
    with pytest.raises(ArchiveError, match=words):
        unpack(archive, tmp_path)


def test_zips_of_unknown_or_broken_kinds_are_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x-1.0.zip", {"x/a": b"data" * 100})
    good = archive.read_bytes()
    at = good.index(b"PK\x01\x02")
    broken = {
        "encrypted": good[: at + 8] + b"\x01\x00" + good[at + 10 :],
        "packed by method 99": good[: at + 10] + struct.pack("<H", 99) + good[at + 12 :],
        "corrupt": good[: at + 16] + b"\0\0\0\0" + good[at + 20 :],
        "cut off, no zip": good[:-30],
        "too large": good[:-10] + struct.pack("<I", 1 << 30) + good[-6:],
    }
    for number, (words, data) in enumerate(broken.items()):
        archive.write_bytes(data)
        into = tmp_path / str(number)
        into.mkdir()
        with pytest.raises(ArchiveError, match=words):
            unpack_archive(archive, into)


def test_a_zip_member_that_unpacks_to_more_than_it_claims_is_refused(tmp_path: Path) -> None:
    archive = zip_of(tmp_path / "x-1.0.zip", {"x/a": b"d" * 100_000})
    data = archive.read_bytes()
    claimed = struct.pack("<I", 100_000)
    archive.write_bytes(data.replace(claimed, struct.pack("<I", 10)))
    with pytest.raises(ArchiveError):
        unpack(archive, tmp_path)
