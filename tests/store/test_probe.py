"""The probe: what it measures in real interpreters, and what it reads out of their binaries."""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import probe
from store.digest import JSON, digest_of
from store.environment import parse_environment
from store.fingerprint import Fingerprint, fingerprint_of

PROBE = Path(probe.__file__)
ARM64, X86_64 = 0x0100000C, 0x01000007
Build = Callable[..., Path]


def run_probe(
    python: Path | str, *, isolated: bool = True, **options: Any
) -> subprocess.CompletedProcess[str]:
    with PROBE.open("rb") as source:
        return subprocess.run(
            [python, *(["-I"] if isolated else []), "-"],
            stdin=source,
            capture_output=True,
            text=True,
            check=False,
            **options,
        )


def fingerprint(python: Path | str, **options: Any) -> Fingerprint:
    return fingerprint_of(parse_environment(run_probe(python, **options).stdout).target())


def test_every_interpreter_of_the_machine_is_measured(interpreters: list[Path]) -> None:
    for python in interpreters:
        run = run_probe(python)
        assert (run.returncode, run.stderr) == (0, ""), python
        environment = parse_environment(run.stdout)
        code = (
            "import sys, sysconfig; print(sys.version_info[1], sysconfig.get_config_var('SOABI'))"
        )
        minor, soabi = subprocess.check_output([python, "-c", code], text=True).split()
        assert environment.interpreter.version_info == (3, int(minor))
        assert environment.interpreter.soabi == soabi


def test_the_tags_are_those_that_packaging_gives_in_this_interpreter() -> None:
    from packaging.tags import sys_tags

    target = parse_environment(run_probe(sys.executable).stdout).target()
    assert list(target.supported_tags()) == list(sys_tags())


def test_two_builds_of_one_version_have_two_fingerprints(interpreters: list[Path]) -> None:
    versions: dict[str, list[Path]] = {}
    for python in interpreters:
        version = parse_environment(run_probe(python).stdout).interpreter.version
        versions.setdefault(version, []).append(python)
    twins = [pythons for pythons in versions.values() if len(pythons) > 1]
    if not twins:
        pytest.skip("the machine has no two builds of one version")
    for pythons in twins:
        assert len({fingerprint(python) for python in pythons}) == len(pythons)


def test_a_virtual_environment_has_the_fingerprint_of_its_base(
    interpreters: list[Path], tmp_path: Path
) -> None:
    for index, python in enumerate([interpreters[0], interpreters[-1], Path("/usr/bin/python3")]):
        if not python.exists():
            continue
        venv = tmp_path / str(index)
        subprocess.run([python, "-m", "venv", "--without-pip", venv], check=True)
        assert fingerprint(venv / "bin" / "python") == fingerprint(python)


def test_variables_of_the_user_do_not_change_the_fingerprint(tmp_path: Path) -> None:
    changed = {"CFLAGS": "-O0", "CC": "nothing", "ARCHFLAGS": "-arch ppc", "HOME": str(tmp_path)}
    assert fingerprint(sys.executable, env=os.environ | changed) == fingerprint(sys.executable)


def test_the_architecture_is_that_of_the_running_file_not_of_its_name() -> None:
    environment = parse_environment(run_probe(sys.executable).stdout)
    assert environment.facts.binary == os.path.realpath("/proc/self/exe")
    with Path(sys.executable).open("rb") as file:
        machine = struct.unpack("<H", file.read(20)[18:])[0]
    assert probe.ELF_ARCHS[machine, 64, "<"] == environment.arch


def test_a_disagreement_with_uname_is_reported() -> None:
    assert probe.disagreements("x86_64", "x86_64", True) == []
    assert probe.disagreements("i686", "i586", None) == []
    assert "x86_64" in probe.disagreements("i686", "x86_64", None)[0]
    assert "Rosetta" in probe.disagreements("arm64", "arm64", True)[0]


