"""Wheels for tests: members from a real linker, containers and metadata as a test wants them."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from builder.judge import judge
from store.tags import parse_tag_set
from store.verdict import Finding, Judgement

MAC_SUFFIX = ".cpython-311-darwin.so"
LINUX_SUFFIX = ".cpython-311-x86_64-linux-gnu.so"
_CPUS = {"x86_64": (0x01000007, 3), "arm64": (0x0100000C, 0)}
_ANDROID_NOTE = """
struct note {{ int name, size, kind; char owner[8]; int api; char ndk[128]; }};
__attribute__((section(".note.android.ident"), used, aligned(4)))
static const struct note note = {{ 8, 132, 1, "Android", {api}, "r27d" }};
"""
_WINDOWS_ARCH = {"amd64": "x86_64", "arm64": "aarch64", "x86": "x86"}
_DLLTOOL_MACHINE = {"amd64": "i386:x86-64", "arm64": "arm64", "x86": "i386"}
_ZIG_ARCH = {"arm64": "aarch64", "x86_64": "x86_64"}


@cache
def mach(
    arch: str = "arm64",
    minimum: str = "11.0",
    exports: tuple[str, ...] = ("PyInit_m",),
    *,
    flags: tuple[str, ...] = ("-shared",),
    libraries: tuple[tuple[str, bytes], ...] = (),
    system: str = "macos",
    body: str = "",
) -> bytes:
    """A Mach-O file from zig's linker. `libraries` are (file name, bytes) to link."""
    target = f"{_ZIG_ARCH[arch]}-{system}.{minimum}"
    flags = (*flags, "-nostdlib", "-undefined", "dynamic_lookup")
    return _linked(("-target", target), exports, flags, libraries, body)


@cache
def elf(
    exports: tuple[str, ...] = ("PyInit_m",),
    flags: tuple[str, ...] = ("-nostdlib",),
    libraries: tuple[tuple[str, bytes], ...] = (),
    body: str = "",
) -> bytes:
    """A shared library for Linux on x86-64 from the machine's own compiler."""
    source = _source(exports) + body
    return _run(["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", *flags], source, libraries)


@cache
def zig_elf(target: str, exports: tuple[str, ...] = ("PyInit_m",)) -> bytes:
    """A shared library for `target` (``aarch64-linux-gnu.2.17``), without a libc."""
    return _linked(("-target", target), exports, ("-shared", "-fPIC", "-nostdlib"), ())


@cache
def musl(
    *symbols: str,
    weak: tuple[str, ...] = (),
    arch: str = "x86_64",
    needs: tuple[str, ...] = ("libc.musl-x86_64.so.1",),
    exports: tuple[str, ...] = ("PyInit_m",),
    libraries: tuple[tuple[str, bytes], ...] = (),
) -> bytes:
    """A shared library that is linked to musl and asks for `symbols`, and for `weak` if there."""
    flags = ["-shared", "-fPIC", "-nostdlib", "-g0", "-Wl,--no-as-needed"]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{arch}-linux-musl", *flags]
    stubs = tuple((name, _run([*zig, f"-Wl,-soname,{name}"], "", ())) for name in needs)
    source = _source(exports) + (calling(*symbols, weak=weak) if symbols or weak else "")
    return _run(zig, source, (*stubs, *libraries))


@cache
def android(
    api: int | None = 24,
    needs: tuple[str, ...] = ("libpython3.13.so", "libc.so"),
    *,
    target: str = "aarch64-linux-musl",
    page: int = 16384,
    exports: tuple[str, ...] = ("PyInit_m",),
    soname: str = "libm.so.0",
    uses: str = "PyModule_Create2",
) -> bytes:
    """A shared library as the NDK makes it, with its note; zig has no libc for Android."""
    body = f"extern int {uses}(void);\nint use(void) {{ return {uses}(); }}\n" if uses else ""
    body += _ANDROID_NOTE.format(api=api) if api is not None else ""
    flags = ["-shared", "-fPIC", "-nostdlib", "-g0", "-Wl,--no-as-needed", f"-Wl,-soname,{soname}"]
    zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, *flags]
    stubs = tuple((name, _run([*zig[:-1], f"-Wl,-soname,{name}"], "", ())) for name in needs)
    return _run([*zig, f"-Wl,-z,max-page-size={page}"], _source(exports) + body, stubs)


