"""Files that are made to hurt whoever reads them: each is a name and the bytes of a wheel."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping

from tests.builder.forge import metadata, record

NAME = "p-1.0-py3-none-any.whl"
_INFO = "p-1.0.dist-info"
MINIMAL = {f"{_INFO}/{name}": b"" for name in ("METADATA", "WHEEL", "RECORD")}
"""The files without which a wheel is not looked at any further."""
_WHEEL = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive of `members`."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as target:
        for name, data in members.items():
            target.writestr(zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)), data, method, 1)
    return out.getvalue()


def true_wheel(members: Mapping[str, bytes], **replaced: bytes) -> bytes:
    """A true pure wheel of `members`; `replaced` are METADATA, WHEEL or RECORD as given."""
    parts = {"METADATA": metadata("p", "1.0"), "WHEEL": _WHEEL} | replaced
    everything = {**members, **{f"{_INFO}/{name}": data for name, data in parts.items()}}
    everything.setdefault(f"{_INFO}/RECORD", record(everything, _INFO))
    return archive(everything)


def raw_archive(entries: list[tuple[bytes, int, bytes, int]]) -> bytes:
    """An archive written field by field: (name, flags, packed bytes, size declared) of each."""
    body, directory = b"", b""
    for name, flags, packed, size in entries:
        fields = (20, flags, 8, 0, 33, 0, len(packed), size, len(name), 0)
        directory += struct.pack("<4sH5H3L2H", b"PK\x01\x02", 20, *fields)
        directory += struct.pack("<3H2L", 0, 0, 0, 0, len(body)) + name
        body += struct.pack("<4s5H3L2H", b"PK\x03\x04", *fields) + name + packed
    count = len(entries)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), len(body), 0)
    return body + directory + end


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def _bomb() -> bytes:
    """10 GB declared in 10 kB, in members of 1 GB each."""
    return raw_archive([(b"p/%d" % n, 0, _deflated(bytes(1 << 20)), 1 << 30) for n in range(10)])


def _overlapping() -> bytes:
    """Members that all stand over one run of packed bytes, so that it counts many times."""
    whole = raw_archive([(b"p/0", 0, _deflated(bytes(1 << 20)), 1 << 20)])
    at = whole.index(b"PK\x01\x02")
    row = whole[at : whole.index(b"PK\x05\x06")]
    rows = b"".join(row.replace(b"p/0", b"p/%d" % n) for n in range(9))
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 9, 9, len(rows), at, 0)
    return whole[:at] + rows + end


def _nested() -> bytes:
    """Archives in archives, ten deep and ten wide at each: to us they are data, and not a bomb."""
    inner = bytes(1 << 20)
    for _ in range(6):
        inner = archive({f"{n}.zip": inner for n in range(4)})
    return true_wheel({"p/nested.zip": inner})


def _encrypted() -> bytes:
    return raw_archive([(b"p/x.py", 1, _deflated(b"x"), 1)])


def _many(count: int) -> bytes:
    return true_wheel({f"p/{n}": b"" for n in range(count)})


def _named(name: bytes, flags: int) -> bytes:
    return raw_archive([(name, flags, _deflated(b""), 0)])


def _unique_headers() -> bytes:
    lines = b"".join(b"h%d: x\n" % n for n in range(200_000))
    return true_wheel({}, METADATA=metadata("p", "1.0") + lines)


def _many_headers() -> bytes:
    return true_wheel({}, METADATA=metadata("p", "1.0") + b"classifier: x\n" * 500_000)


def _endless_record() -> bytes:
    return true_wheel({}, RECORD=b"a\n" * (30 << 20))


def _combining_names() -> bytes:
    marks = "\u0301\u0323" * 15_000
    return true_wheel({f"p/{n}{marks}": b"" for n in range(200)})


def _larger_than_it_says() -> bytes:
    return raw_archive([(b"p/x", 0, _deflated(bytes(60 << 20)), 10)])


REJECTED: Mapping[str, Callable[[], bytes]] = {
    "empty file": lambda: b"",
    "no zip": lambda: b"MZ" + bytes(5000),
    "empty zip": lambda: raw_archive([]),
    "zip of nothing but a folder": lambda: archive({"p/": b""}),
    "encrypted": _encrypted,
    "bomb": _bomb,
    "overlapping bomb": _overlapping,
    "larger than it says": _larger_than_it_says,
    "too many members": lambda: _many(100_001),
    "invalid UTF-8, flagged as UTF-8": lambda: _named(b"p/\xff\xfe.py", 0x800),
    "surrogate in UTF-8": lambda: _named(b"p/\xed\xa0\x80.py", 0x800),
    "overlong UTF-8": lambda: _named(b"p/\xc0\xaf.py", 0x800),
    "other encoding": lambda: _named(b"p/\xff\xfe.py", 0),
    "NUL in a name": lambda: _named(b"p/a\x00.py", 0),
    "empty name": lambda: _named(b"", 0),
    "name of 60 kB": lambda: _named(b"p/" + b"a" * 60_000, 0),
    "combining marks": _combining_names,
    "unique headers": _unique_headers,
    "many headers": _many_headers,
    "endless RECORD": _endless_record,
}
"""Name -> bytes of what must be rejected."""

ACCEPTED: Mapping[str, Callable[[], bytes]] = {
    "nested archives": _nested,
    "as many members as are read": lambda: _many(99_997),
}
"""Name -> bytes of what is large or odd, and honest."""


def every() -> list[tuple[str, str]]:
    """Each name with the verdict that is due."""
    return [*((name, "reject") for name in REJECTED), *((name, "accept") for name in ACCEPTED)]


def bytes_of(name: str) -> bytes:
    """The file that `name` stands for."""
    return (REJECTED.get(name) or ACCEPTED[name])()