def test_the_digest_of_the_configuration_is_of_the_canonical_form() -> None:
    variables: dict[str, JSON] = {
        "CC": "gcc -pthread",
        "SIZEOF_LONG": 8,
        "HOME": "is not chosen",
        "CFLAGS": "-O2 é",
    }
    chosen = {name: variables.get(name) for name in probe.CONFIG_VARIABLES}
    assert probe.config_digest(variables) == digest_of(chosen)
    assert probe.config_digest(variables | {"CFLAGS": "-O3 é"}) != digest_of(chosen)
    assert probe.config_digest(variables | {"userbase": "x"}) == digest_of(chosen)
    assert list(probe.CONFIG_VARIABLES) == sorted(set(probe.CONFIG_VARIABLES))


def test_build_details_are_digested_where_there_are_some(tmp_path: Path) -> None:
    assert probe.details_digest(str(tmp_path)) is None
    (tmp_path / "build-details.json").write_text("{}")
    assert probe.details_digest(str(tmp_path)) == digest_of({})
    (tmp_path / "build-details.json").write_bytes(b" " * (probe.MAX_DETAILS + 1))
    with pytest.raises(probe.ProbeError, match="1 MiB"):
        probe.details_digest(str(tmp_path))


# ---- how libpython is linked --------------------------------------------------------------

EMBEDS = "int Py_BytesMain(int, char **); int main(int c, char **v) { return Py_BytesMain(c, v); }"


def shared_libpython(python: Path) -> Path | None:
    """The libpython of `python`, where its build made a shared one."""
    code = (
        "import sysconfig as s; print(s.get_config_var('LIBDIR'), s.get_config_var('INSTSONAME'))"
    )
    folder, name = subprocess.check_output([python, "-c", code], text=True).split()
    library = Path(folder, name)
    return library if library.suffix != ".a" and library.is_file() else None


