"""Wheel tags: what they stand for, who takes them, how a set of them is written."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging import tags as pep425
from packaging.tags import Tag

from store.errors import MalformedError
from store.tags import (
    MAC_FORMATS,
    MacPlatform,
    accepted_platforms,
    mac_platforms_for,
    parse_platform,
    parse_tag_set,
    python_tag_of,
    round_up_macos,
    supported_tags,
    tag_set_text,
)

PLATFORMS = {
    "macosx_10_9_universal2": {"arm64", "x86_64"},
    "macosx_11_0_arm64": {"arm64"},
    "macosx_10_6_intel": {"i386", "x86_64"},
    "macosx_10_4_fat": {"i386", "ppc"},
    "manylinux_2_28_aarch64": {"aarch64"},
    "manylinux1_i686": {"i686"},
    "manylinux2010_x86_64": {"x86_64"},
    "manylinux2014_s390x": {"s390x"},
    "musllinux_1_2_x86_64": {"x86_64"},
    "linux_armv7l": {"armv7l"},
    "win32": {"x86"},
    "win_amd64": {"amd64"},
    "win_arm64": {"arm64"},
    "ios_13_0_arm64_iphoneos": {"arm64"},
    "ios_13_0_x86_64_iphonesimulator": {"x86_64"},
    "android_21_arm64_v8a": {"aarch64"},
    "any": set(),
    "freebsd_14_0_release_amd64": set(),
}


@pytest.mark.parametrize(("text", "archs"), PLATFORMS.items())
def test_a_platform_tag_names_its_architectures_and_reads_back(text: str, archs: set[str]) -> None:
    platform = parse_platform(text)
    assert platform.archs == archs
    assert str(platform) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "macosx",
        "macosx_11_arm64",
        "macosx_11_0_riscv",
        "macosx_011_0_arm64",
        "macosx_11_0_arm64\n",
        "macosx_١١_0_arm64",
        "manylinux_2_x86_64",
        "manylinux2014",
        "manylinux2020_x86_64",
        "musllinux_1",
        "linux_",
        "win_ia65",
        "ios_13_0_arm64",
        "ios_13_0_i386_iphoneos",
        "android_21_mips",
        "Linux_x86_64",
        "linux-x86_64",
        "x" * 101,
    ],
)
def test_what_is_no_platform_tag_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_platform(text)


@pytest.mark.parametrize(
    ("legacy", "minor"), [("manylinux1", 5), ("manylinux2010", 12), ("manylinux2014", 17)]
)
def test_a_legacy_manylinux_name_has_its_glibc(legacy: str, minor: int) -> None:
    platform = parse_platform(f"{legacy}_x86_64")
    assert (platform.major, platform.minor) == (2, minor)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "matchable"),
    [
        ("macosx_11_0_arm64", True),
        ("macosx_10_9_universal2", True),
        ("macosx_10_16_x86_64", True),
        ("macosx_15_0_x86_64", True),
        ("macosx_26_0_arm64", True),
        ("macosx_10_9_arm64", False),
        ("macosx_12_3_x86_64", False),
        ("macosx_16_0_arm64", False),
        ("macosx_10_17_x86_64", False),
    ],
)
def test_some_macos_tags_are_taken_by_no_installer(text: str, matchable: bool) -> None:
    platform = parse_platform(text)
    assert isinstance(platform, MacPlatform)
    assert platform.matchable is matchable


def test_matchable_tags_are_those_that_packaging_gives_on_a_new_mac() -> None:
    formats = ("arm64", "x86_64")
    taken = {text for arch in formats for text in pep425.mac_platforms((26, 0), arch)}
    versions = itertools.product(range(10, 27), range(17))
    platforms = [
        MacPlatform(major=major, minor=minor, format=mac_format)
        for (major, minor), mac_format in itertools.product(versions, MAC_FORMATS)
        if major not in range(16, 26) and mac_format in {"arm64", "x86_64", "universal2"}
    ]
    wrong = [
        str(platform)
        for platform in platforms
        if platform.matchable != (str(platform) in taken) and platform.version >= (10, 4)
    ]
    assert wrong == []


def test_the_arm64_slice_of_an_old_universal2_wheel_needs_macos_11() -> None:
    platform = MacPlatform(major=10, minor=9, format="universal2")
    assert platform.minimum_os("arm64") == (11, 0)
    assert platform.minimum_os("x86_64") == (10, 9)


@pytest.mark.parametrize(
    ("minimum", "arch", "version"),
    [
        ((11, 0), "arm64", (11, 0)),
        ((11, 0, 0), "x86_64", (11, 0)),
        ((11, 1), "arm64", (12, 0)),
        ((11, 0, 1), "arm64", (12, 0)),
        ((12, 7), "x86_64", (13, 0)),
        ((15, 0), "arm64", (15, 0)),
        ((15, 5), "arm64", (26, 0)),
        ((16, 0), "arm64", (26, 0)),
        ((26, 1), "arm64", (27, 0)),
        ((10, 9), "arm64", (11, 0)),
        ((10, 9), "x86_64", (10, 9)),
        ((10, 9, 1), "x86_64", (10, 10)),
        ((10, 16), "x86_64", (10, 16)),
        ((10, 16, 1), "x86_64", (12, 0)),
        ((10, 0), "x86_64", (10, 4)),
    ],
)
def test_a_minimum_os_is_rounded_up(
    minimum: tuple[int, ...], arch: str, version: tuple[int, int]
) -> None:
    assert round_up_macos(minimum, arch) == version


@given(
    st.tuples(st.integers(10, 40), st.integers(0, 20), st.integers(0, 9)),
    st.sampled_from(["arm64", "x86_64"]),
)
def test_rounding_is_never_down_and_always_matchable(
    minimum: tuple[int, int, int], arch: str
) -> None:
    version = round_up_macos(minimum, arch)
    assert (*version, 0) >= minimum
    assert MacPlatform(major=version[0], minor=version[1], format=arch).matchable


@pytest.mark.parametrize(
    ("minimums", "platforms"),
    [
        ({"arm64": (11, 0), "x86_64": (10, 9)}, {"macosx_10_9_universal2"}),
        ({"arm64": (12, 0), "x86_64": (12, 0)}, {"macosx_12_0_universal2"}),
        (
            {"arm64": (12, 1), "x86_64": (10, 13)},
            {"macosx_13_0_arm64", "macosx_10_13_x86_64"},
        ),
        ({"arm64": (11, 0), "x86_64": (12, 0)}, {"macosx_11_0_arm64", "macosx_12_0_x86_64"}),
        ({"arm64": (11, 0)}, {"macosx_11_0_arm64"}),
        ({}, set()),
    ],
)
def test_slices_get_the_exact_tags_that_they_support(
    minimums: dict[str, tuple[int, ...]], platforms: set[str]
) -> None:
    assert {str(platform) for platform in mac_platforms_for(minimums)} == platforms


def test_no_tag_stands_for_arm64e() -> None:
    with pytest.raises(MalformedError, match="arm64e"):
        mac_platforms_for({"arm64e": (11, 0), "x86_64": (11, 0)})


def test_compressed_text_is_sorted_and_reads_back() -> None:
    text = "cp311-cp311-macosx_11_0_x86_64.macosx_12_0_arm64"
    assert tag_set_text(parse_tag_set(text)) == text
    assert tag_set_text(parse_tag_set("py3.py2-none-any")) == "py2.py3-none-any"


def _several(*parts: str) -> st.SearchStrategy[set[str]]:
    return st.sets(st.sampled_from(parts), min_size=2)


@given(
    interpreters=_several("cp311", "cp312", "py3"),
    abis=_several("cp311", "abi3", "none"),
    platforms=_several("any", "win32", "linux_x86_64"),
)
def test_every_product_is_one_set_and_with_one_tag_less_it_is_none(
    interpreters: set[str], abis: set[str], platforms: set[str]
) -> None:
    tags = frozenset(itertools.starmap(Tag, itertools.product(interpreters, abis, platforms)))
    assert parse_tag_set(tag_set_text(tags)) == tags
    with pytest.raises(MalformedError, match="no one compressed"):
        tag_set_text(sorted(tags, key=str)[1:])


@pytest.mark.parametrize(
    "tags",
    [[], [Tag("cp311", "cp311", "win32"), Tag("cp312", "cp312", "win32")]],
)
def test_what_no_file_name_stands_for_is_an_error(tags: list[Tag]) -> None:
    with pytest.raises(MalformedError):
        tag_set_text(tags)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cp311",
        "cp311-cp311",
        "cp311-cp311-any-any",
        "cp311..cp312-none-any",
        "311-none-any",
        "cp311-cp311-linux x",
        ".".join(f"p{i}" for i in range(40)) + "-" + ".".join(f"a{i}" for i in range(40)) + "-any",
        "cp311-cp311-" + "a" * 3000,
    ],
)
def test_a_malformed_or_huge_tag_set_is_refused(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_tag_set(text)


def test_a_fingerprints_label_alone_gives_the_tags() -> None:
    tags = list(supported_tags(python_tag_of("cp313t"), "cp313t", "macosx_11_0_arm64"))
    assert tags[0] == Tag("cp313", "cp313t", "macosx_11_0_arm64")
    assert Tag("cp313", "none", "macosx_10_9_universal2") in tags
    assert Tag("cp313", "abi3", "macosx_11_0_arm64") not in tags
    assert Tag("cp313", "cp313t", "macosx_12_0_arm64") not in tags


def test_a_debug_build_also_loads_release_modules() -> None:
    tags = list(supported_tags("cp311", "cp311d", "manylinux_2_17_x86_64"))
    assert [tag.abi for tag in tags[:1]] == ["cp311d"]
    assert Tag("cp311", "cp311", "manylinux_2_17_x86_64") in tags


def test_pypy_takes_its_own_abi_and_generic_names() -> None:
    abi = "pypy311_pp73"
    tags = list(supported_tags(python_tag_of(abi), abi, "manylinux_2_17_x86_64"))
    assert tags[1] == Tag("pp311", "pypy311_pp73", "manylinux_2_17_x86_64")
    assert Tag("pp3", "none", "any") in tags
    assert not any(tag.abi == "abi3" for tag in tags)


def test_a_universal2_environment_takes_only_what_both_architectures_run() -> None:
    platforms = list(accepted_platforms(parse_platform("macosx_11_0_universal2")))
    assert platforms[0] == "macosx_11_0_universal2"
    assert all(platform.endswith("_universal2") for platform in platforms)


def test_a_32_bit_process_on_a_64_bit_arm_kernel_takes_armv7l() -> None:
    platforms = list(accepted_platforms(parse_platform("manylinux_2_31_armv8l")))
    assert "manylinux_2_17_armv7l" in platforms


def test_a_legacy_name_comes_right_after_its_pep_600_twin() -> None:
    platforms = list(accepted_platforms(parse_platform("manylinux_2_17_x86_64")))
    families = [platform.removesuffix("_x86_64") for platform in platforms]
    assert families[:4] == ["linux", "manylinux_2_17", "manylinux2014", "manylinux_2_16"]
    assert families[-1] == "manylinux1"


@pytest.mark.parametrize(
    "platform",
    [
        "any",
        "win_amd64",
        "linux_x86_64",
        "macosx_9999_0_arm64",
        "manylinux_2_9999_x86_64",
        "manylinux_3_0_x86_64",
        "musllinux_2_0_x86_64",
    ],
)
def test_a_platform_that_nothing_is_built_for_is_refused(platform: str) -> None:
    with pytest.raises(MalformedError, match="no target stands on"):
        list(supported_tags("cp311", "cp311", platform))


@pytest.mark.parametrize("tag", ["cp2", "py", "cp3999", "cp27", "311", "cp3١"])
def test_an_interpreter_that_is_none_is_refused(tag: str) -> None:
    with pytest.raises(MalformedError):
        list(supported_tags(tag, tag, "manylinux_2_17_x86_64"))


@pytest.mark.parametrize("abi", ["abi3", "none", "pypy_pp", "cp", "cp3-11"])
def test_a_stable_abi_names_no_interpreter(abi: str) -> None:
    with pytest.raises(MalformedError):
        python_tag_of(abi)
