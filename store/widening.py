"""Whom a wheel may serve: its target, and others for a reason that is proved and recorded."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from packaging.tags import Tag

from store.catalogue import Catalogue
from store.digest import JSON
from store.errors import NotFoundError, PolicyError
from store.fingerprint import Fingerprint, fingerprint_of
from store.match import diff
from store.release import Release, WideningReason
from store.target import Target

_SHOWN: Final = 5


def check_serves(
    filename: str, tags: Collection[Tag], interpreter_bound: tuple[str, ...], target: Target
) -> list[str]:
    """The tags by which an installer on `target` takes the wheel, sorted.

    Raises PolicyError when there is none, or when a portable target, whose interpreter build
    nobody saw, would get a wheel that is bound to one.
    """
    taken = sorted(map(str, set(tags).intersection(target.supported_tags())))
    if not taken:
        raise PolicyError(
            f"{filename} does not serve {fingerprint_of(target)}: "
            f"no installer there takes {', '.join(sorted(map(str, tags))[:_SHOWN])}",
            hint="build it for that target",
        )
    if target.build is None and interpreter_bound:
        raise PolicyError(
            f"{filename} is bound to one interpreter build ({interpreter_bound[0]}), and "
            f"{fingerprint_of(target)} names none",
            hint="build it for an exact target, on the interpreter that it will run on",
        )
    return taken


def prove(
    catalogue: Catalogue, release: Release, fingerprint: Fingerprint, reason: WideningReason
) -> dict[str, JSON]:
    """The evidence that `reason` holds for `release` and `fingerprint`. Raises PolicyError."""
    own, other = _targets(catalogue, release, fingerprint)
    if release.yanked is not None:
        raise _unproved(release, fingerprint, "it is yanked")
    taken = check_serves(release.filename, release.tags, release.interpreter_bound, other)
    if reason == "linkage-free":
        evidence = _linkage_free(release, own, other)
    elif reason == "same-content":
        evidence = _same_content(catalogue, release, fingerprint)
    else:
        raise _unproved(
            release, fingerprint, "no check has held its symbols against the stable ABI"
        )
    return {**evidence, "tags": taken}


def _targets(
    catalogue: Catalogue, release: Release, fingerprint: Fingerprint
) -> tuple[Target, Target]:
    known = catalogue.targets()
    if fingerprint not in known:
        raise NotFoundError(
            f"the store does not know the fingerprint {fingerprint}",
            hint="build something for that target first",
        )
    return known[release.fingerprint], known[fingerprint]


def _linkage_free(release: Release, own: Target, other: Target) -> dict[str, JSON]:
    """Same ABI and platform, and no trace of the interpreter build in the bytes."""
    differing = [difference.field for difference in diff(own, other)]
    if release.interpreter_bound:
        raise _unproved(
            release, fingerprint_of(other), f"{release.interpreter_bound[0]} is bound to its own"
        )
    if fields := [field for field in differing if not field.startswith("build.")]:
        raise _unproved(
            release, fingerprint_of(other), f"the targets differ in {', '.join(fields)}"
        )
    return {"interpreter_bound": [], "differing_fields": differing}


def _same_content(
    catalogue: Catalogue, release: Release, fingerprint: Fingerprint
) -> dict[str, JSON]:
    """The other target's own build, in the same channel, gave the same members."""
    for twin in catalogue.listing(release.channel, fingerprint):
        same = twin.content_sha256 == release.content_sha256
        own = (twin.channel, twin.fingerprint) == (release.channel, fingerprint)
        if same and own and twin.name == release.name:
            return {"content_sha256": twin.content_sha256, "twin": twin.filename}
    raise _unproved(release, fingerprint, "no build for it gave the same content")


def _unproved(release: Release, fingerprint: Fingerprint, why: str) -> PolicyError:
    return PolicyError(
        f"{release.filename} may not serve {fingerprint}: {why}",
        hint="build it for that target",
    )