@pytest.fixture
def embedding(interpreters: list[Path], tmp_path: Path) -> tuple[Path, Path]:
    """An executable that is linked to a libpython in a folder of its own, and that libpython."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    libraries = list(filter(None, map(shared_libpython, interpreters)))
    if compiler is None or not libraries:
        pytest.skip("needs a C compiler and a shared libpython")
    library = Path(shutil.copy(libraries[-1], tmp_path / libraries[-1].name))
    program = tmp_path / "bin" / "python"
    program.parent.mkdir()
    (tmp_path / "main.c").write_text(EMBEDS)
    command: list[str | Path] = [
        compiler,
        tmp_path / "main.c",
        library,
        "-o",
        program,
        "-Wl,-rpath,$ORIGIN/..",
    ]
    subprocess.run(command, check=True)
    return program, library


def test_a_shared_libpython_is_read_from_the_binary_and_found_in_memory(
    embedding: tuple[Path, Path], interpreters: list[Path]
) -> None:
    program, library = embedding
    home = _home_of(library.name, interpreters)
    run = run_probe(program, env=os.environ | {"PYTHONHOME": str(home)}, isolated=False)
    environment = parse_environment(run.stdout)
    assert environment.build.libpython == "shared"
    assert environment.build.libpython_name == library.name
    assert environment.build.libpython_resolves
    assert library.samefile(str(environment.facts.libpython_path))
    assert environment.facts.binary == str(program)


def test_one_configuration_linked_in_two_ways_is_two_fingerprints() -> None:
    answer = json.loads(run_probe(sys.executable).stdout)
    found = set()
    for link, name in (("static", None), ("shared", "libpython3.11.so.1.0")):
        answer["build"] |= {"libpython": link, "libpython_name": name}
        found.add(fingerprint_of(parse_environment(json.dumps(answer)).target()))
    assert len(found) == 2


def _home_of(name: str, interpreters: list[Path]) -> Path:
    """The prefix whose standard library fits the libpython `name`."""
    code = "import sys; print(sys.base_prefix)"
    fitting = [path for path in interpreters if (shared_libpython(path) or path).name == name]
    return Path(subprocess.check_output([fitting[-1], "-c", code], text=True).strip())


def test_a_libpython_that_is_gone_does_not_resolve() -> None:
    name = "libpython3.11.so.1.0"
    gone = f"7f00-7f01 r-xp 00000000 08:01 1234   /usr/lib/{name} (deleted)\n"
    assert probe.mapped_library(name, gone) is None
    assert probe.mapped_library(name, "7f00-7f01 r-xp 00000000 00:00 0\n") is None
    spaces = f"7f00-7f01 r-xp 00000000 08:01 1234   /a folder/{name}\n"
    assert probe.mapped_library(name, spaces) == f"/a folder/{name}"


def test_a_soname_that_is_a_link_to_the_mapped_file_resolves(tmp_path: Path) -> None:
    real = tmp_path / "libpython3.11.so.1.0.3"
    real.touch()
    (tmp_path / "libpython3.11.so.1.0").symlink_to(real)
    maps = f"7f00-7f01 r-xp 00000000 08:01 1234 {real}\n"
    assert probe.mapped_library("libpython3.11.so.1.0", maps) == str(real)
    assert probe.mapped_library("libpython3.12.so.1.0", maps) is None


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("libpython3.11.so.1.0", True),
        ("libpython3.13t.so.1.0", True),
        ("libpypy3.11-c.so", True),
        ("/opt/homebrew/lib/libpython3.13.dylib", True),
        ("libc.so.6", False),
        ("libboost_python311.so", False),
        ("libpythonic.so", False),
    ],
)
def test_which_library_is_libpython(name: str, is_one: bool) -> None:
    assert probe.is_libpython(name) is is_one


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("/Library/Frameworks/Python.framework/Versions/3.13/Python", True),
        ("/Library/Frameworks/PythonT.framework/Versions/3.13/PythonT", True),
        ("@rpath/Python3.framework/Versions/3.9/Python3", True),
        ("@rpath/Python.framework/Python", True),
        ("/System/Library/Frameworks/CoreFoundation.framework/Versions/A/CoreFoundation", False),
        ("/x/Python.framework/Versions/3.13/lib/libssl.dylib", False),
    ],
)
def test_which_library_is_a_python_framework(name: str, is_one: bool) -> None:
    assert probe.is_framework(name) is is_one


def mac_binary(*needed: str, rpaths: tuple[str, ...] = ()) -> probe.Binary:
    return probe.Binary("arm64", None, needed, rpaths)


def test_install_names_are_resolved_like_the_loader_does(tmp_path: Path) -> None:
    executable = tmp_path / "bin" / "python"
    library = tmp_path / "lib" / "libpython3.13.dylib"
    for path in (executable, library):
        path.parent.mkdir()
        path.touch()
    for name, rpaths in {
        str(library): (),
        "@executable_path/../lib/libpython3.13.dylib": (),
        "@loader_path/../lib/libpython3.13.dylib": (),
        "@rpath/libpython3.13.dylib": ("/nowhere", "@executable_path/../lib/"),
    }.items():
        found = probe.macos_libpython(mac_binary(name, rpaths=rpaths), str(executable))
        assert (found.link, found.name, found.resolves) == ("shared", name, True)
        assert library.samefile(str(found.path))


def test_an_install_name_that_leads_nowhere_does_not_resolve(tmp_path: Path) -> None:
    for name in ("/install/lib/libpython3.13.dylib", "@rpath/libpython3.13.dylib"):
        found = probe.macos_libpython(mac_binary(name), str(tmp_path / "python"))
        assert found == probe.Libpython("shared", name, None, False)
    static = probe.macos_libpython(mac_binary("/usr/lib/libSystem.B.dylib"), "/bin/python")
    assert static == probe.Libpython("static", None, None, True)


# ---- the whole measurement of a Mac, over a loader that answers like macOS's ------------------


def mac_loader(path: Path, cputype: int, translated: int | None) -> Any:
    """A ctypes whose C library is that of a Mac on which the file at `path` runs."""

    def sysctlbyname(name: bytes, answer: Any, *rest: object) -> int:
        assert name == b"sysctl.proc_translated"
        answer._obj.value = translated or 0
        return 0 if translated is not None else -1

    library = Mock(spec=["_dyld_get_image_header", "_dyld_get_image_name", "sysctlbyname"])
    library._dyld_get_image_header.return_value.contents = (0xFEEDFACF, cputype, 0)
    library._dyld_get_image_name.return_value = os.fsencode(path)
    library.sysctlbyname = sysctlbyname
    return SimpleNamespace(**vars(ctypes) | {"CDLL": lambda _: library})


@pytest.fixture
def mac_python(thin: dict[int, bytes], tmp_path: Path) -> Path:
    """A fat interpreter beside the libpython of its arm64 slice; that of the other is not there."""
    python = tmp_path / "bin" / "python"
    library = tmp_path / "lib" / "libpython3.13.dylib"
    for path in (python, library):
        path.parent.mkdir()
        path.touch()
    python.write_bytes(fat(thin))
    return python


def on_a_mac(monkeypatch: pytest.MonkeyPatch, machine: str, loader: object) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("platform.mac_ver", lambda: ("15.5", ("", "", ""), machine))
    monkeypatch.setattr(probe, "c_types", lambda: loader)


@pytest.mark.parametrize(
    ("cputype", "machine", "translated"),
    [(ARM64, "arm64", 0), (X86_64, "x86_64", 1), (X86_64, "x86_64", None)],
)
def test_a_fat_interpreter_is_measured_by_its_running_slice(
    monkeypatch: pytest.MonkeyPatch,
    mac_python: Path,
    cputype: int,
    machine: str,
    translated: int | None,
) -> None:
    on_a_mac(monkeypatch, machine, mac_loader(mac_python, cputype, translated))
    environment = parse_environment(json.dumps(probe.measure()))
    assert environment.target().platform == f"macosx_15_0_{machine}"
    assert environment.build.libpython == "shared"
    assert environment.build.libpython_resolves is (cputype == ARM64)
    assert environment.facts.translated == (None if translated is None else bool(translated))
    assert environment.facts.warnings == ()


def test_a_mac_that_contradicts_itself_is_reported(
    monkeypatch: pytest.MonkeyPatch, mac_python: Path
) -> None:
    on_a_mac(monkeypatch, "x86_64", mac_loader(mac_python, ARM64, 1))
    environment = parse_environment(json.dumps(probe.measure()))
    assert environment.arch == "arm64"
    assert len(environment.facts.warnings) == 2


def test_without_ctypes_the_slice_is_chosen_by_uname_and_that_is_told(
    monkeypatch: pytest.MonkeyPatch, mac_python: Path
) -> None:
    on_a_mac(monkeypatch, "arm64", None)
    monkeypatch.setattr(sys, "executable", str(mac_python))
    environment = parse_environment(json.dumps(probe.measure()))
    assert (environment.arch, environment.facts.translated) == ("arm64", None)
    assert "without ctypes" in environment.facts.warnings[0]
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(probe.ProbeError, match="riscv64"):
        probe.measure()


def test_without_proc_nothing_is_guessed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.exists", lambda _: False)
    path, warnings = probe.linux_binary()
    assert (path, len(warnings)) == (os.path.realpath(sys.executable), 1)
    needs = probe.Binary("x86_64", None, ("libc.so.6", "libpython3.11.so.1.0"), ())
    with pytest.raises(probe.ProbeError, match="/proc is not mounted"):
        probe.linux_libpython(needs)


# ---- musl ---------------------------------------------------------------------------------


def test_musl_says_its_version_when_its_loader_is_run(tmp_path: Path) -> None:
    loader = tmp_path / "ld-musl-x86_64.so.1"
    loader.write_text(
        "#!/bin/sh\nprintf 'musl libc (x86_64)\\nVersion 1.2.5\\nUsage\\n' >&2; exit 1"
    )
    loader.chmod(0o755)
    binary = probe.Binary("x86_64", str(loader), (), ())
    assert probe.linux_libc(binary) == ("musl", "1.2")


@pytest.mark.parametrize("text", ["", "musl libc\nVersion x", "GNU libc\nVersion 1.2"])
def test_a_loader_that_is_not_musl_is_refused(text: str) -> None:
    with pytest.raises(probe.ProbeError, match="does not say"):
        probe.musl_version(text)


def test_glibc_says_its_version() -> None:
    binary = probe.Binary("x86_64", "/lib64/ld-linux-x86-64.so.2", (), ())
    family, version = probe.linux_libc(binary)
    assert family == "glibc"
    assert os.confstr("CS_GNU_LIBC_VERSION") == f"glibc {version}"


# ---- binaries from a real linker ------------------------------------------------------------


@pytest.fixture(scope="session")
def zig(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Links an executable to a library of a given name, for any target that zig knows."""
    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("zig")

    def build(target: str, library: str, naming: str, *options: str) -> Path:
        (folder / "lib.c").write_text("int f(void) { return 0; }")
        (folder / "main.c").write_text("int f(void); int main(void) { return f(); }")
        shared, program = folder / f"{target}-{Path(library).name}", folder / f"{target}-python"
        # Without a C library a link takes a tenth of a second, and its headers are the same.
        cc = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-g0", "-nostdlib"]
        cc += ["-fno-unwind-tables", "-fno-asynchronous-unwind-tables"]
        entry = "-Wl,-e,_main" if "macos" in target else "-Wl,-e,main"
        name = f"-Wl,{naming},{library}"
        subprocess.run([*cc, "-shared", folder / "lib.c", name, "-o", shared], check=True)
        subprocess.run([*cc, folder / "main.c", shared, entry, *options, "-o", program], check=True)
        return program

    return build


