"""Which libraries macOS has, and which it never had, by their names.

No list of every release can be had from open sources, so there are three answers: known (ORIGIN.md
says from where), impossible, and unknown. A name in /usr/lib itself is unknown only while the list
has the library in another version; of the folders below it, and of frameworks, it has too few.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from store.tags import MacVersion

LIST: Final = Path(__file__).with_name("names.json")
SYSTEM: Final = ("/usr/lib/", "/System/Library/")

# Only these folders below /usr/lib hold libraries that something may be linked to.
_FOLDERS: Final = re.compile(r"(system|swift|i18n|dtrace|closure|log|updaters|sandbox)(/.*)?")
_FRAMEWORK: Final = re.compile(r"(.*/)?(\w[\w+-]*)\.framework/(Versions/[\w.]+/)?\2(_\w+)?")
# Never Apple's, below /usr/lib, in any release: interpreters, runtimes of other compilers, and
# libraries that Apple either does not have or keeps inside frameworks.
_NEVER: Final = re.compile(
    r"lib(python3|pypy)[\w.-]*"
    r"|lib(gfortran|quadmath|gomp|omp|iomp5|atomic|winpthread)([.-]\d.*)?\.dylib"
    r"|lib(boost|mkl|opencv|hdf5|netcdf|openblas)(_\w+)?([.-].*)?\.dylib"
    r"|lib(arrow|gdal|geos|geos_c|proj|fftw3f?|gslcblas|tbb|sodium|zmq|usb-1)([.-].*)?\.dylib"
    r"|lib(png\d*|jpeg|turbojpeg|tiff|webp|freetype|harfbuzz|zstd|lz4|snappy)([.-].*)?\.dylib"
    r"|lib(ssl|crypto)\.([1-9]|1\.[01]|1\.0\.[0-2])\.dylib"  # LibreSSL's numbers begin at 35
)
# What versions are told apart by: libtcl8.5, libxml2.2, libapr-1.0, libobjc.A.
_DIGITS: Final = "0123456789"
_IN_VERSION: Final = frozenset(_DIGITS + ".-ABC")


@cache
def known_since() -> Mapping[str, MacVersion]:
    """Install name -> the first macOS that is known to have it; (0, 0) where that is not known."""
    table: dict[str, str] = json.loads(LIST.read_text("ascii"))
    return {name: _version(first) for name, first in table.items()}


def is_system(name: str) -> bool:
    """Whether an install name leads to where macOS keeps its own libraries, and stays there."""
    return name.startswith(SYSTEM) and posixpath.normpath(name) == name


def is_impossible(name: str) -> bool:
    """Whether no macOS has, or had, a library at `name`, which `is_system`."""
    if name in known_since():
        return False
    if not name.startswith("/usr/lib/"):
        return _FRAMEWORK.fullmatch(name) is None and not name.endswith(".dylib")
    folder, _, file = name.removeprefix("/usr/lib/").rpartition("/")
    if folder:
        return _FOLDERS.fullmatch(folder) is None
    return _NEVER.fullmatch(file) is not None or _library(file) not in _known_libraries()


@cache
def _known_libraries() -> frozenset[str]:
    """The libraries that some macOS has in /usr/lib itself, without their versions."""
    files = (
        name.removeprefix("/usr/lib/") for name in known_since() if name.startswith("/usr/lib/")
    )
    return frozenset(_library(file) for file in files if "/" not in file)


def _library(file: str) -> str:
    """``libxml`` of ``libxml2.2.dylib``; the whole name where no version follows."""
    if not file.endswith(".dylib"):
        return file
    plain = file.removesuffix(".dylib")
    stem = plain.partition(".")[0].rstrip(_DIGITS).rstrip("-")
    return stem if set(plain[len(stem) :]) <= _IN_VERSION else plain


def _version(text: str) -> MacVersion:
    major, minor = map(int, text.split("."))
    return major, minor
