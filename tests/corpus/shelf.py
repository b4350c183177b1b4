"""Where the real wheels lie: a cache folder outside the repository, filled by pip."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.tags import Tag

from store.digest import sha256_of_file
from store.tags import MacPlatform, parse_platform
from tests.corpus.listed import Listed

_SECONDS = 600
_PYTHON = "3.11"


def fetch(wheel: Listed) -> Path:
    """The wheel's file, from the cache, or from the index into it; its bytes are the pinned ones.

    Raises subprocess.CalledProcessError when pip cannot get it, AssertionError for other bytes.
    """
    place = cache_folder() / wheel.sha256[:16] / wheel.file
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            _download(wheel, Path(scratch)).replace(place)
    assert (sha256_of_file(place), place.stat().st_size) == (wheel.sha256, wheel.size), place
    return place


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/wheelfarm-corpus``."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "wheelfarm-corpus"


def _download(wheel: Listed, folder: Path) -> Path:
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{wheel.project}=={wheel.version} --hash=sha256:{wheel.sha256}\n", "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--dest", str(folder)]
    command += [*_selection(wheel), "--requirement", str(wanted)]
    subprocess.run(command, check=True, timeout=_SECONDS, stdout=subprocess.DEVNULL)
    (path,) = folder.glob("*.whl")
    assert path.name == wheel.file
    return path


def _selection(wheel: Listed) -> list[str]:
    """The options that make pip take this wheel, whatever machine it runs on."""
    tag = next(tag for tag in sorted(wheel.claimed, key=str) if _is_matchable(tag))
    if tag.platform == "any":
        return []
    found = re.fullmatch(r"(cp|pp)3(\d+)", tag.interpreter)
    minor = max(int(found[2]), 11) if found and tag.abi == "abi3" else found and int(found[2])
    python = f"3.{minor}" if minor else _PYTHON
    implementation = found[1] if found else "py"
    return [
        "--platform", tag.platform, "--implementation", implementation,
        "--python-version", python, "--abi", tag.abi,
    ]  # fmt: skip


def _is_matchable(tag: Tag) -> bool:
    """Whether pip takes a wheel by this tag: ``macosx_11_6_x86_64`` and Python 2 it does not."""
    platform = parse_platform(tag.platform)
    python_3 = tag.interpreter[:3] in {"py3", "cp3", "pp3"}
    return python_3 and (platform.matchable if isinstance(platform, MacPlatform) else True)
