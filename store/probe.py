"""Measure the running interpreter and print one JSON object: ``python -I probe.py``.

It needs the standard library of any Python from 3.8 on and nothing else, not even a file of its
own: ``curl …/probe.py | python -I -`` does the same. What it prints is described in
docs/fingerprint.md. On trouble it prints ``{"schema": 1, "error": {"code", "message"}}`` and
exits with status 2.

The architecture is read from the interpreter's own binary, never from a name or from the host:
uname tells what the kernel is, not which slice of a file runs.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import platform
import re
import struct
import subprocess
import sys
import sysconfig
from typing import Any, BinaryIO, Dict, List, NamedTuple, NoReturn, Optional, Tuple

SCHEMA = 1
"""Version of the printed object. A reader refuses one that it does not know."""

CONFIG_VARIABLES = (
    "ALIGNOF_LONG",
    "ALIGNOF_MAX_ALIGN_T",
    "ALIGNOF_SIZE_T",
    "AR",
    "ARFLAGS",
    "BASECFLAGS",
    "BLDSHARED",
    "CC",
    "CCSHARED",
    "CFLAGS",
    "CFLAGSFORSHARED",
    "CONFIGURE_CFLAGS",
    "CONFIGURE_CPPFLAGS",
    "CONFIGURE_LDFLAGS",
    "CONFINCLUDEPY",
    "CPPFLAGS",
    "CXX",
    "EXTRA_CFLAGS",
    "EXT_SUFFIX",
    "INCLUDEPY",
    "INSTSONAME",
    "LDCXXSHARED",
    "LDFLAGS",
    "LDLIBRARY",
    "LDSHARED",
    "LIBDIR",
    "LIBPL",
    "LIBRARY",
    "LIBS",
    "LINKFORSHARED",
    "MACOSX_DEPLOYMENT_TARGET",
    "MULTIARCH",
    "OPT",
    "PYTHONFRAMEWORK",
    "PYTHONFRAMEWORKPREFIX",
    "PY_CFLAGS",
    "PY_CPPFLAGS",
    "PY_LDFLAGS",
    "Py_DEBUG",
    "Py_ENABLE_SHARED",
    "Py_GIL_DISABLED",
    "Py_REF_DEBUG",
    "Py_TRACE_REFS",
    "SHLIBS",
    "SHLIB_SUFFIX",
    "SIZEOF_DOUBLE",
    "SIZEOF_FLOAT",
    "SIZEOF_INT",
    "SIZEOF_LONG",
    "SIZEOF_LONG_DOUBLE",
    "SIZEOF_LONG_LONG",
    "SIZEOF_OFF_T",
    "SIZEOF_PID_T",
    "SIZEOF_PTHREAD_T",
    "SIZEOF_SHORT",
    "SIZEOF_SIZE_T",
    "SIZEOF_TIME_T",
    "SIZEOF_UINTPTR_T",
    "SIZEOF_VOID_P",
    "SIZEOF_WCHAR_T",
    "SIZEOF__BOOL",
    "SOABI",
    "SYSLIBS",
    "WITH_PYMALLOC",
)
"""The sysconfig variables that reach a compiler, a linker or the ABI. Sorted; absent is null."""

MAX_TEXT = 4096
MAX_SEGMENTS = 512
MAX_DYNAMIC = 4096
MAX_COMMANDS = 10_000
# More slices than this is a Java class file, which has the same magic number.
MAX_SLICES = 42
MAX_DETAILS = 1 << 20
MAX_MAPS = 1 << 24
LOADER_SECONDS = 10


class ProbeError(Exception):
    """Trouble with a code and one sentence; nothing was measured."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Libpython(NamedTuple):
    """How the interpreter's binary is linked to its library, and where that was found."""

    link: str
    name: Optional[str]
    path: Optional[str]
    resolves: bool


class Binary(NamedTuple):
    """What the interpreter's own binary says, ELF or one slice of Mach-O."""

    arch: str
    loader: Optional[str]
    needed: Tuple[str, ...]
    rpaths: Tuple[str, ...]


# ---- the whole ----------------------------------------------------------------------------


