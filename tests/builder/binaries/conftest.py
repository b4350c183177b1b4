"""Real binaries from a real linker, made once for a test run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.binaries.fat import merge_slices
from tests.builder.binaries.signatures import resigned
from tests.builder.forge import pe

SOURCE = """
extern int PyModule_Create2(void *, int);
extern int helper(void);
extern int perhaps(void) __attribute__((weak, weak_import));
int exported_data = 3;
int common_data;
static int local(void) { return 1; }
__attribute__((visibility("hidden"))) int hidden(void) { return local(); }
int PyInit_spam(void) { return PyModule_Create2(0, helper() + hidden() + common_data + perhaps()); }
"""

Compile = Callable[..., bytes]


@pytest.fixture(scope="session")
def compile_for(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles SOURCE with zig for a target; gives the bytes of what was linked.

    Nothing is linked in (-nostdlib), so a call takes some 50 ms even with an empty cache.
    """
    folder = tmp_path_factory.mktemp("zig")
    (folder / "spam.c").write_text(SOURCE)
    environment = os.environ | {
        "ZIG_GLOBAL_CACHE_DIR": str(folder / "cache"),
        "ZIG_LOCAL_CACHE_DIR": str(folder / "cache"),
    }

    def compile_(target: str, *options: str) -> bytes:
        link = ["-c"] if "-c" in options else ["-shared", "-undefined", "dynamic_lookup"]
        flags = ["-target", target, "-nostdlib", "-g0", "-fno-sanitize=undefined", "-fcommon"]
        output = Path(folder, "out.so")
        command = [sys.executable, "-m", "ziglang", "cc", *flags, *link, *options, "spam.c"]
        subprocess.run(
            [*command, "-o", str(output)], cwd=folder, env=environment, check=True, timeout=300
        )
        return output.read_bytes()

    return compile_


@pytest.fixture(scope="session")
def mach_arm64(compile_for: Compile) -> bytes:
    return compile_for(
        "aarch64-macos.11.0", "-install_name", "@rpath/spam.so", "-Wl,-rpath,@loader_path/lib"
    )


@pytest.fixture(scope="session")
def mach_x86_64(compile_for: Compile) -> bytes:
    return compile_for("x86_64-macos.10.13", "-Wl,-rpath,/opt/lib")


@pytest.fixture(scope="session")
def mach_object(compile_for: Compile) -> bytes:
    return compile_for("aarch64-macos.11.0", "-c")


@pytest.fixture(scope="session")
def elf_x86_64(compile_for: Compile) -> bytes:
    return compile_for("x86_64-linux-gnu", "-Wl,-soname,libspam.so.1", "-Wl,-rpath,$ORIGIN/a:/b")


@pytest.fixture(scope="session")
def elf_object(compile_for: Compile) -> bytes:
    return compile_for("x86_64-linux-gnu", "-c")


@pytest.fixture(scope="session")
def elf_arm(compile_for: Compile) -> bytes:
    return compile_for("arm-linux-gnueabihf")


@pytest.fixture(scope="session")
def elf_s390x(compile_for: Compile) -> bytes:
    return compile_for("s390x-linux-gnu")


@pytest.fixture(scope="session")
def elf_versioned(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A program of the machine's own compiler: it needs libc with versions, and an interpreter."""
    folder = tmp_path_factory.mktemp("cc")
    (folder / "main.c").write_text('#include <stdio.h>\nint main(void) { return puts("spam"); }\n')
    subprocess.run(["cc", "main.c", "-o", "main"], cwd=folder, check=True, timeout=60)
    return Path(folder, "main").read_bytes()


@pytest.fixture(scope="session")
def pe_amd64() -> bytes:
    return pe("amd64", ("PyInit_spam", "more"), ("python311.dll", "user32.dll"), delayed=("z.dll",))


@pytest.fixture(scope="session")
def pe_x86() -> bytes:
    return pe("x86", ("PyInit_spam",), ("python311.dll",))


@pytest.fixture(scope="session")
def elf_level(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A library that says it needs x86-64-v3."""
    folder = tmp_path_factory.mktemp("isa")
    (folder / "m.c").write_text("int spam(void) { return 1; }\n")
    command = ["cc", "-shared", "-fPIC", "-nostdlib", "-Wl,-z,x86-64-v3", "m.c", "-o", "m.so"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return Path(folder, "m.so").read_bytes()


@pytest.fixture(scope="session")
def mach_signed_twice(mach_arm64: bytes) -> bytes:
    """With CodeDirectories of SHA-1, SHA-256 and SHA-256 cut short, as codesign wrote them."""
    return resigned(mach_arm64, (1, 2, 3))


SHAPES = (
    *("mach_arm64", "mach_x86_64", "mach_object", "mach_signed_twice"),
    *("elf_x86_64", "elf_object", "elf_arm", "elf_s390x", "elf_versioned", "elf_level"),
    *("pe_amd64", "pe_x86"),
)


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """One binary of each shape that the readers know."""
    made = {name: request.getfixturevalue(name) for name in SHAPES}
    made["mach_fat"] = merge_slices([made["mach_arm64"], made["mach_x86_64"]])
    return made
