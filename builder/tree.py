"""Make an sdist of a source tree, a person's folder or a checkout: the way in of what no index has.

The backend's ``build_sdist`` hook (PEP 517) runs as the hooks of a build do: over a copy, offline,
bounded. What it wrote is packed anew, in order and with one time for every member, so that the
same tree gives the same bytes, and what was built of it before is found again.
"""

from __future__ import annotations

import gzip
import os
import shutil
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from builder.archive import unpack_archive
from builder.backend import Backend
from builder.build import scratch_in
from builder.environment import hook_environment
from builder.errors import SdistError, TreeError
from builder.failure import StepFailed
from builder.isolation import Uv, isolated_environment
from builder.prepare import new_folder
from builder.requirements import readable, resolve, unmet
from builder.sdist import read_build_system
from builder.toolchain.python_facts import PythonFacts, python_facts
from store.provenance import Recipe

NO_MOMENT: Final = 1_580_601_600
"""2020-02-02T00:00:00Z: the time of what is in a folder, whose own times change by a touch."""

_LEFT_OUT: Final = frozenset({
    "__pycache__", ".hypothesis", ".mypy_cache", ".nox", ".pytest_cache", ".ruff_cache", ".tox",
    ".wheelfarm", "node_modules",
})  # fmt: skip
_MOST_FILES: Final = 100_000
_MOST_BYTES: Final = 4 << 30


def sdist_of(
    tree: Path, workspace: Path, *, moment: int = NO_MOMENT, index_url: str | None = None
) -> Path:
    """The sdist of `tree`, in ``workspace/sdist``; the backend's log is ``workspace/build.log``.

    `moment` is the time of every member, in seconds since 1970. Nothing is written to `tree` but
    what its backend writes there. Raises TreeError when the backend gives no sdist, ArchiveError
    when it gives one that must not be opened, OSError.
    """
    log = workspace / "build.log"
    log.touch()
    with scratch_in(workspace) as scratch:
        try:
            built = _run_backend(tree, scratch, log, moment, index_url)
        except (StepFailed, SdistError) as failed:
            raise _told(failed) from failed
        unpacked = unpack_archive(built, new_folder(scratch / "unpacked"))
        return _pack(unpacked.tree, new_folder(workspace / "sdist") / built.name, moment)


def copy_tree(tree: Path, copy: Path) -> Path:
    """Copy a person's folder: all but virtual environments, caches, and what is no file.

    Raises TreeError for what is no source tree, or is beyond 100,000 files or 4 GiB.
    """
    if not any((tree / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise TreeError(
            f"{tree} is no source tree: it has neither pyproject.toml nor setup.py",
            hint="give the folder that holds one of them",
        )
    _bound(tree)
    shutil.copytree(tree, copy, symlinks=True, ignore=_left_out)
    return copy


def _run_backend(tree: Path, scratch: Path, log: Path, moment: int, index_url: str | None) -> Path:
    python, build_system = Path(sys.executable), read_build_system(tree)
    facts = python_facts(python)
    uv = Uv(scratch=new_folder(scratch / "uv"), log=log, index_url=index_url)
    isolated = isolated_environment(python, scratch / "env", uv)
    env = hook_environment(
        scratch=scratch,
        bin_folder=isolated.bin_folder,
        source_date_epoch=moment,
        toolchain={},
        recipe={},
    )
    backend = Backend(tree=tree, isolated=isolated, env=env, settings={}, recipe=Recipe(), log=log)
    _equip(backend, build_system.requires, facts, python)
    return backend.build_sdist(scratch / "built")


def _equip(backend: Backend, stated: Sequence[str], facts: PythonFacts, python: Path) -> None:
    """Install what the tree states, then what its backend asks for beside it."""
    isolated = backend.isolated
    pins = resolve(stated, (), facts, isolated.uv, python)
    isolated.install(pins)
    asked = [*stated, *backend.requirements_for("sdist")]
    if unmet(readable(asked, facts), pins):
        isolated.install(resolve(asked, (), facts, isolated.uv, python))


def _told(failed: StepFailed | SdistError) -> TreeError:
    first = failed.first_error if isinstance(failed, StepFailed) else None
    return TreeError(
        f"no sdist can be made of it: {failed.message}{f' ({first})' if first else ''}",
        hint=failed.hint,
    )


def _pack(tree: Path, sdist: Path, moment: int) -> Path:
    """Pack `tree` as `sdist`: no owner, no time but `moment`, and no order but that of names."""

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        member.mtime = moment
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
        return member

    with (
        sdist.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in sorted(_members(tree)):
            inside = path.relative_to(tree.parent).as_posix()
            tar.add(path, inside, recursive=False, filter=plain)
    return sdist


def _members(tree: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(tree):
        yield Path(parent)
        links = [name for name in folders if Path(parent, name).is_symlink()]
        yield from (Path(parent, name) for name in [*links, *names])


def _left_out(parent: str, names: list[str]) -> list[str]:
    return [name for name in names if _is_left_out(Path(parent, name))]


def _is_left_out(path: Path) -> bool:
    if path.is_symlink():
        return False
    if path.is_dir():
        return path.name in _LEFT_OUT or (path / "pyvenv.cfg").is_file()
    return not path.is_file()  # a socket, a pipe or a device


def _bound(tree: Path) -> None:
    files = size = 0
    for parent, folders, names in os.walk(tree):
        folders[:] = [name for name in folders if not _is_left_out(Path(parent, name))]
        files += len(names)
        size += sum(Path(parent, name).lstat().st_size for name in names)
        if files > _MOST_FILES or size > _MOST_BYTES:
            raise TreeError(
                f"{tree} holds more than {_MOST_FILES} files or {_MOST_BYTES >> 30} GiB",
                hint="make its sdist with `python -m build --sdist`, and give that",
            )
