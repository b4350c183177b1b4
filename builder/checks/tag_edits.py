"""Tags made from a claimed tag by changing one of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.tags import Tag

from store.tags import MacPlatform, Platform, mac_platforms_for


def on_platforms(tag: Tag, platforms: Iterable[Platform]) -> frozenset[Tag]:
    """`tag` on each of `platforms` instead of its own."""
    return frozenset(Tag(tag.interpreter, tag.abi, str(platform)) for platform in platforms)


def for_python(tag: Tag, interpreter: str, abi: str) -> Tag:
    """`tag` for another interpreter and ABI."""
    return Tag(interpreter, abi, tag.platform)


def on_archs(tag: Tag, platform: MacPlatform, archs: Iterable[str]) -> frozenset[Tag]:
    """`tag` for these architectures only, each with the minimum OS that it was promised."""
    return on_minimums(tag, {arch: platform.minimum_os(arch) for arch in archs})


def on_minimums(tag: Tag, minimums: Mapping[str, tuple[int, ...]]) -> frozenset[Tag]:
    """`tag` for the macOS versions that each architecture needs; no tag for none."""
    return on_platforms(tag, mac_platforms_for(minimums)) if minimums else frozenset()