@cache
def pe(
    arch: str = "amd64",
    exports: tuple[str, ...] = ("PyInit_m",),
    imports: tuple[str, ...] = ("python311.dll",),
    flags: tuple[str, ...] = ("/dll", "/noentry"),
    delayed: tuple[str, ...] = (),
    *,
    symbols: tuple[str, ...] = ("PyErr_Clear", "PyErr_Occurred", "PyErr_Print", "PyGC_Collect"),
) -> bytes:
    """A DLL for Windows that uses one function, the next of `symbols`, of each DLL of `imports`."""
    dlls = (*imports, *delayed)
    uses = symbols[: len(dlls)]
    body = "".join(f"__declspec(dllimport) int {name}(void);\n" for name in uses)
    body += f"int use(void) {{ return {' + '.join(f'{n}()' for n in uses) or '0'}; }}\n"
    body += "".join(f"__declspec(dllexport) void *{n}(void) {{ return use; }}\n" for n in exports)
    body += (
        "void *__stdcall __delayLoadHelper2(void *a, void *b) { return 0; }\n" if delayed else ""
    )
    zig = [sys.executable, "-m", "ziglang"]
    target = ["-target", f"{_WINDOWS_ARCH[arch]}-windows-gnu", "-g0", "-fno-sanitize=undefined"]
    compiled = _run([*zig, "cc", *target, "-c"], body, ())
    libraries = [(f"{d}.lib", _import_library(arch, d, n)) for d, n in zip(dlls, uses, strict=True)]
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in [("m.obj", compiled), *libraries]:
            (Path(scratch) / name).write_bytes(data)
        inputs = ["m.obj", *(name for name, _ in libraries), *(f"/delayload:{d}" for d in delayed)]
        link = [*zig, "lld-link", "/lldmingw", *flags, "/out:out", *inputs]
        subprocess.run(link, cwd=scratch, check=True, capture_output=True, timeout=60)
        return (Path(scratch) / "out").read_bytes()