def main() -> int:
    """Print the measurement, or the trouble; give the exit status."""
    try:
        answer, status = measure(), 0
    except ProbeError as error:
        answer, status = failure(error.code, error.message), 2
    except (OSError, ImportError) as error:
        answer, status = failure("unreadable", str(error)), 2
    print(json.dumps(answer, sort_keys=True))
    return status


def failure(code: str, message: str) -> Dict[str, Any]:
    """The object that is printed instead of a measurement."""
    return {"schema": SCHEMA, "error": {"code": code, "message": printable(message)}}


def measure() -> Dict[str, Any]:
    """Everything that is known of the running interpreter, as plain JSON."""
    if sys.version_info < (3, 8):
        raise ProbeError("too-old", "the probe needs Python 3.8 or later")
    if sys.platform == "darwin":
        return measure_macos()
    if sys.platform == "linux" and not hasattr(sys, "getandroidapilevel"):
        return measure_linux()
    raise ProbeError("unsupported", "no farm target runs on the platform " + repr(sys.platform))


def measure_linux() -> Dict[str, Any]:
    """The measurement on Linux: the ELF header of the running file, glibc or musl."""
    path, warnings = linux_binary()
    with open(path, "rb") as file:
        binary = read_elf(Window.of(file), platform.machine())
    family, version = linux_libc(binary)
    libpython = linux_libpython(binary)
    warnings += disagreements(binary.arch, platform.machine(), None)
    answer = describe(binary, libpython, os.path.realpath(path), warnings)
    answer["os"] = {"family": "linux", "version": platform.release()}
    answer["libc"] = {"family": family, "version": version}
    return answer


def measure_macos() -> Dict[str, Any]:
    """The measurement on macOS: the Mach-O slice that runs, and whether Rosetta translates it."""
    running = RunningImage.find()
    with open(running.path, "rb") as file:
        binary = read_macho(Window.of(file), running.cputype, running.cpusubtype)
    libpython = macos_libpython(binary, running.path)
    translated = is_translated()
    warnings = running.warnings + disagreements(binary.arch, platform.machine(), translated)
    answer = describe(binary, libpython, running.path, warnings)
    answer["facts"]["translated"] = translated
    answer["os"] = {"family": "macos", "version": macos_version()}
    answer["libc"] = {"family": "libsystem", "version": None}
    return answer


def describe(
    binary: Binary, libpython: Libpython, path: str, warnings: List[str]
) -> Dict[str, Any]:
    """What is measured alike on every platform."""
    return {
        "schema": SCHEMA,
        "interpreter": interpreter(),
        "build": build(libpython),
        "arch": binary.arch,
        "isa": None,
        "facts": facts(libpython, path, warnings),
    }


# ---- the interpreter ----------------------------------------------------------------------


def interpreter() -> Dict[str, Any]:
    """What an extension module is compiled against."""
    soabi, suffix = variable("SOABI"), variable("EXT_SUFFIX")
    if not isinstance(soabi, str) or not isinstance(suffix, str):
        raise ProbeError("unsupported", "sysconfig of this interpreter has no SOABI or EXT_SUFFIX")
    return {
        "implementation": sys.implementation.name,
        "version": version(),
        "soabi": soabi,
        "ext_suffix": suffix,
        "debug": hasattr(sys, "gettotalrefcount"),
        "free_threaded": bool(variable("Py_GIL_DISABLED")),
        "pointer_bytes": struct.calcsize("P"),
    }


def version() -> str:
    """X.Y, or the full version of a pre-release, whose ABI is not yet frozen."""
    if sys.version_info.releaselevel != "final":
        return platform.python_version()
    return "%d.%d" % sys.version_info[:2]


def build(libpython: Libpython) -> Dict[str, Any]:
    """Which build of the interpreter it is."""
    return {
        "libpython": libpython.link,
        "libpython_name": libpython.name,
        "libpython_resolves": libpython.resolves,
        "config_sha256": config_digest(build_time_variables()),
        "details_sha256": details_digest(sysconfig.get_path("stdlib")),
    }


