"""Tags made from a claimed tag by changing one of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from packaging.tags import Tag

from store.errors import MalformedError
from store.tags import MacPlatform, Platform, mac_platforms_for, parse_platform


def on_platforms(tag: Tag, platforms: Iterable[Platform]) -> frozenset[Tag]:
    """`tag` on each of `platforms` instead of its own.

    A damaged minimum OS (macOS 65535) has no platform tag, so it is left out.
    """
    names = filter(_is_platform_tag, map(str, platforms))
    return frozenset(Tag(tag.interpreter, tag.abi, name) for name in names)


def _is_platform_tag(text: str) -> bool:
    try:
        parse_platform(text)
    except MalformedError:
        return False
    return True


def for_python(tag: Tag, interpreter: str, abi: str) -> Tag:
    """`tag` for another interpreter and ABI."""
    return Tag(interpreter, abi, tag.platform)


def on_archs(tag: Tag, platform: MacPlatform, archs: Iterable[str]) -> frozenset[Tag]:
    """`tag` for these architectures only, each with the minimum OS that it was promised."""
    return on_minimums(tag, {arch: platform.minimum_os(arch) for arch in archs})


def on_minimums(tag: Tag, minimums: Mapping[str, tuple[int, ...]]) -> frozenset[Tag]:
    """`tag` for the macOS versions that each architecture needs; no tag for none."""
    return on_platforms(tag, mac_platforms_for(minimums)) if minimums else frozenset()
