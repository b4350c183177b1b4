"""Wheel tags (PEP 425): what a platform tag stands for, who takes it, how a set is written.

A platform tag is parsed into a record that says its operating system, its architectures and its
floor. Architectures are in the words of the binary readers (``x86_64``, ``arm64`` on macOS and
``aarch64`` on Linux), so that a tag can be held against bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from packaging import tags as pep425
from packaging.tags import Tag

from store.errors import MalformedError

MacVersion: TypeAlias = tuple[int, int]
"""Major and minor of a macOS release, as a platform tag writes them."""

MAC_FORMATS: Final[Mapping[str, frozenset[str]]] = {
    "arm64": frozenset({"arm64"}),
    "x86_64": frozenset({"x86_64"}),
    "i386": frozenset({"i386"}),
    "ppc": frozenset({"ppc"}),
    "ppc64": frozenset({"ppc64"}),
    "universal2": frozenset({"arm64", "x86_64"}),
    "intel": frozenset({"i386", "x86_64"}),
    "fat": frozenset({"i386", "ppc"}),
    "fat3": frozenset({"i386", "ppc", "x86_64"}),
    "fat64": frozenset({"ppc64", "x86_64"}),
    "universal": frozenset({"i386", "ppc", "ppc64", "x86_64"}),
}
"""The last part of a macOS platform tag -> the architectures that it promises."""
_MAC_ARCHS: Final = frozenset(name for name, archs in MAC_FORMATS.items() if name in archs)

_LAST_MAC_BEFORE_YEARS: Final = 15
_FIRST_MAC_OF_YEARS: Final = 26
_FIRST_ARM64_MAC: Final = (11, 0)
_OLDEST_MATCHED_MAC: Final = (10, 4)
_LAST_MAC_10: Final = 16

# PEP 513, 571 and 599: the names that manylinux had before PEP 600.
_LEGACY_MANYLINUX: Final = {
    "manylinux1": (2, 5),
    "manylinux2010": (2, 12),
    "manylinux2014": (2, 17),
}
_LEGACY_NAME: Final = {version: name for name, version in _LEGACY_MANYLINUX.items()}
# PEP 600 begins with the glibc of manylinux1 on Intel and of manylinux2014 elsewhere.
_OLDEST_GLIBC_MINOR: Final = {"x86_64": 5, "i686": 5}
_OTHER_OLDEST_GLIBC_MINOR: Final = 17
# A 64-bit ARM kernel in 32-bit mode calls itself armv8l and runs armv7l wheels.
_ALSO_RUNS: Final = {"armv8l": ("armv8l", "armv7l")}

_WINDOWS_ARCHS: Final = {"win32": "x86", "win_amd64": "amd64", "win_arm64": "arm64"}
_ANDROID_ARCHS: Final = {
    "arm64_v8a": "aarch64",
    "armeabi_v7a": "armv7l",
    "x86_64": "x86_64",
    "x86": "i686",
}

# No libc minor and no macOS major is near it; without it a made-up name costs a million tags.
_MAX_FLOOR: Final = 99

MAX_TAG_TEXT: Final = 2_000
"""Characters of a compressed tag set that are read."""
MAX_TAGS: Final = 1_000
"""Expanded tags that one compressed set may stand for."""
_HINT: Final = "a tag reads like cp311-cp311-manylinux_2_17_x86_64 (PEP 425)"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MacPlatform:
    """``macosx_MAJOR_MINOR_FORMAT``."""

    major: int
    minor: int
    format: str

    @property
    def archs(self) -> frozenset[str]:
        """The architectures that the format promises."""
        return MAC_FORMATS[self.format]

    @property
    def version(self) -> MacVersion:
        """The minimum OS as the tag writes it."""
        return self.major, self.minor

    @property
    def matchable(self) -> bool:
        """Whether any installer takes the tag: ``macosx_12_3_x86_64`` is taken by none."""
        if self.format == "arm64" and self.major < 11:
            return False
        if self.major == 10:
            return self.minor <= _LAST_MAC_10
        return self.minor == 0 and is_macos_major(self.major)

    def minimum_os(self, arch: str) -> MacVersion:
        """The oldest macOS that the tag promises to `arch`: 11.0 or later for arm64."""
        return max(self.version, _FIRST_ARM64_MAC) if arch == "arm64" else self.version

    def __str__(self) -> str:
        return f"macosx_{self.major}_{self.minor}_{self.format}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GlibcPlatform:
    """``manylinux_MAJOR_MINOR_ARCH`` (PEP 600), or the older name that means the same."""

    major: int
    minor: int
    arch: str
    legacy: str | None = None

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({self.arch})

    def __str__(self) -> str:
        return f"{self.legacy or f'manylinux_{self.major}_{self.minor}'}_{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class MuslPlatform:
    """``musllinux_MAJOR_MINOR_ARCH`` (PEP 656)."""

    major: int
    minor: int
    arch: str

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({self.arch})

    def __str__(self) -> str:
        return f"musllinux_{self.major}_{self.minor}_{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LinuxPlatform:
    """``linux_ARCH``: some Linux, with nothing said of its libc."""

    arch: str

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({self.arch})

    def __str__(self) -> str:
        return f"linux_{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class WindowsPlatform:
    """``win32``, ``win_amd64`` or ``win_arm64``; the architecture is x86, amd64 or arm64."""

    text: str

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({_WINDOWS_ARCHS[self.text]})

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class IosPlatform:
    """``ios_MAJOR_MINOR_ARCH_SDK`` (PEP 730)."""

    major: int
    minor: int
    arch: str
    simulator: bool

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({self.arch})

    def __str__(self) -> str:
        sdk = "iphonesimulator" if self.simulator else "iphoneos"
        return f"ios_{self.major}_{self.minor}_{self.arch}_{sdk}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AndroidPlatform:
    """``android_API_ABI`` (PEP 738); the architecture is named as on Linux."""

    api: int
    abi: str

    @property
    def archs(self) -> frozenset[str]:
        """The one architecture."""
        return frozenset({_ANDROID_ARCHS[self.abi]})

    def __str__(self) -> str:
        return f"android_{self.api}_{self.abi}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class AnyPlatform:
    """``any``: no architecture, no operating system."""

    @property
    def archs(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def __str__(self) -> str:
        return "any"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class OtherPlatform:
    """A well-formed tag of a platform that the farm does not know (FreeBSD, WASI …)."""

    text: str

    @property
    def archs(self) -> frozenset[str]:
        """None that can be judged."""
        return frozenset()

    def __str__(self) -> str:
        return self.text


Platform = (
    MacPlatform
    | GlibcPlatform
    | MuslPlatform
    | LinuxPlatform
    | WindowsPlatform
    | IosPlatform
    | AndroidPlatform
    | AnyPlatform
    | OtherPlatform
)


@lru_cache(maxsize=1024)  # each check asks for the same few
def parse_platform(text: str) -> Platform:
    """The platform that one platform tag names. Raises MalformedError."""
    if not re.fullmatch(r"[a-z0-9_]{1,100}", text):
        raise MalformedError(f"not a platform tag: {text[:80]!r}", hint=_HINT)
    if text == "any":
        return AnyPlatform()
    for family, parse in _PARSERS.items():
        if text.startswith(family):
            return parse(text)
    return OtherPlatform(text=text)


def parse_tag_set(text: str) -> frozenset[Tag]:
    """The expanded tags of a compressed tag set (PEP 425), such as a file name's last parts.

    Raises MalformedError when it breaks the grammar, or stands for more than MAX_TAGS tags.
    """
    if len(text) > MAX_TAG_TEXT or not re.fullmatch(r"[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+){2}", text):
        raise MalformedError(f"not a wheel tag: {text[:80]!r}", hint=_HINT)
    try:
        return pep425.parse_tag(text, limit=MAX_TAGS)
    except (pep425.InvalidTag, pep425.TooManyTagsError) as error:
        raise MalformedError(str(error)[:300], hint=_HINT) from error


def tag_set_text(tags: Iterable[Tag]) -> str:
    """`tags` as one compressed tag set (PEP 425), each of its three parts sorted.

    Raises MalformedError when the set is empty, or is not all combinations of its parts: then
    no one file name stands for exactly these tags.
    """
    expanded = frozenset(tags)
    interpreters = sorted({tag.interpreter for tag in expanded})
    abis = sorted({tag.abi for tag in expanded})
    platforms = sorted({tag.platform for tag in expanded})
    if not expanded or len(expanded) != len(interpreters) * len(abis) * len(platforms):
        names = ", ".join(sorted(map(str, expanded)))[:300] or "none"
        raise MalformedError(
            f"no one compressed tag set stands for exactly these tags: {names}",
            hint="a file name stands for every combination of its interpreters, ABIs and platforms",
        )
    return "-".join(".".join(part) for part in (interpreters, abis, platforms))


def is_macos_major(major: int) -> bool:
    """Whether macOS has a major version of this number: 10 to 15, and 26 upwards."""
    return 10 <= major <= _LAST_MAC_BEFORE_YEARS or major >= _FIRST_MAC_OF_YEARS


def round_up_macos(minimum: tuple[int, ...], arch: str) -> MacVersion:
    """The oldest version that a tag may name for a binary that needs macOS `minimum`.

    Never below it: 11.1 -> 12_0, 15.5 -> 26_0, 10.9.1 -> 10_10. At least 11_0 for arm64, and
    10_4 for the others, below which no installer matches.
    """
    major, minor, patch = (*minimum, 0, 0, 0)[:3]
    floor = _FIRST_ARM64_MAC if arch in {"arm64", "arm64e"} else _OLDEST_MATCHED_MAC
    if (major, minor, patch) <= (*floor, 0):
        return floor
    if major == 10 and minor + bool(patch) <= _LAST_MAC_10:
        return 10, minor + bool(patch)
    major = max(major, 11) + bool(minor or patch)
    return (major, 0) if is_macos_major(major) else (_FIRST_MAC_OF_YEARS, 0)


def mac_platforms_for(minimums: Mapping[str, tuple[int, ...]]) -> frozenset[MacPlatform]:
    """The exact platform tags for slices that need these minimum macOS versions.

    `minimums` maps an architecture to (major, minor[, patch]). One ``universal2`` tag where it
    says the same as one tag for each architecture would, else one for each. Raises MalformedError
    for an architecture that no macOS tag names (arm64e, x86_64h).
    """
    versions = {arch: round_up_macos(minimum, arch) for arch, minimum in minimums.items()}
    if unknown := sorted(arch for arch in versions if arch not in _MAC_ARCHS):
        raise MalformedError(f"no macOS platform tag stands for {', '.join(unknown)}")
    thin = {_mac_platform(version, arch) for arch, version in versions.items()}
    both = _universal2_for(versions)
    return frozenset(thin if both is None else {both})


def _universal2_for(versions: Mapping[str, MacVersion]) -> MacPlatform | None:
    if versions.keys() != MAC_FORMATS["universal2"]:
        return None
    both = _mac_platform(versions["x86_64"], "universal2")
    return both if both.minimum_os("arm64") == versions["arm64"] else None


def _mac_platform(version: MacVersion, mac_format: str) -> MacPlatform:
    return MacPlatform(major=version[0], minor=version[1], format=mac_format)


def supported_tags(python_tag: str, abi_tag: str, platform: str) -> Iterator[Tag]:
    """Every tag that an installer accepts in such an environment, best first (PEP 425).

    The three are those of the narrowest tag there: ``cp313``, ``cp313t``, ``macosx_11_0_arm64``.
    Raises MalformedError for an interpreter or a platform that the farm does not serve.
    """
    version = _python_version(python_tag)
    platforms = list(accepted_platforms(parse_platform(platform)))
    if python_tag.startswith("cp"):
        yield from pep425.cpython_tags(version, _accepted_abis(abi_tag), platforms)
        yield from pep425.compatible_tags(version, python_tag, platforms)
    else:
        yield from pep425.generic_tags(python_tag, [abi_tag], platforms)
        # pip and uv know ``pp3-none-any``, not ``pp311-none-any``.
        generic = "pp3" if python_tag.startswith("pp") else python_tag
        yield from pep425.compatible_tags(version, generic, platforms)


def python_tag_of(abi_tag: str) -> str:
    """The interpreter tag that goes with a version-specific ABI tag: ``cp313t`` -> ``cp313``.

    Raises MalformedError for ``abi3``, ``none`` and what is no ABI tag.
    """
    if found := re.fullmatch(r"(cp3[0-9]{1,2})[a-z]*", abi_tag):
        return found[1]
    if found := re.fullmatch(r"pypy(3[0-9]{1,2})_pp[0-9]+", abi_tag):
        return f"pp{found[1]}"
    raise MalformedError(f"not the ABI tag of one interpreter: {abi_tag[:80]!r}", hint=_HINT)


def accepted_platforms(platform: Platform) -> Iterator[str]:
    """The platform tags that an installer takes which stands on `platform`, best first.

    Raises MalformedError for a platform that the farm builds nothing for.
    """
    if isinstance(platform, MacPlatform) and platform.major <= _MAX_FLOOR:
        return pep425.mac_platforms(platform.version, platform.format)
    if isinstance(platform, GlibcPlatform) and _known_floor(platform, major=2):
        return _linux_platforms(platform, _manylinux)
    if isinstance(platform, MuslPlatform) and _known_floor(platform, major=1):
        return _linux_platforms(platform, _musllinux)
    raise MalformedError(f"no target stands on {platform}", hint=_HINT)


def _known_floor(platform: GlibcPlatform | MuslPlatform, *, major: int) -> bool:
    return platform.major == major and platform.minor <= _MAX_FLOOR


def _linux_platforms(
    platform: GlibcPlatform | MuslPlatform, spell: Callable[[int, str], Iterator[str]]
) -> Iterator[str]:
    """As packaging orders them since 26.3: what was built on the spot comes first."""
    archs = _ALSO_RUNS.get(platform.arch, (platform.arch,))
    yield from (f"linux_{arch}" for arch in archs)
    for arch in archs:
        yield from spell(platform.minor, arch)


def _manylinux(newest: int, arch: str) -> Iterator[str]:
    oldest = _OLDEST_GLIBC_MINOR.get(arch, _OTHER_OLDEST_GLIBC_MINOR)
    for minor in range(newest, oldest - 1, -1):
        yield f"manylinux_2_{minor}_{arch}"
        if legacy := _LEGACY_NAME.get((2, minor)):
            yield f"{legacy}_{arch}"


def _musllinux(newest: int, arch: str) -> Iterator[str]:
    return (f"musllinux_1_{minor}_{arch}" for minor in range(newest, -1, -1))


def _accepted_abis(abi_tag: str) -> list[str]:
    """The ABI itself; a debug build also loads what was made for the release build."""
    release = re.sub(r"^(cp\d+t?)d$", r"\1", abi_tag)
    return list(dict.fromkeys([abi_tag, release]))


def _python_version(python_tag: str) -> tuple[int, int]:
    found = re.fullmatch(r"[a-z]{1,20}(3)([0-9]{1,2})", python_tag)
    if not found:
        raise MalformedError(f"not the tag of one interpreter: {python_tag[:80]!r}", hint=_HINT)
    return int(found[1]), int(found[2])


def _fields(pattern: str, text: str) -> tuple[str, ...]:
    found = re.fullmatch(pattern, text)
    if not found:
        raise MalformedError(f"not a platform tag: {text[:80]!r}", hint=_HINT)
    return found.groups()


def _parse_mac(text: str) -> MacPlatform:
    major, minor, mac_format = _fields(rf"macosx_{_NUMBER}_{_NUMBER}_([a-z0-9_]+)", text)
    if mac_format not in MAC_FORMATS:
        raise MalformedError(f"no macOS format is called {mac_format!r}", hint=_HINT)
    return MacPlatform(major=int(major), minor=int(minor), format=mac_format)


def _parse_glibc(text: str) -> GlibcPlatform:
    for legacy, (major, minor) in _LEGACY_MANYLINUX.items():
        if text.startswith(f"{legacy}_"):
            arch = _fields(rf"{legacy}_([a-z0-9_]+)", text)[0]
            return GlibcPlatform(major=major, minor=minor, arch=arch, legacy=legacy)
    numbers = _fields(rf"manylinux_{_NUMBER}_{_NUMBER}_([a-z0-9_]+)", text)
    return GlibcPlatform(major=int(numbers[0]), minor=int(numbers[1]), arch=numbers[2])


def _parse_musl(text: str) -> MuslPlatform:
    major, minor, arch = _fields(rf"musllinux_{_NUMBER}_{_NUMBER}_([a-z0-9_]+)", text)
    return MuslPlatform(major=int(major), minor=int(minor), arch=arch)


def _parse_linux(text: str) -> LinuxPlatform:
    return LinuxPlatform(arch=_fields(r"linux_([a-z0-9_]+)", text)[0])


def _parse_windows(text: str) -> WindowsPlatform:
    if text not in _WINDOWS_ARCHS:
        raise MalformedError(f"not a Windows platform tag: {text[:80]!r}", hint=_HINT)
    return WindowsPlatform(text=text)


def _parse_ios(text: str) -> IosPlatform:
    pattern = rf"ios_{_NUMBER}_{_NUMBER}_(arm64|x86_64)_(iphoneos|iphonesimulator)"
    major, minor, arch, sdk = _fields(pattern, text)
    simulator = sdk == "iphonesimulator"
    return IosPlatform(major=int(major), minor=int(minor), arch=arch, simulator=simulator)


def _parse_android(text: str) -> AndroidPlatform:
    api, abi = _fields(rf"android_{_NUMBER}_([a-z0-9_]+)", text)
    if abi not in _ANDROID_ARCHS:
        raise MalformedError(f"no Android ABI is called {abi!r}", hint=_HINT)
    return AndroidPlatform(api=int(api), abi=abi)


_NUMBER: Final = r"(0|[1-9][0-9]{0,3})"
_PARSERS: Final[Mapping[str, Callable[[str], Platform]]] = {
    "macosx": _parse_mac,
    "manylinux": _parse_glibc,
    "musllinux": _parse_musl,
    "linux": _parse_linux,
    "win": _parse_windows,
    "ios": _parse_ios,
    "android": _parse_android,
}