@cache
def _import_library(arch: str, dll: str, symbol: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        exports = Path(scratch) / "dll.def"
        exports.write_text(f"LIBRARY {dll}\nEXPORTS\n{symbol}\n", "utf-8")
        tool = [sys.executable, "-m", "ziglang", "dlltool", "-m", _DLLTOOL_MACHINE[arch]]
        subprocess.run([*tool, "-d", "dll.def", "-l", "out"], cwd=scratch, check=True, timeout=60)
        return (Path(scratch) / "out").read_bytes()


@cache
def dylib(
    install_name: str,
    arch: str = "arm64",
    minimum: str = "11.0",
    extra: tuple[str, ...] = (),
) -> bytes:
    """A macOS library with the given install name."""
    flags = ("-shared", f"-Wl,-install_name,{install_name}", *extra)
    return mach(arch, minimum, ("helper",), flags=flags)


def calling(*symbols: str, weak: tuple[str, ...] = ()) -> str:
    """C that asks for `symbols`, and for `weak` ones if they are there."""
    strong = [f"extern void {name}();" for name in symbols]
    perhaps = [f"extern void {name}() __attribute__((weak, weak_import));" for name in weak]
    calls = "".join(f"((void (*)(void)){name})();" for name in (*symbols, *weak))
    return "\n".join([*strong, *perhaps, f"void use(void) {{ {calls} }}", ""])


def fat(*slices: bytes) -> bytes:
    """A fat Mach-O file of thin ones."""
    header = struct.pack(">2I", 0xCAFEBABE, len(slices))
    offset, places, body = 0x4000, b"", b""
    for data in slices:
        cpu, subtype = struct.unpack_from("<2I", data, 4)
        places += struct.pack(">5I", cpu, subtype, offset + len(body), len(data), 14)
        body += data + b"\0" * (-len(data) % 0x4000)
    return (header + places).ljust(offset, b"\0") + body


def universal(
    minimum_x86: str = "10.13", minimum_arm: str = "11.0", exports: tuple[str, ...] = ("PyInit_m",)
) -> bytes:
    """An honest universal2 extension module."""
    return fat(mach("x86_64", minimum_x86, exports), mach("arm64", minimum_arm, exports))


def with_command(data: bytes, command: int, other: int, holding: bytes = b"") -> bytes:
    """A thin Mach-O file in which the kind of one load command, `holding` a text, is replaced."""
    patched, offset = bytearray(data), 32
    for _ in range(struct.unpack_from("<I", data, 16)[0]):
        kind, size = struct.unpack_from("<2I", data, offset)
        if kind == command and holding in data[offset : offset + size]:
            struct.pack_into("<I", patched, offset, other)
            return bytes(patched)
        offset += size
    raise AssertionError(f"no load command {command:#x}")


def wheel(
    folder: Path,
    filename: str,
    members: Mapping[str, bytes],
    *,
    tags: Iterable[str] | None = None,
    purelib: str | None = None,
    extra: Mapping[str, bytes] | None = None,
    wheel_text: str | None = None,
) -> Path:
    """A wheel named `filename` with a true RECORD; `extra` members are left out of RECORD.

    `tags` are WHEEL's Tag lines, by default those of the file name.
    """
    name, version = filename.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    claimed = filename.removesuffix(".whl").split("-", 2)[2]
    expanded = sorted(map(str, parse_tag_set("-".join(claimed.rsplit("-", 3)[-3:]))))
    pure = purelib or ("true" if claimed.endswith("-any") else "false")
    build = claimed.split("-")[0] if claimed.count("-") == 3 else None
    lines = ["Wheel-Version: 1.0", "Generator: forge", f"Root-Is-Purelib: {pure}"]
    lines += [f"Tag: {tag}" for tag in (expanded if tags is None else tags)]
    lines += [f"Build: {build}"] if build else []
    everything = {
        **members,
        f"{info}/METADATA": metadata(name, version),
        f"{info}/WHEEL": (wheel_text or "\n".join(lines) + "\n").encode(),
    }
    everything[f"{info}/RECORD"] = record(everything, info)
    path = folder / filename
    write_zip(path, {**everything, **(extra or {})})
    return path


def metadata(name: str, version: str) -> bytes:
    """METADATA with what every wheel must say."""
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n".encode()


def record(members: Mapping[str, bytes], info: str) -> bytes:
    """A true RECORD of `members`."""
    rows = [f"{path},sha256={_b64(data)},{len(data)}" for path, data in members.items()]
    return "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()


def write_zip(path: Path, members: Mapping[str, bytes]) -> None:
    """A plain archive of `members`; those below ``.data/scripts`` are executable."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo(name, date_time=(2024, 5, 6, 7, 8, 10))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o100755 if "/scripts/" in name else 0o100644) << 16
            archive.writestr(info, data)


def names(judgement: Judgement) -> set[str]:
    """The tags that hold, as text."""
    return {str(tag) for tag in judgement.tags}


def only(judgement: Judgement, check: str) -> Finding:
    """The one finding of `check`."""
    found = [finding for finding in judgement.findings if finding.check == check]
    assert len(found) == 1, judgement.findings
    return found[0]


def errors(judgement: Judgement) -> set[str]:
    """The codes of the checks that found an error."""
    return {finding.check for finding in judgement.findings if finding.severity == "error"}


def verdict_of(folder: Path, filename: str, members: Mapping[str, bytes]) -> Judgement:
    """The verdict on a wheel made of `members`, without any context."""
    return judge(wheel(folder, filename, members))


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _source(exports: tuple[str, ...]) -> str:
    visible = '__attribute__((visibility("default")))'
    return "".join(f"{visible} void *{name}(void) {{ return 0; }}\n" for name in exports)


def _linked(
    target: tuple[str, ...],
    exports: tuple[str, ...],
    flags: tuple[str, ...],
    libraries: tuple[tuple[str, bytes], ...],
    body: str = "",
) -> bytes:
    zig = [sys.executable, "-m", "ziglang", "cc", *target, "-g0", *flags]
    return _run(zig, _source(exports) + body, libraries)


def _run(command: list[str], source: str, libraries: tuple[tuple[str, bytes], ...]) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "m.c").write_text(source, "utf-8")
        for name, data in libraries:
            (folder / name).write_bytes(data)
        inputs = ["m.c", *(f"./{name}" for name, _ in libraries)]
        out = ["-o", "out"]
        subprocess.run(
            [*command, *inputs, *out], cwd=folder, check=True, capture_output=True, timeout=120,
            env={**os.environ, "ZIG_LOCAL_CACHE_DIR": str(folder / "cache")},
        )  # fmt: skip
        return (folder / "out").read_bytes()


def has_compiler() -> bool:
    """Whether gcc is there; Linux binaries with a real libc come from it."""
    return shutil.which("gcc") is not None
