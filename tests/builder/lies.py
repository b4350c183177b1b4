"""The table of lies: every kind that a wheel can tell, a wheel that tells it, and what must follow.

Members come from real linkers where the format allows it; bytes are patched where no linker makes
them. tests/builder/test_lies.py holds the verifier to each row.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from store.verdict import Verdict
from tests.builder.forge import (
    LINUX_SUFFIX,
    MAC_SUFFIX,
    calling,
    dylib,
    elf,
    fat,
    mach,
    musl,
    pe,
    universal,
    wheel,
    with_command,
    zig_elf,
)

Parts = Callable[[], Mapping[str, bytes]]

M = f"p/m{MAC_SUFFIX}"
L = f"p/m{LINUX_SUFFIX}"
ON_MUSL = "p/m.cpython-311-x86_64-linux-musl.so"
W = "p/m.cp311-win_amd64.pyd"
INFO = "p-1.0.dist-info"
U2, ARM, INTEL = "macosx_11_0_universal2", "macosx_11_0_arm64", "macosx_11_0_x86_64"
MANY, MUSL = "manylinux_2_17_x86_64", "musllinux_1_2_x86_64"
_SIGNATURE, _BUILD_VERSION, _SPARE = 0x1D, 0x32, 0x7FFF


@dataclass(frozen=True, kw_only=True)
class Lie:
    """One kind of lie.

    `claim` is the tag set of the file name (a platform alone stands for cp311-cp311), `parts` makes
    the members, `damage` changes the finished file. The finding that must follow is of `check`, on
    `member` and `arch`; `tags` are what a retag must leave, by platform or whole.
    """

    family: str
    kind: str
    claim: str
    verdict: Verdict
    check: str
    member: str | None = None
    arch: str | None = None
    tags: frozenset[str] = frozenset()
    parts: Parts = dict
    options: Mapping[str, Any] = field(default_factory=dict)
    damage: Callable[[Path], None] | None = None

    def make(self, folder: Path) -> Path:
        """The wheel that tells the lie."""
        path = wheel(folder, f"p-1.0-{full(self.claim)}.whl", self.parts(), **self.options)
        if self.damage:
            self.damage(path)
        return path

    def __str__(self) -> str:
        return f"{self.family}: {self.kind}"


def full(claim: str) -> str:
    """A tag set of three parts."""
    return claim if claim.count("-") >= 2 else f"cp311-cp311-{claim}"


# --- makers ------------------------------------------------------------------------------------


def _one(path: str, make: Callable[..., bytes], *args: Any, **named: Any) -> Parts:
    return lambda: {path: make(*args, **named)}


def _pure() -> Mapping[str, bytes]:
    return {"p/__init__.py": b"x = 1\n" * 50, "p/data.txt": b"data"}


def _module(name: str, arch: str) -> bytes:
    return mach(arch, "11.0", (f"PyInit_{name}",))


def _patched(make: Callable[[], bytes], kind: str, at: int, value: int) -> Callable[[], bytes]:
    def patch() -> bytes:
        data = bytearray(make())
        struct.pack_into(kind, data, at, value)
        return bytes(data)

    return patch


def _lying_entry() -> bytes:
    data = bytearray(universal())
    struct.pack_into(">I", data, 8, 0x0100000C)  # the entry of the x86_64 slice calls it arm64
    struct.pack_into(">I", data, 28, 0x01000007)
    return bytes(data)


def _linked(install_name: str, *flags: str, arch: str = "arm64") -> bytes:
    library = ("libdep.dylib", dylib(install_name, arch))
    return mach(arch, flags=("-shared", *flags), libraries=(library,))


def _needing(soname: str) -> bytes:
    library = elf(("helper",), ("-nostdlib", f"-Wl,-soname,{soname}"))
    return elf(libraries=((soname, library),))


def _changed(data: bytes) -> bytes:
    """Another byte in the code, after the linker signed it."""
    at = data.index(struct.pack("<I", 0xD65F03C0))  # ret
    return data[:at] + struct.pack("<I", 0xD503201F) + data[at + 4 :]


def _with_vendored(data: bytes) -> Mapping[str, bytes]:
    return {M: mach("arm64"), "p/.dylibs/libdep.dylib": data}


# --- damage ------------------------------------------------------------------------------------


def _bytes(change: Callable[[bytearray], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(path.read_bytes())
        change(data)
        path.write_bytes(data)

    return damage


def _added(name: str, mode: int = stat.S_IFREG | 0o644) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, b"x")

    return damage


def _rename_in_local_header(data: bytearray) -> None:
    at = data.index(b"p/data.txt")
    data[at : at + 10] = b"p/evil.txt"


def _append(data: bytearray) -> None:
    data += b"trailing"


def _bad_crc(data: bytearray) -> None:
    central = data.index(b"PK\x01\x02")
    for at in (14, central + 16):
        data[at] ^= 1


def _understate(data: bytearray) -> None:
    central = data.index(b"PK\x01\x02")
    for at in (22, central + 24):
        struct.pack_into("<I", data, at, 10)


def _bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("p/zeros", bytes(80 << 20))


def _record(old: bytes, new: bytes) -> Callable[[Path], None]:
    """The same members, with a line of RECORD changed."""

    def damage(path: Path) -> None:
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        text = members[f"{INFO}/RECORD"]
        assert old in text
        members[f"{INFO}/RECORD"] = text.replace(old, new, 1)
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return damage


def _metadata(old: bytes, new: bytes) -> Callable[[Path], None]:
    """The wheel made again with another METADATA, its RECORD true."""

    def damage(path: Path) -> None:
        from tests.builder.forge import metadata, record, write_zip

        members = {
            **_pure(),
            f"{INFO}/METADATA": metadata("p", "1.0").replace(old, new),
            f"{INFO}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        write_zip(path, {**members, f"{INFO}/RECORD": record(members, INFO)})

    return damage


# --- the table ---------------------------------------------------------------------------------


def _tags(*platforms: str) -> frozenset[str]:
    return frozenset(map(full, platforms))


def _architecture() -> Iterator[Lie]:
    def lie(kind: str, claim: str, verdict: Verdict, parts: Parts, **rest: Any) -> Lie:
        named = {"check": "macho-architecture", "member": M, "arch": "arm64", **rest}
        return Lie(family="architecture", kind=kind, claim=claim, verdict=verdict,
                   parts=parts, **named)  # fmt: skip

    yield lie("every member thin", U2, "retag", _one(M, mach, "x86_64"), tags=_tags(INTEL))
    yield lie(
        "one member thin among fat ones", U2, "retag",
        lambda: {f"p/a{MAC_SUFFIX}": universal(exports=("PyInit_a",)), M: mach("x86_64")},
        tags=_tags(INTEL),
    )  # fmt: skip
    yield lie(
        "disjoint thin members", U2, "reject",
        lambda: {f"p/a{MAC_SUFFIX}": _module("a", "arm64"), M: mach("x86_64")},
    )  # fmt: skip
    yield lie("arm64 tag over x86_64", ARM, "reject", _one(M, mach, "x86_64"))
    yield lie(
        "x86_64 tag over arm64", INTEL, "retag", _one(M, mach), arch="x86_64", tags=_tags(ARM)
    )
    yield lie(
        "fat file of one slice", U2, "retag", lambda: {M: fat(mach("x86_64"))}, tags=_tags(INTEL)
    )
    yield lie(
        "a slice without its entry point", U2, "retag",
        lambda: {M: fat(mach("x86_64"), mach("arm64", "11.0", ("nothing",)))},
        check="entry-point", tags=_tags(INTEL),
    )  # fmt: skip
    yield lie("arm64e only", ARM, "reject", lambda: {M: _patched(mach, "<I", 8, 2)()})
    yield lie(
        "x86_64h only", INTEL, "reject",
        lambda: {M: _patched(lambda: mach("x86_64"), "<I", 8, 8)()}, arch="x86_64",
    )  # fmt: skip
    broken = {
        "fat entry that lies about its slice": _lying_entry,
        "overlapping fat entries": _patched(universal, ">I", 8 + 20 + 8, 0x4000),
        "truncated fat": lambda: universal()[:-20000],
        "truncated thin": lambda: mach()[:3000],
        "load command of no size": _patched(mach, "<I", 36, 0),
    }
    for kind, make in broken.items():
        yield lie(kind, U2, "reject", _one(M, make), check="malformed-binary", arch=None)
    for kind, flags in {"MH_OBJECT": ("-c",), "MH_EXECUTE": ("-e", "_PyInit_m")}.items():
        parts = _one(M, mach, "arm64", flags=flags)
        yield lie(f"{kind} named .so", ARM, "reject", parts, check="file-type")
    script = "p-1.0.data/scripts/tool"
    yield lie(
        "thin program in .data/scripts", U2, "retag",
        lambda: {M: universal(), script: mach("x86_64", exports=("main",))},
        member=script, tags=_tags(INTEL),
    )  # fmt: skip
    yield lie(
        "thin binary behind an odd extension", U2, "retag",
        lambda: {M: universal(), "p/data.bin": mach("x86_64")},
        member="p/data.bin", tags=_tags(INTEL),
    )  # fmt: skip
    yield lie(
        "ELF file in a macOS wheel", ARM, "accept",
        lambda: {M: mach(), "p/x.bin": zig_elf("aarch64-linux-gnu.2.17")},
        check="elf-architecture", member="p/x.bin", arch="aarch64",
    )  # fmt: skip
    yield lie(
        "vendored library lacks the architecture", ARM, "reject",
        lambda: _with_vendored(dylib("@rpath/libdep.dylib", "x86_64")),
        member="p/.dylibs/libdep.dylib",
    )  # fmt: skip


def _minimum_os() -> Iterator[Lie]:
    def lie(kind: str, claim: str, data: Callable[[], bytes], *tags: str, **rest: Any) -> Lie:
        named = {"verdict": "retag", "member": M, "arch": "arm64", **rest}
        parts = named.pop("parts", None) or _one(M, data)
        return Lie(family="minimum OS", kind=kind, claim=claim, check="minimum-os", parts=parts,
                   tags=_tags(*tags), **named)  # fmt: skip

    low = "macosx_10_13_universal2"
    yield lie("both slices above", low, lambda: universal("12.0", "12.0"), "macosx_12_0_universal2")
    yield lie(
        "arm64 slice above", U2, lambda: universal("11.0", "13.0"), INTEL, "macosx_13_0_arm64"
    )
    yield lie(
        "x86_64 slice above", low, lambda: universal("12.0", "11.0"),
        "macosx_12_0_x86_64", ARM, arch="x86_64",
    )  # fmt: skip
    library = "p/.dylibs/libdep.dylib"
    yield lie(
        "vendored library above", ARM, bytes, "macosx_14_0_arm64", member=library,
        parts=lambda: _with_vendored(dylib("@rpath/libdep.dylib", minimum="14.0")),
    )  # fmt: skip
    yield lie(
        "no minimum at all", INTEL,
        lambda: with_command(mach("x86_64", "11.0"), _BUILD_VERSION, _SPARE),
        verdict="accept", arch="x86_64",
    )  # fmt: skip
    yield lie(
        "15.5 under 15_0", "macosx_15_0_arm64", lambda: mach("arm64", "15.5"), "macosx_26_0_arm64"
    )
    yield lie(
        "a tag that no installer takes", "macosx_12_3_arm64", lambda: mach("arm64", "12.3"),
        "macosx_13_0_arm64", member=None, arch=None,
    )  # fmt: skip
    yield lie(
        "arm64 before its first macOS", "macosx_10_9_arm64", mach, ARM, member=None, arch=None
    )
    for kind, system in {"iOS": "ios", "Catalyst": "maccatalyst"}.items():
        made = partial(mach, "arm64", "14.0", system=system)
        yield lie(f"{kind} in a macOS wheel", ARM, made, verdict="reject")
    ios = "p/m.cpython-313-iphoneos.so"
    yield lie(
        "macOS in an iOS wheel", "cp313-cp313-ios_13_0_arm64_iphoneos", mach, verdict="reject",
        member=ios, parts=_one(ios, mach),
    )  # fmt: skip


def _mac_linkage() -> Iterator[Lie]:
    names = {
        "Homebrew": "/opt/homebrew/lib/libdep.dylib",
        "/usr/local": "/usr/local/lib/libdep.dylib",
        "libpython": "/install/lib/libpython3.11.dylib",
        "framework": "/Library/Frameworks/Python.framework/Versions/3.11/Python",
        "unresolvable @rpath": "@rpath/libdep.dylib",
        "unresolvable @loader_path": "@loader_path/libdep.dylib",
        "a system name that no macOS has": "/usr/lib/libssl.3.dylib",
        "a system library that no macOS has in any version": "/usr/lib/libnobodyknows.dylib",
    }
    base: dict[str, Any] = {
        "family": "linkage, macOS",
        "verdict": "reject",
        "member": M,
        "arch": "arm64",
    }
    for kind, name in names.items():
        parts = _one(M, _linked, name)
        yield Lie(kind=kind, claim=ARM, check="macho-linkage", parts=parts, **base)
    yield Lie(
        kind="only an absolute rpath", claim=ARM, check="macho-linkage",
        parts=_one(M, _linked, "@rpath/libdep.dylib", "-Wl,-rpath,/opt/lib"), **base,
    )  # fmt: skip
    yield Lie(
        kind="a library that only code can have loaded", claim=ARM, check="macho-linkage",
        parts=lambda: {
            M: _linked("@rpath/libdep.dylib"),
            "p/libdep.dylib": dylib("@rpath/libdep.dylib"),
            "p/__init__.py": b"import ctypes; ctypes.CDLL(__path__[0] + '/libdep.dylib')",
        },
        **{**base, "verdict": "accept"},
    )  # fmt: skip
    yield Lie(
        kind="a bad dependency in one slice", claim=U2, check="macho-linkage",
        parts=lambda: {M: fat(mach("x86_64"), _linked("/opt/homebrew/lib/libdep.dylib"))}, **base,
    )  # fmt: skip
    yield Lie(
        kind="a dependency lacks the slice", claim=U2, check="macho-architecture",
        parts=lambda: {
            M: fat(
                _linked("@loader_path/.dylibs/libdep.dylib", arch="x86_64"),
                _linked("@loader_path/.dylibs/libdep.dylib"),
            ),
            "p/.dylibs/libdep.dylib": dylib("@rpath/libdep.dylib", "x86_64"),
        },
        **{**base, "verdict": "retag", "member": "p/.dylibs/libdep.dylib"}, tags=_tags(INTEL),
    )  # fmt: skip
    signature = {
        "arm64 unsigned": lambda: with_command(mach(), _SIGNATURE, _SPARE),
        "a page hash is wrong": lambda: _changed(mach()),
    }
    for kind, make in signature.items():
        yield Lie(kind=kind, claim=ARM, check="code-signature", parts=_one(M, make), **base)


def _python() -> Iterator[Lie]:
    def lie(kind: str, claim: str, suffix: str, *tags: str, **rest: Any) -> Lie:
        member = f"p/m{suffix}"
        named = {"check": "import-suffix", "parts": _one(member, mach), **rest}
        verdict = rest.pop("verdict", "retag" if tags else "reject")
        named.pop("verdict", None)
        return Lie(family="Python", kind=kind, claim=claim, verdict=verdict, member=member,
                   tags=frozenset(tags), **named)  # fmt: skip

    yield lie("cp312 suffix in a cp313 wheel", f"cp313-cp313-{ARM}", ".cpython-312-darwin.so",
              f"cp312-cp312-{ARM}")  # fmt: skip
    yield lie("GIL suffix in cp313t", f"cp313-cp313t-{ARM}", ".cpython-313-darwin.so",
              f"cp313-cp313-{ARM}")  # fmt: skip
    yield lie("PyPy suffix", f"cp310-cp310-{ARM}", ".pypy310-pp73-darwin.so",
              f"pp310-pypy310_pp73-{ARM}")  # fmt: skip
    yield lie("gnu suffix in a musl wheel", MUSL, LINUX_SUFFIX, parts=_one(L, elf))
    yield lie("darwin suffix on an ELF file", MANY, MAC_SUFFIX, parts=_one(M, elf))
    for kind, export in {
        "no entry point": "other",
        "entry point of another name": "PyInit_x",
    }.items():
        parts = _one(M, mach, "arm64", "11.0", (export,))
        yield lie(kind, ARM, MAC_SUFFIX, check="entry-point", arch="arm64", parts=parts)
    yield lie(
        "abi3 over a symbol outside the stable ABI", f"cp38-abi3-{ARM}", ".abi3.so",
        check="abi3-symbols", arch="arm64",
        parts=_one("p/m.abi3.so", mach, body=calling("_PyObject_GetDictPtr")),
    )  # fmt: skip
    yield lie(
        "abi3 over symbols newer than the tag", f"cp38-abi3-{ARM}", ".abi3.so",
        f"cp311-abi3-{ARM}", check="abi3-symbols", arch="arm64",
        parts=_one("p/m.abi3.so", mach, body=calling("PyBuffer_Release")),
    )  # fmt: skip
    yield lie("abi3 tag with a versioned suffix", f"cp38-abi3-{ARM}", ".cpython-312-darwin.so",
              f"cp312-cp312-{ARM}")  # fmt: skip
    yield lie(".abi3.so in cp313t", f"cp313-cp313t-{ARM}", ".abi3.so")
    yield lie("py3-none with a module", f"py3-none-{ARM}", MAC_SUFFIX, f"cp311-cp311-{ARM}")


def _purity() -> Iterator[Lie]:
    def lie(kind: str, claim: str, verdict: Verdict, **rest: Any) -> Lie:
        return Lie(family="purity", kind=kind, claim=claim, verdict=verdict, **rest)

    any_wheel: dict[str, Any] = {"check": "any-wheel", "claim": "py3-none-any", "verdict": "retag"}
    yield lie(kind="any-tag with .so", member=M, arch="arm64", parts=_one(M, mach),
              tags=_tags(ARM), **any_wheel)  # fmt: skip
    dep = "p/libdep.dylib"
    yield lie(kind="any-tag with .dylib", member=dep, arch="arm64", parts=_one(dep, dylib, "x"),
              tags=frozenset({f"py3-none-{ARM}"}), **any_wheel)  # fmt: skip
    yield lie(
        "Root-Is-Purelib over binaries", ARM, "retag", check="root-is-purelib",
        member=f"{INFO}/WHEEL", parts=_one(M, mach), options={"purelib": "true"}, tags=_tags(ARM),
    )  # fmt: skip
    member = f"p-1.0.data/purelib/{M}"
    yield lie("a binary in .data/purelib", ARM, "reject", check="purelib-binary", member=member,
              parts=_one(member, mach))  # fmt: skip


def _elf() -> Iterator[Lie]:
    def lie(kind: str, claim: str, verdict: Verdict, check: str, parts: Parts, **rest: Any) -> Lie:
        named = {"member": L, "arch": "x86_64", **rest}
        return Lie(family="ELF", kind=kind, claim=claim, verdict=verdict, check=check,
                   parts=parts, **named)  # fmt: skip

    newer = _one(L, elf, flags=("-lc",), body="int gettid(void); int use(void){return gettid();}\n")
    yield lie("glibc above the tag", MANY, "retag", "libc-floor", newer,
              tags=_tags("manylinux_2_30_x86_64"))  # fmt: skip
    yield lie("linux where manylinux is true", "linux_x86_64", "retag", "libc-floor", newer,
              tags=_tags("manylinux_2_30_x86_64"))  # fmt: skip
    foreign = _one("p/m.so", zig_elf, "aarch64-linux-gnu.2.17")
    yield lie("all members another architecture", MANY, "reject", "elf-architecture",
              foreign, member="p/m.so", arch="aarch64")  # fmt: skip
    yield lie(
        "one member another architecture", MANY, "reject", "elf-architecture",
        lambda: {L: elf(), "p/a.so": zig_elf("aarch64-linux-gnu.2.17", ("PyInit_a",))},
        member="p/a.so", arch="aarch64",
    )  # fmt: skip
    yield lie("EM_NONE", MANY, "reject", "elf-architecture",
              _one(L, _patched(elf, "<H", 18, 0)), arch="em-0")  # fmt: skip
    yield lie("a needed library is missing", MANY, "reject", "elf-linkage",
              _one(L, _needing, "libfoo.so.3"))  # fmt: skip
    yield lie("musl in manylinux", MANY, "reject", "elf-linkage",
              _one(L, _needing, "libc.musl-x86_64.so.1"))  # fmt: skip
    yield lie("glibc in musllinux", MUSL, "reject", "elf-linkage",
              _one(ON_MUSL, elf, flags=("-lc",)), member=ON_MUSL)  # fmt: skip
    yield lie("an object for glibc, linked to musl", MUSL, "reject", "musl-symbols",
              _one(ON_MUSL, musl, "__fprintf_chk"), member=ON_MUSL)  # fmt: skip
    yield lie("musl above the tag", "musllinux_1_1_x86_64", "retag", "musl-symbols",
              _one(ON_MUSL, musl, "reallocarray"), member=ON_MUSL, tags=_tags(MUSL))  # fmt: skip
    yield lie("musl above the tag, weakly", "musllinux_1_1_x86_64", "accept", "musl-symbols",
              lambda: {ON_MUSL: musl(weak=("reallocarray",))}, member=ON_MUSL)  # fmt: skip
    yield lie("a patch release of musl", MUSL, "accept", "musl-symbols",
              _one(ON_MUSL, musl, "qsort_r"), member=ON_MUSL)  # fmt: skip
    cut = _one(L, lambda: elf()[:3000])
    yield lie("truncated", MANY, "reject", "malformed-binary", cut, arch=None)
    yield Lie(
        family="ELF", kind="a bad file that RECORD does not list", claim=MANY, verdict="reject",
        check="malformed-binary", member="p/bad.so", parts=_one(L, elf),
        options={"extra": {"p/bad.so": b"\x7fELF" + bytes(40)}},
    )  # fmt: skip
    yield lie("executable stack", MANY, "reject", "executable-stack",
              _one(L, elf, flags=("-nostdlib", "-Wl,-z,execstack")))  # fmt: skip
    yield lie("ISA above the target", MANY, "reject", "isa-level",
              _one(L, elf, flags=("-nostdlib", "-Wl,-z,x86-64-v3")))  # fmt: skip


def _windows() -> Iterator[Lie]:
    yield Lie(
        family="Windows", kind="arm64 .pyd in amd64", claim="win_amd64", verdict="reject",
        check="windows-architecture", member=W, arch="arm64", parts=_one(W, pe, "arm64"),
    )  # fmt: skip
    member = "p/m.cp312-win_amd64.pyd"
    yield Lie(
        family="Windows", kind="cp312 .pyd in cp313", claim="cp313-cp313-win_amd64",
        verdict="reject", check="import-suffix", member=member,
        parts=_one(member, pe, "amd64", imports=("python312.dll",)),
    )  # fmt: skip


def _archive() -> Iterator[Lie]:
    def lie(kind: str, check: str, verdict: Verdict = "reject", **rest: Any) -> Lie:
        named = {"claim": "py3-none-any", "parts": _pure, **rest}
        return Lie(family="archive, metadata", kind=kind, check=check, verdict=verdict, **named)

    wheel_file = {"member": f"{INFO}/WHEEL", "tags": frozenset({"py3-none-any"})}
    both = frozenset({"py2-none-any", "py3-none-any"})
    yield lie("WHEEL tags differ", "wheel-tags", "retag", options={"tags": ["py2-none-any"]},
              **wheel_file)  # fmt: skip
    yield lie("WHEEL tags missing", "wheel-tags", "retag", options={"tags": []}, **wheel_file)
    yield lie("WHEEL tags unexpanded", "wheel-tags", "retag", claim="py2.py3-none-any",
              options={"tags": ["py2.py3-none-any"]}, **{**wheel_file, "tags": both})  # fmt: skip
    yield lie("RECORD hash wrong", "record", member="p/__init__.py",
              damage=_record(b"p/__init__.py,sha256=", b"p/__init__.py,sha256=A"))  # fmt: skip
    yield lie("file unlisted", "record", member="p/hidden.py",
              options={"extra": {"p/hidden.py": b"x"}})  # fmt: skip
    yield lie("row without file", "record", member="p/lost.py",
              damage=_record(b"p/data.txt", b"p/lost.py"))  # fmt: skip
    unsafe = {
        "duplicate entry": ("p/data.txt", _added("p/data.txt")),
        "zip slip": ("../evil.py", _added("../evil.py")),
        "absolute name": ("/etc/passwd", _added("/etc/passwd")),
        "symlink": ("p/link", _added("p/link", stat.S_IFLNK | 0o777)),
        "local and central headers differ": ("p/data.txt", _bytes(_rename_in_local_header)),
        "trailing data": (None, _bytes(_append)),
        "bad CRC": ("p/__init__.py", _bytes(_bad_crc)),
        "more than is declared": ("p/__init__.py", _bytes(_understate)),
        "bomb": (None, _bomb),
    }
    for kind, (member, damage) in unsafe.items():
        yield lie(kind, "archive-safety", member=member, damage=damage)
    yield lie("two dist-info", "dist-info", damage=_added("q-1.0.dist-info/METADATA"))
    for kind, old, new in (
        ("name mismatch", b"Name: p", b"Name: q"),
        ("version mismatch", b"Version: 1.0", b"Version: 1.1"),
    ):
        yield lie(kind, "identity", member=f"{INFO}/METADATA", damage=_metadata(old, new))
    text = "Wheel-Version: 2.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    yield lie("bad Wheel-Version", "wheel-version", member=f"{INFO}/WHEEL",
              options={"wheel_text": text})  # fmt: skip
    yield lie("malformed tag", "wheel-filename", claim="py3-none-macosx_banana_arm64",
              options={"tags": []})  # fmt: skip
    yield lie("case collision", "path-collision", "accept", member="p/data",
              parts=lambda: {"p/Data": b"1", "p/data": b"2"})  # fmt: skip


LIES: tuple[Lie, ...] = (
    *_architecture(), *_minimum_os(), *_mac_linkage(), *_python(), *_purity(), *_elf(),
    *_windows(), *_archive(),
)  # fmt: skip