def facts(libpython: Libpython, path: str, warnings: List[str]) -> Dict[str, Any]:
    """What is good to know and no part of the identity."""
    return {
        "binary": printable(path),
        "executable": printable(sys.executable or ""),
        "full_version": platform.python_version(),
        "libpython_path": None if libpython.path is None else printable(libpython.path),
        "machine": platform.machine(),
        "prefix": printable(sys.prefix),
        "translated": None,
        "warnings": [printable(warning) for warning in warnings],
    }


def variable(name: str) -> Any:
    """One variable as it was when the interpreter was built."""
    found = build_time_variables().get(name)
    return sysconfig.get_config_var(name) if found is None else found


def build_time_variables() -> Dict[str, Any]:
    """sysconfig as it was written at build time.

    `sysconfig.get_config_vars` changes compiler flags on macOS by what is installed there and by
    ARCHFLAGS, and adds the paths of the virtual environment; the module it starts from has neither.
    """
    named = getattr(sysconfig, "_get_sysconfigdata_name", None)
    # PyPy computes a name, too, and then keeps its variables under the plain one.
    for name in ([named()] if named else []) + ["_sysconfigdata"]:
        try:
            return dict(importlib.import_module(name).build_time_vars)
        except (ImportError, AttributeError):
            continue
    return dict(sysconfig.get_config_vars())


