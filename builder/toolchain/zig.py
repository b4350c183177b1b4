"""zig's C compiler, as the package ziglang brings it: where and what it is, one way to run it."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from builder.errors import BuilderError, UnbuildableTargetError
from store.digest import JSON, Sha256, digest_of, sha256_of_file

VERSION: Final = "0.17.0"
"""The version that the rules of this folder were tried with."""

_HINT: Final = "pip install 'wheelfarm[cross]'"
_TIMEOUT_SECONDS: Final = 900
_ERROR_CHARACTERS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Zig:
    """An installed zig: its program, version, and the digest of every file of its package.

    `binary_sha256` is what the package's RECORD says of the program (see `check_binary`).
    """

    program: Path
    version: str
    package_sha256: Sha256
    binary_sha256: str

    @property
    def library(self) -> Path:
        """The folder of headers and stubs."""
        return self.program.parent / "lib"

    def to_json(self) -> dict[str, JSON]:
        """What enters a toolchain's identity: no paths."""
        return {"name": "zig", "version": self.version, "package_sha256": self.package_sha256}


@functools.cache
def find_zig() -> Zig:
    """The zig of the installed package ziglang.

    Raises UnbuildableTargetError when it is missing or of a version that was not tried.
    """
    try:
        package = distribution("ziglang")
    except PackageNotFoundError as error:
        raise UnbuildableTargetError("the cross compiler is not installed", hint=_HINT) from error
    if package.version != VERSION:
        raise UnbuildableTargetError(
            f"ziglang {package.version} is installed, and {VERSION} is the one that was tried",
            hint=_HINT,
        )
    rows = _recorded(package)
    program = Path(str(package.locate_file("ziglang/zig"))).resolve()
    if "ziglang/zig" not in rows or not os.access(program, os.X_OK):
        raise UnbuildableTargetError("the installed ziglang has no compiler in it", hint=_HINT)
    return Zig(
        program=program,
        version=package.version,
        package_sha256=digest_of([[name, rows[name]] for name in sorted(rows)]),
        binary_sha256=rows["ziglang/zig"],
    )


def check_binary(zig: Zig) -> None:
    """Hold the program's bytes against the package's RECORD. Raises UnbuildableTargetError.

    Takes a third of a second, so it is done when a toolchain is made, not at each use of one.
    """
    digest = bytes.fromhex(sha256_of_file(zig.program))
    found = "sha256=" + urlsafe_b64encode(digest).rstrip(b"=").decode()
    if found != zig.binary_sha256:
        raise UnbuildableTargetError(
            "the installed compiler is not the one that its package's RECORD names",
            hint="pip install --force-reinstall 'wheelfarm[cross]'",
        )


def run_zig(zig: Zig, args: Sequence[str], cache: Path, *, cwd: Path) -> bytes:
    """What ``zig args`` writes to its standard output, with its cache in `cache`.

    Raises BuilderError with the compiler's last words when it fails or takes too long.
    """
    environment = {"PATH": os.defpath, "HOME": str(cwd), **cache_variables(cache)}
    try:
        done = subprocess.run(
            [str(zig.program), *args],
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BuilderError(f"the cross compiler took over {_TIMEOUT_SECONDS} s") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()[-_ERROR_CHARACTERS:]
        raise BuilderError(f"the cross compiler failed (status {done.returncode}): {words}")
    return done.stdout


def cache_variables(cache: Path) -> Mapping[str, str]:
    """The environment variables that make zig keep all that it caches in `cache`."""
    return {"ZIG_GLOBAL_CACHE_DIR": str(cache), "ZIG_LOCAL_CACHE_DIR": str(cache)}


def _recorded(package: Distribution) -> dict[str, str]:
    # Only the wheel's own rows: an installer adds others, and byte code comes and goes.
    text = package.read_text("RECORD") or ""
    return {
        row[0]: row[1]
        for row in csv.reader(text.splitlines())
        if len(row) == 3 and row[0].startswith("ziglang/") and not row[0].endswith(".pyc")
    }