@pytest.mark.parametrize(
    ("target", "arch", "loader"),
    [
        ("x86_64-linux-gnu", "x86_64", "ld-linux-x86-64.so.2"),
        ("aarch64-linux-musl", "aarch64", "ld-musl-aarch64.so.1"),
        ("x86-linux-musl", "i686", "ld-musl-i386.so.1"),
        ("arm-linux-musleabihf", "armv7l", "ld-musl-armhf.so.1"),
        ("s390x-linux-musl", "s390x", "ld-musl-s390x.so.1"),
    ],
)
def test_elf_of_every_width_and_byte_order(zig: Build, target: str, arch: str, loader: str) -> None:
    program = zig(target, "libpython3.11.so.1.0", "-soname")
    with program.open("rb") as file:
        binary = probe.read_elf(probe.Window.of(file), "x86_64")
    assert binary.arch == arch
    assert Path(str(binary.loader)).name == loader
    assert "libpython3.11.so.1.0" in binary.needed


@pytest.fixture(scope="session")
def thin(zig: Build) -> dict[int, bytes]:
    """A Mach-O executable for each architecture; each is linked to another libpython."""
    name = "@rpath/libpython3.{}.dylib".format
    rpath = "-Wl,-rpath,@executable_path/../lib"
    arm64 = zig("aarch64-macos.11.0", name(13), "-install_name", rpath)
    x86_64 = zig("x86_64-macos.10.13", name(12), "-install_name", rpath)
    return {ARM64: arm64.read_bytes(), X86_64: x86_64.read_bytes()}


