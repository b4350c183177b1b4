"""Where dyld looks for the libraries of a Mach-O slice, and what it finds there inside a wheel."""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from builder.binaries.image import MachFile, MachSlice
from builder.wheel import Member, OpenedWheel


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place where dyld looks, and what is there.

    `path` is below site-packages. `held` are the architectures of the libraries there; empty where
    the file is no Mach-O library.
    """

    path: str
    held: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What a wheel's slices can find: its libraries, and who loads whom.

    `files` are all paths below site-packages, `held` maps those of dynamic libraries to their
    architectures, `loaders` a file name and an architecture to the slices that load such a file.
    """

    files: frozenset[str]
    held: Mapping[str, tuple[str, ...]]
    loaders: Mapping[tuple[str, str], Sequence[tuple[Member, MachSlice]]]


def shelf_of(wheel: OpenedWheel) -> Shelf:
    """The shelf of `wheel`, made once for all that is looked for."""
    loaders: dict[tuple[str, str], list[tuple[Member, MachSlice]]] = defaultdict(list)
    for member, file in wheel.mach:
        for part in file.slices:
            for name in {d.name.rpartition("/")[2] for d in part.dependencies}:
                loaders[name, part.arch].append((member, part))
    held = {m.site_path: _held(file) for m, file in wheel.mach if m.site_path is not None}
    return Shelf(files=wheel.site_paths, held=held, loaders=loaders)


def places(shelf: Shelf, member: Member, part: MachSlice, name: str) -> Iterator[Place]:
    """The files of the wheel that dyld comes to for `name`, in its order; none when it finds none.

    It goes by @loader_path, and by the rpaths of the slice and of what loads it; @executable_path
    is known for a program alone. Absolute folders are those of another machine.
    """
    for path in dict.fromkeys(_paths(shelf, member, part, name)):
        if path in shelf.files:
            yield Place(path=path, held=shelf.held.get(path, ()))


def _held(file: MachFile) -> tuple[str, ...]:
    return tuple(part.arch for part in file.slices if part.filetype == "MH_DYLIB")


def _paths(shelf: Shelf, member: Member, part: MachSlice, name: str) -> Iterator[str]:
    if not name.startswith("@rpath/"):
        tried = [(member, part, name)]
    else:
        rest = name.removeprefix("@rpath/")
        loaders = [(member, part), *shelf.loaders.get((member.name, part.arch), ())]
        tried = [(m, p, posixpath.join(rpath, rest)) for m, p in loaders for rpath in p.rpaths]
    found = (_from(holder, loading, path) for holder, loading, path in tried)
    yield from (path for path in found if path is not None)


def _from(member: Member, part: MachSlice, path: str) -> str | None:
    """Where a path from the file's own folder lands below site-packages; None for any other."""
    word, _, rest = path.partition("/")
    own = word == "@loader_path" or (word == "@executable_path" and part.filetype == "MH_EXECUTE")
    if member.site_path is None or not own:
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(member.site_path), rest))
