"""What is damaged: sound wheels, and sound binaries of each format from real linkers."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from builder.binaries.fat import merge_slices
from tests.builder.forge import LINUX_SUFFIX, MAC_SUFFIX, elf, mach, pe, wheel, zig_elf

FORMATS = ("zip", "mach-o", "fat", "elf", "pe")

CLAIMS = {
    "mach-o": ("p-1.0-cp311-cp311-macosx_11_0_arm64.whl", f"p/m{MAC_SUFFIX}"),
    "fat": ("p-1.0-cp311-cp311-macosx_11_0_universal2.whl", f"p/m{MAC_SUFFIX}"),
    "elf": ("p-1.0-cp311-cp311-manylinux_2_17_x86_64.whl", f"p/m{LINUX_SUFFIX}"),
    "pe": ("p-1.0-cp311-cp311-win_amd64.whl", "p/m.cp311-win_amd64.pyd"),
}
"""Format -> the wheel that a damaged binary is put into, and its path there."""


@cache
def seeds_of(kind: str) -> tuple[bytes, ...]:
    """Sound files of the format."""
    return {"zip": _wheels, "mach-o": _mach, "fat": _fat, "elf": _elf, "pe": _pe}[kind]()


def _mach() -> tuple[bytes, ...]:
    return (
        mach("arm64"),
        mach("x86_64"),
        mach("arm64", flags=("-shared", "-Wl,-rpath,@loader_path")),
    )


def _fat() -> tuple[bytes, ...]:
    both = merge_slices([mach("x86_64"), mach("arm64")])
    return both, merge_slices([mach("arm64")])


def _elf() -> tuple[bytes, ...]:
    """64 and 32 bits, both byte orders, with and without a libc and its versions."""
    targets = ("aarch64-linux-gnu.2.17", "s390x-linux-gnu.2.17", "arm-linux-gnueabihf.2.17")
    return elf(), elf(flags=()), *(zig_elf(target) for target in targets)


def _pe() -> tuple[bytes, ...]:
    """64-bit and 32-bit, one with a library that is loaded late."""
    return pe(), pe("x86"), pe(delayed=("late.dll",))


def _wheels() -> tuple[bytes, ...]:
    """Whole wheels: pure, with folders and several members, and with a binary."""
    members = {"p/__init__.py": b"x = 1\n" * 50, "p/data.bin": bytes(range(256)), "p/z.py": b""}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        pure = wheel(folder, "p-1.0-py3-none-any.whl", members).read_bytes()
        path = CLAIMS["mach-o"][1]
        bound = wheel(folder, CLAIMS["mach-o"][0], {path: mach("arm64")}).read_bytes()
    return pure, bound
