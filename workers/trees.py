"""Folders and checkouts that a person wants built: each is made into an sdist first.

That is done where the person is, also for a farm, which then gets the sdist like any other file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from packaging.utils import NormalizedName

from builder.checkout import check_out, safe_url
from builder.deposit import deposit
from builder.errors import TreeError
from builder.sdist import sdist_name
from builder.tree import NO_MOMENT, copy_tree, sdist_of
from store.digest import sha256_of_file
from store.disk import disk_trouble, locked_folder
from store.provenance import Origin
from workers.job import scratch_of
from workers.requirements import Asked, Wanted, WantedCheckout, WantedFile, WantedTree
from workers.settings import Settings
from workers.sources import place_of


def packed(
    asked: Sequence[Asked], settings: Settings, tell: Callable[[str], None]
) -> tuple[Wanted, ...]:
    """`asked` with the sdist of each folder and checkout in its place, made here and now.

    Raises TreeError and CheckoutError, and leaves the log of what failed in the cache.
    """
    found = [_packed(one, settings, tell) for one in asked]
    return tuple(dict.fromkeys(found))


def _packed(one: Asked, settings: Settings, tell: Callable[[str], None]) -> Wanted:
    if not isinstance(one, (WantedTree, WantedCheckout)):
        return one
    tell(f"making an sdist of {one.shown}")
    scratch = scratch_of(settings.cache)
    with disk_trouble("build in", scratch), locked_folder(scratch) as workspace:
        try:
            return _made(one, workspace, settings)
        except TreeError as error:
            raise TreeError(
                f"{one.shown}: {error.message}", hint=_hint(error, workspace, settings)
            ) from error


def _made(one: WantedTree | WantedCheckout, workspace: Path, settings: Settings) -> WantedFile:
    tree, moment, origin = _fetched(one, workspace)
    sdist = sdist_of(tree, workspace, moment=moment, index_url=settings.index_url)
    if isinstance(one, WantedCheckout) and one.name:
        _refuse_other_name(sdist, one.name)
    return WantedFile(path=_keep(sdist, settings.cache), place=one.place, origin=origin)


def _fetched(one: WantedTree | WantedCheckout, workspace: Path) -> tuple[Path, int, Origin]:
    """The tree in `workspace`, the time of its members, and where it is from."""
    copy = workspace / "tree"
    if isinstance(one, WantedTree):
        origin = Origin(kind="local", location=str(one.path.resolve()), pinned=False)
        return copy_tree(one.path, copy), NO_MOMENT, origin
    checkout = check_out(one.url, one.revision, copy, workspace / "git.log")
    tree = (copy / one.subdirectory).resolve()
    if not (tree.is_dir() and tree.is_relative_to(copy.resolve())):
        raise TreeError(f"the repository has no folder {one.subdirectory[:200]!r}")
    location = f"git+{safe_url(one.url)}@{checkout.commit}"
    location += f"#subdirectory={one.subdirectory}" if one.subdirectory else ""
    return tree, checkout.moment, Origin(kind="vcs", location=location, pinned=False)


def _refuse_other_name(sdist: Path, name: NormalizedName) -> None:
    found = sdist_name(sdist.name)[0]
    if found != name:
        raise TreeError(f"it is {found}, not {name}", hint="correct the name before the @")


def _keep(sdist: Path, cache: Path) -> Path:
    """Put the sdist into the cache under its digest, as those that were fetched."""
    place = place_of(sha256_of_file(sdist), sdist.name, cache)
    with sdist.open("rb") as made:
        deposit(made, place)
    return place


def _hint(error: TreeError, workspace: Path, settings: Settings) -> str | None:
    log = workspace / "build.log"
    if not log.is_file() or not log.stat().st_size:
        return error.hint
    kept = settings.cache / "logs" / "sdist-of-tree.log"
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(log, kept)
    return f"{error.hint}; its log is {kept}" if error.hint else f"its log is {kept}"