def fat(slices: dict[int, bytes], wide: bool = False) -> bytes:
    """A fat file (mach-o/fat.h) of thin ones, each on a boundary of 16 KiB."""
    header = struct.pack(">II", 0xCAFEBABF if wide else 0xCAFEBABE, len(slices))
    body, offset = b"", 0x4000
    for cputype, data in slices.items():
        form = ">IIQQII" if wide else ">IIIII"
        header += struct.pack(form, cputype, 0, offset, len(data), 14, *([0] if wide else []))
        padded = data + bytes(-len(data) % 0x4000)
        body, offset = body + padded, offset + len(padded)
    return header.ljust(0x4000, b"\0") + body


def read_macho(data: bytes, cputype: int) -> probe.Binary:
    return probe.read_macho(probe.Window.of(io.BytesIO(data)), cputype, 0)


@pytest.mark.parametrize("wide", [False, True])
def test_of_a_fat_file_the_slice_that_runs_is_read(thin: dict[int, bytes], wide: bool) -> None:
    data = fat(thin, wide)
    for cputype, arch, library in ((ARM64, "arm64", "3.13"), (X86_64, "x86_64", "3.12")):
        binary = read_macho(data, cputype)
        assert binary == read_macho(thin[cputype], cputype)
        assert binary.arch == arch
        assert f"@rpath/libpython{library}.dylib" in binary.needed
        assert binary.rpaths == ("@executable_path/../lib",)


def test_a_slice_that_does_not_run_here_is_an_error(thin: dict[int, bytes]) -> None:
    lies = fat({ARM64: thin[X86_64], X86_64: thin[ARM64]})
    only = fat({X86_64: thin[X86_64]})
    for data in (lies, only, thin[X86_64]):
        with pytest.raises(probe.ProbeError, match="runs, "):
            read_macho(data, ARM64)


