"""The extension modules that should be in the wheel are in it.

A build whose compiler fails may fall back to pure Python and end with status 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from builder.checks.check import Check
from builder.checks.context import Context
from builder.modules import extension_modules
from builder.wheel import OpenedWheel
from store.errors import MalformedError
from store.fingerprint import parse_fingerprint
from store.tags import (
    GlibcPlatform,
    IosPlatform,
    LinuxPlatform,
    MacPlatform,
    MuslPlatform,
    Platform,
    WindowsPlatform,
    parse_platform,
)
from store.verdict import Finding

CODE: Final = "expected-modules"
TITLE: Final = "Every expected extension module is there"
_FAMILIES: Final = {
    MacPlatform: "macos",
    GlibcPlatform: "linux",
    MuslPlatform: "linux",
    LinuxPlatform: "linux",
    WindowsPlatform: "windows",
    IosPlatform: "ios",
}


def find(wheel: OpenedWheel, context: Context) -> Iterator[Finding]:
    """An error for each reason to expect modules that the wheel does not meet.

    A sibling for another operating system may rightly hold other modules; there, only some
    against none counts.
    """
    actual = {module.importable_name for module in extension_modules(wheel)}
    for reason, modules in sorted(context.expected_modules.items()):
        expected = {name.removesuffix(".__init__") for name in modules}
        missing = expected - actual
        loose = _other_family(reason, wheel, context)
        if missing and not (loose and actual):
            yield _lost(reason, expected, actual)


def _lost(reason: str, expected: set[str], actual: set[str]) -> Finding:
    missing = sorted(expected - actual)
    return Finding(
        check=CODE,
        severity="error",
        message=f"extension modules were lost on the way: {', '.join(missing)[:300]}",
        evidence={
            "expected_by": reason,
            "missing": missing[:100],
            "actual": sorted(actual)[:100],
        },
        hint="see the build's log for the compiler error that the backend passed over",
    )


def _other_family(reason: str, wheel: OpenedWheel, context: Context) -> bool:
    """Whether `reason` is a fingerprint of another operating system than this wheel is for."""
    sibling = _family_of_fingerprint(reason)
    if sibling is None:
        return False
    own = _family_of_fingerprint(context.target or "")
    owns = {own} if own else {_family(parse_platform(tag.platform)) for tag in wheel.claimed}
    return sibling not in owns


def _family_of_fingerprint(text: str) -> str | None:
    try:
        return _family(parse_platform(parse_fingerprint(text).split("-")[1]))
    except MalformedError:
        return None


def _family(platform: Platform) -> str | None:
    return _FAMILIES.get(type(platform))


CHECK: Final = Check(code=CODE, title=TITLE, find=find)