def config_digest(variables: Dict[str, Any]) -> str:
    """SHA-256 of the canonical JSON of CONFIG_VARIABLES (store/digest.py has the same form)."""
    chosen = {name: variables.get(name) for name in CONFIG_VARIABLES}
    text = json.dumps(chosen, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def details_digest(stdlib: str) -> Optional[str]:
    """SHA-256 of the bytes of build-details.json (PEP 739), None where there is none."""
    path = os.path.join(stdlib, "build-details.json")
    if not os.path.isfile(path):
        return None
    with open(path, "rb") as file:
        data = file.read(MAX_DETAILS + 1)
    if len(data) > MAX_DETAILS:
        raise ProbeError("malformed", path + " is longer than 1 MiB")
    return hashlib.sha256(data).hexdigest()


def disagreements(arch: str, machine: str, translated: Optional[bool]) -> List[str]:
    """Sentences on every place where the process says something else than its binary."""
    found = []
    if ARCH_OF_MACHINE.get(machine, machine) != arch:
        found.append(
            "the process says that the machine is {}, the interpreter's own binary is {}".format(
                machine, arch
            )
        )
    if translated and arch != "x86_64":
        found.append("the process says that Rosetta translates it, but it is " + arch)
    return found


def printable(text: str) -> str:
    """`text` with what is no Unicode (a path in another encoding) written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# ---- Linux --------------------------------------------------------------------------------


def linux_binary() -> Tuple[str, List[str]]:
    """The file that runs: /proc/self/exe; where /proc is not mounted, what Python calls itself."""
    if os.path.exists("/proc/self/exe"):
        return "/proc/self/exe", []
    path = os.path.realpath(sys.executable)
    return path, ["/proc is not mounted, so the binary was found by name: " + path]


def linux_libc(binary: Binary) -> Tuple[str, str]:
    """The C library that the process runs on, and its version as ``X.Y``."""
    if binary.loader is not None and "ld-musl" in os.path.basename(binary.loader):
        return "musl", musl_version(run_loader(binary.loader))
    try:
        answer = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (AttributeError, ValueError, OSError):
        answer = ""
    found = re.match(r"glibc ([0-9]+)\.([0-9]+)", answer)
    if not found:
        raise ProbeError("unsupported", "the C library is neither glibc nor musl")
    return "glibc", ".".join(found.groups())


def run_loader(loader: str) -> str:
    """What musl's program loader prints of itself when it is run without a program."""
    try:
        run = subprocess.run(
            [loader, "--version"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=LOADER_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ProbeError("unsupported", "musl's loader does not end: " + loader) from None
    return run.stderr[:MAX_TEXT].decode("utf-8", "replace")


def musl_version(text: str) -> str:
    """``X.Y`` from what musl's program loader prints."""
    found = re.match(r"musl libc[^\n]*\nVersion ([0-9]+)\.([0-9]+)", text)
    if not found:
        raise ProbeError("unsupported", "musl's loader does not say its version: " + repr(text))
    return ".".join(found.groups())


def linux_libpython(binary: Binary) -> Libpython:
    """How libpython is linked, by DT_NEEDED.

    Not by Py_ENABLE_SHARED: Debian sets it, and links its executable statically all the same.
    """
    names = [name for name in binary.needed if is_libpython(name)]
    if not names:
        return Libpython("static", None, None, True)
    name = os.path.basename(names[0])
    path = mapped_library(name, read_maps())
    return Libpython("shared", name, path, path is not None)


def is_libpython(name: str) -> bool:
    """Whether a needed library is the interpreter: libpython3.11.so.1.0, libpypy3.11-c.dylib."""
    base = os.path.basename(name)
    return re.match(r"lib(python[0-9]|pypy)[^/]*\.(so|dylib)", base) is not None


def read_maps() -> str:
    """The process's memory map. Raises ProbeError without /proc: a guess would be a fingerprint."""
    if not os.path.exists("/proc/self/maps"):
        raise ProbeError("unsupported", "/proc is not mounted, so libpython cannot be found")
    with open("/proc/self/maps", "rb") as file:
        return file.read(MAX_MAPS).decode("utf-8", "surrogateescape")


def mapped_library(name: str, maps: str) -> Optional[str]:
    """The path under which the library `name` is in memory; None when it is gone from the disk."""
    for line in maps.splitlines():
        path = line.split(None, 5)[5] if line.count(" ") >= 5 and "/" in line else ""
        if path.endswith(" (deleted)") or not is_libpython(path):
            continue
        if os.path.basename(path) == name or is_same(
            os.path.join(os.path.dirname(path), name), path
        ):
            return path
    return None


def is_same(one: str, other: str) -> bool:
    """Whether two paths are one file."""
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


# ---- macOS --------------------------------------------------------------------------------


class RunningImage(NamedTuple):
    """The file that runs and the CPU type of its slice, as the dynamic loader knows them."""

    path: str
    cputype: int
    cpusubtype: Optional[int]
    warnings: List[str]

    @classmethod
    def find(cls) -> RunningImage:
        """Ask the loader; an interpreter without ctypes is found by name, with a warning."""
        ctypes = c_types()
        if ctypes is None:
            return cls.by_name()
        library = ctypes.CDLL(None)
        library._dyld_get_image_header.restype = ctypes.POINTER(ctypes.c_int32 * 3)
        library._dyld_get_image_name.restype = ctypes.c_char_p
        _, cputype, cpusubtype = library._dyld_get_image_header(0).contents
        path = os.fsdecode(library._dyld_get_image_name(0))
        return cls(path, cputype, cpusubtype & SUBTYPE_MASK, [])

    @classmethod
    def by_name(cls) -> RunningImage:
        """The file that Python calls itself, and the CPU type that uname names."""
        path, machine = os.path.realpath(sys.executable), platform.machine()
        for cputype, arch in CPU_TYPES.items():
            if arch == machine:
                warning = "without ctypes the running slice was chosen by uname: " + machine
                return cls(path, cputype, None, [warning])
        raise ProbeError("unsupported", "no farm target runs on the machine " + repr(machine))


def c_types() -> Any:
    """The module ctypes; None in an interpreter that was built without it."""
    try:
        return importlib.import_module("ctypes")
    except ImportError:
        return None


def is_translated() -> Optional[bool]:
    """Whether Rosetta translates the process; None where the kernel does not know the question."""
    ctypes = c_types()
    if ctypes is None:
        return None
    answer, size = ctypes.c_int(0), ctypes.c_size_t(4)
    status = ctypes.CDLL(None).sysctlbyname(
        b"sysctl.proc_translated", ctypes.byref(answer), ctypes.byref(size), None, 0
    )
    return None if status else bool(answer.value)


def macos_version() -> str:
    """The version of macOS. A Python that was linked to an old SDK is told 10.16 instead."""
    found = platform.mac_ver()[0]
    if not found.startswith("10.16"):
        return found
    code = "import platform; print(platform.mac_ver()[0])"
    run = subprocess.run(
        [sys.executable, "-sS", "-c", code],
        env={"SYSTEM_VERSION_COMPAT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        timeout=LOADER_SECONDS,
        check=False,
    )
    return run.stdout.decode("ascii", "replace").strip() or found


def macos_libpython(binary: Binary, executable: str) -> Libpython:
    """How libpython is linked, by the load commands of the slice that runs."""
    for name in binary.needed:
        link = "framework" if is_framework(name) else "shared" if is_libpython(name) else None
        if link is not None:
            found = [path for path in candidates(name, binary.rpaths, executable)
                     if os.path.exists(path)]  # fmt: skip
            return Libpython(link, name, found[0] if found else None, bool(found))
    return Libpython("static", None, None, True)


def is_framework(name: str) -> bool:
    """Whether an install name is a Python framework's: …/Python.framework/Versions/3.13/Python."""
    return re.search(r"(^|/)(Python\w*)\.framework/(.*/)?\2$", name) is not None


def candidates(name: str, rpaths: Tuple[str, ...], executable: str) -> List[str]:
    """The paths at which the loader looks for an install name of the main executable."""
    folders = [os.path.dirname(executable), os.path.dirname(os.path.realpath(executable))]
    names = [name]
    if name.startswith("@rpath/"):
        names = [rpath.rstrip("/") + name[len("@rpath") :] for rpath in rpaths]
    found = []
    for text in names:
        for folder in folders:
            path = re.sub(r"^@(executable|loader)_path", lambda _, f=folder: f, text)  # type: ignore[misc]
            if path.startswith("/") and path not in found:
                found.append(path)
    return found


# ---- reading binaries ---------------------------------------------------------------------


class Window:
    """A part of a file that nothing is read outside of."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        self.file = file
        self.start = start
        self.size = size

    @classmethod
    def of(cls, file: BinaryIO) -> Window:
        """The whole file."""
        return cls(file, 0, file.seek(0, io.SEEK_END))

    def part(self, offset: int, size: int) -> Window:
        """A window inside this one."""
        self.check(offset, size)
        return Window(self.file, self.start + offset, size)

    def check(self, offset: int, size: int) -> None:
        """Raise ProbeError unless the bytes are there."""
        if offset < 0 or size < 0 or offset + size > self.size:
            malformed("{} bytes at {} reach past the end, {}".format(size, offset, self.size))

    def read(self, offset: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        self.check(offset, size)
        self.file.seek(self.start + offset)
        data = self.file.read(size)
        if len(data) != size:
            malformed("the file became shorter while it was read")
        return data

    def unpack(self, form: str, offset: int) -> Tuple[int, ...]:
        """The integers that `form` (of struct) describes."""
        return struct.unpack(form, self.read(offset, struct.calcsize(form)))

    def text(self, offset: int) -> str:
        """The text up to a zero byte, MAX_TEXT bytes at most."""
        self.check(offset, 0)
        data = self.read(offset, min(MAX_TEXT, self.size - offset))
        end = data.find(b"\0")
        if end < 0:
            malformed("a text at {} does not end".format(offset))
        return data[:end].decode("utf-8", "backslashreplace")


def malformed(message: str) -> NoReturn:
    """Refuse the interpreter's binary."""
    raise ProbeError("malformed-binary", "the interpreter's own binary is malformed: " + message)


# ---- ELF ----------------------------------------------------------------------------------

PT_LOAD, PT_DYNAMIC, PT_INTERP = 1, 2, 3
DT_NULL, DT_NEEDED, DT_STRTAB, DT_STRSZ = 0, 1, 5, 10
EF_ARM_HARD_FLOAT = 0x400

# e_machine, bits, byte order -> the architecture in the words of platform tags.
ELF_ARCHS = {
    (3, 32, "<"): "i686",
    (21, 64, "<"): "ppc64le",
    (21, 64, ">"): "ppc64",
    (22, 64, ">"): "s390x",
    (40, 32, "<"): "armv7l",
    (62, 64, "<"): "x86_64",
    (183, 64, "<"): "aarch64",
    (243, 64, "<"): "riscv64",
    (258, 64, "<"): "loongarch64",
}
# What uname says of the kernel, where it is spelled otherwise.
ARCH_OF_MACHINE = {"i386": "i686", "i486": "i686", "i586": "i686", "amd64": "x86_64"}


class Segment(NamedTuple):
    """One program header of an ELF file."""

    kind: int
    offset: int
    address: int
    size: int


def read_elf(image: Window, machine: str) -> Binary:
    """Architecture, program loader and needed libraries of an ELF file (System V ABI, chapter 5).

    `machine` is uname's word, used only to tell ARMv6 from ARMv7, which one e_machine covers.
    """
    ident = image.read(0, 16)
    if ident[:4] != b"\x7fELF" or ident[4] not in (1, 2) or ident[5] not in (1, 2):
        malformed("no ELF header")
    bits, order = 32 * ident[4], "<" if ident[5] == 1 else ">"
    number, flags, segments = read_elf_header(image, bits, order)
    arch = elf_arch(number, bits, order, flags, machine)
    return Binary(arch, elf_loader(image, segments), elf_needed(image, segments, bits, order), ())


def read_elf_header(image: Window, bits: int, order: str) -> Tuple[int, int, List[Segment]]:
    """e_machine, e_flags and the program headers."""
    header = image.unpack(order + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"), 16)
    entry, count = header[8], header[9]
    if entry != (56 if bits == 64 else 32) or count > MAX_SEGMENTS:
        malformed("{} program headers of {} bytes".format(count, entry))
    offsets = [header[4] + entry * index for index in range(count)]
    return header[1], header[6], [read_segment(image, at, bits, order) for at in offsets]


def read_segment(image: Window, offset: int, bits: int, order: str) -> Segment:
    """One program header; its two forms have their fields in two orders."""
    if bits == 64:
        kind, _, start, address, _, size = image.unpack(order + "IIQQQQ", offset)
    else:
        kind, start, address, _, size = image.unpack(order + "IIIII", offset)
    return Segment(kind, start, address, size)


def elf_arch(number: int, bits: int, order: str, flags: int, machine: str) -> str:
    """The architecture in the words of platform tags."""
    arch = ELF_ARCHS.get((number, bits, order))
    if arch is None or (arch == "armv7l" and not flags & EF_ARM_HARD_FLOAT):
        form = "{} bits, {} endian".format(bits, "little" if order == "<" else "big")
        raise ProbeError("unsupported", "no tag for ELF machine {}, {}".format(number, form))
    return machine if arch == "armv7l" and machine == "armv6l" else arch


def elf_loader(image: Window, segments: List[Segment]) -> Optional[str]:
    """PT_INTERP, the path of the program loader; None in a static executable."""
    for segment in segments:
        if segment.kind == PT_INTERP:
            return image.part(segment.offset, segment.size).text(0)
    return None


def elf_needed(image: Window, segments: List[Segment], bits: int, order: str) -> Tuple[str, ...]:
    """The needed libraries, in their order."""
    entries = elf_dynamic(image, segments, bits, order)
    offsets = [value for tag, value in entries if tag == DT_NEEDED]
    if not offsets:
        return ()
    table = dict(entries)
    if DT_STRTAB not in table or DT_STRSZ not in table:
        malformed("needed libraries, and no string table")
    strings = image.part(file_offset(segments, table[DT_STRTAB]), table[DT_STRSZ])
    return tuple(strings.text(offset) for offset in offsets)


def elf_dynamic(
    image: Window, segments: List[Segment], bits: int, order: str
) -> List[Tuple[int, int]]:
    """Tag and value of each entry of the dynamic section, up to DT_NULL."""
    form, width = (order + "qQ", 16) if bits == 64 else (order + "iI", 8)
    found = []
    for segment in segments:
        if segment.kind == PT_DYNAMIC:
            part = image.part(segment.offset, segment.size)
            for index in range(min(part.size // width, MAX_DYNAMIC)):
                tag, value = part.unpack(form, index * width)
                if tag == DT_NULL:
                    break
                found.append((tag, value))
    return found


def file_offset(segments: List[Segment], address: int) -> int:
    """Where in the file the byte is that is loaded at `address`."""
    for segment in segments:
        if segment.kind == PT_LOAD and 0 <= address - segment.address < segment.size:
            return segment.offset + address - segment.address
    malformed("no segment holds the address {:#x}".format(address))


# ---- Mach-O -------------------------------------------------------------------------------

SUBTYPE_MASK = 0x00FFFFFF
CPU_TYPES = {7: "i386", 0x01000007: "x86_64", 0x0100000C: "arm64"}
LC_RPATH = 0x8000001C
# load, weak, reexport, upward, lazy
LC_DYLIBS = (0xC, 0x80000018, 0x8000001F, 0x80000023, 0x20)


def read_macho(image: Window, cputype: int, cpusubtype: Optional[int]) -> Binary:
    """Architecture and needed libraries of the slice that runs (mach-o/loader.h, mach-o/fat.h)."""
    magic = image.read(0, 4)
    if magic in (b"\xca\xfe\xba\xbe", b"\xca\xfe\xba\xbf"):
        image = fat_slice(image, magic[3] == 0xBF, cputype, cpusubtype)
    found = read_mach_header(image)
    if found[0] != cputype:
        malformed("CPU type {:#x} runs, the binary holds {:#x}".format(cputype, found[0]))
    if cputype not in CPU_TYPES:
        raise ProbeError("unsupported", "no tag for the CPU type {:#x}".format(cputype))
    needed, rpaths = mach_names(*found[1:])
    return Binary(CPU_TYPES[cputype], None, needed, rpaths)


def fat_slice(image: Window, wide: bool, cputype: int, cpusubtype: Optional[int]) -> Window:
    """The slice of a fat file that has the CPU type that runs, by subtype where it is known."""
    count = image.unpack(">I", 4)[0]
    if not 0 < count <= MAX_SLICES:
        malformed("a fat file of {} slices".format(count))
    form, width = (">IIQQ", 32) if wide else (">IIII", 20)
    entries = [image.unpack(form, 8 + width * index) for index in range(count)]
    fitting = [entry for entry in entries if entry[0] == cputype]
    if not fitting:
        malformed("CPU type {:#x} runs, and no slice has it".format(cputype))
    exact = [entry for entry in fitting if entry[1] & SUBTYPE_MASK == cpusubtype]
    return image.part(*(exact or fitting)[0][2:4])


def read_mach_header(image: Window) -> Tuple[int, Window, str, int]:
    """CPU type; then the load commands, their byte order and their number."""
    magic = image.read(0, 4)
    order = "<" if magic in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe") else ">"
    if magic not in (
        b"\xcf\xfa\xed\xfe",
        b"\xce\xfa\xed\xfe",
        b"\xfe\xed\xfa\xcf",
        b"\xfe\xed\xfa\xce",
    ):
        malformed("no Mach-O header")
    start = 32 if 0xCF in magic else 28
    _, cputype, _, _, count, size = image.unpack(order + "IIIIII", 0)
    if count > MAX_COMMANDS:
        malformed("{} load commands".format(count))
    return cputype, image.part(start, size), order, count


def mach_names(commands: Window, order: str, count: int) -> Tuple[Tuple[str, ...], Tuple[str, ...]]:
    """The install names that are needed, and the run paths, in their order."""
    needed, rpaths, offset = [], [], 0
    for _ in range(count):
        command, size = commands.unpack(order + "II", offset)
        if size < 8 or size % 4:
            malformed("a load command of {} bytes".format(size))
        part = commands.part(offset, size)
        if command in LC_DYLIBS:
            needed.append(part.text(part.unpack(order + "I", 8)[0]))
        elif command == LC_RPATH:
            rpaths.append(part.text(part.unpack(order + "I", 8)[0]))
        offset += size
    return tuple(needed), tuple(rpaths)


if __name__ == "__main__":
    sys.exit(main())