# ---- hostile binaries ---------------------------------------------------------------------


def read_mutant(data: bytes) -> None:
    """Read bytes as both formats; ProbeError is the only trouble there may be."""
    for cputype in (ARM64, X86_64):
        with contextlib.suppress(probe.ProbeError):
            read_macho(data, cputype)
    with contextlib.suppress(probe.ProbeError):
        probe.read_elf(probe.Window.of(io.BytesIO(data)), "x86_64")


def elf_sample() -> bytes:
    with Path("/proc/self/exe").open("rb") as file:
        return file.read(4096)


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 255)), max_size=6),
       st.integers(0, 4096))  # fmt: skip
def test_a_damaged_elf_file_is_read_or_refused(edits: list[tuple[int, int]], size: int) -> None:
    data = bytearray(elf_sample())
    for offset, value in edits:
        data[offset] = value
    read_mutant(bytes(data[:size]))


def small_macho(cputype: int = ARM64) -> bytes:
    """A thin Mach-O file of one load command, LC_LOAD_DYLIB."""
    name = b"@rpath/libpython3.13.dylib\0".ljust(32, b"\0")
    command = struct.pack("<6I", 0xC, 24 + len(name), 24, 0, 0, 0) + name
    return struct.pack("<8I", 0xFEEDFACF, cputype, 0, 2, 1, len(command), 0, 0) + command


def test_a_small_mach_o_file_is_read() -> None:
    assert read_macho(small_macho(), ARM64).needed == ("@rpath/libpython3.13.dylib",)


@given(st.lists(st.tuples(st.integers(0, 87), st.integers(0, 255)), max_size=4),
       st.integers(0, 88), st.booleans())  # fmt: skip
def test_a_damaged_mach_o_file_is_read_or_refused(
    edits: list[tuple[int, int]], size: int, is_fat: bool
) -> None:
    data = bytearray(small_macho())
    for offset, value in edits:
        data[offset] = value
    read_mutant(fat({ARM64: bytes(data[:size])}) if is_fat else bytes(data[:size]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "reach past the end"),
        (b"\x7fELF", "reach past the end"),
        (b"#!/bin/sh and more than sixteen bytes", "no ELF header"),
        (
            b"\x7fELF\x02\x01".ljust(16, b"\0") + bytes(38) + struct.pack("<HH", 7, 9),
            "past the end",
        ),
        (b"\x7fELF\x02\x01".ljust(16, b"\0") + bytes(48), "program headers"),
    ],
)
def test_what_is_no_elf_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(probe.ProbeError, match=reason):
        probe.read_elf(probe.Window.of(io.BytesIO(data)), "x86_64")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "past the end"),
        (struct.pack(">II", 0xCAFEBABE, 0), "0 slices"),
        (struct.pack(">II", 0xCAFEBABE, 61), "61 slices"),
        (struct.pack(">IIIIIII", 0xCAFEBABE, 1, ARM64, 0, 28, 99, 0), "past the end"),
        (b"#!/bin/sh and more than enough bytes for a header", "no Mach-O header"),
        (struct.pack("<8I", 0xFEEDFACF, ARM64, 0, 2, 99_999, 0, 0, 0), "99999 load commands"),
        (struct.pack("<10I", 0xFEEDFACF, ARM64, 0, 2, 1, 8, 0, 0, 0xC, 0), "command of 0 bytes"),
    ],
)
def test_what_is_no_mach_o_file_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(probe.ProbeError, match=reason):
        read_macho(data, ARM64)


def test_trouble_is_json_and_status_2(tmp_path: Path) -> None:
    code = "import sys; sys.platform = 'sunos5'; exec(compile(open({!r}).read(), 'p', 'exec'))"
    command = [sys.executable, "-I", "-c", code.format(str(PROBE))]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (2, "")
    answer = json.loads(run.stdout)
    assert answer["schema"] == probe.SCHEMA
    assert answer["error"]["code"] == "unsupported"
    assert "sunos5" in answer["error"]["message"]
