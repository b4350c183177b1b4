"""The tags that hold are exactly the maximum: held against an oracle that tries all of them.

The oracle knows nothing of our code. It asks `packaging` which tags each environment of a small
world takes, and a made wheel's own description which of these environments it works in. A tag set
is sound when the wheel works wherever it is taken and was promised; no sound set that one file name
can say may serve more environments than the one that the verdict gives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from packaging import tags as pep425

from builder.checks.context import Context
from builder.judge import judge
from builder.retag import build_of, write_retagged
from builder.verify import retag_to
from builder.wheel import open_wheel
from tests.builder.forge import fat, mach, names, wheel

# --- macOS: who takes which tag ----------------------------------------------------------------

Environment = tuple[str, str, tuple[int, int]]
"""ABI (``cp311``, ``cp313t``), architecture and version of macOS."""

ABIS = ("cp310", "cp311", "cp312", "cp313", "cp313t")
RELEASES = (
    (10, 9), (10, 12), (10, 13), (10, 15), (11, 0), (11, 3), (12, 0), (12, 6), (13, 0), (14, 0),
    (15, 0), (15, 5), (26, 0),
)  # fmt: skip
WORLD: tuple[Environment, ...] = tuple(
    (abi, arch, release)
    for abi in ABIS
    for arch in ("x86_64", "arm64")
    for release in RELEASES
    if arch == "x86_64" or release >= (11, 0)
)
PYTHON_PARTS = (
    *((abi.removesuffix("t"), abi) for abi in ABIS),
    *((abi, "abi3") for abi in ABIS[:4]),
    *((abi, "none") for abi in ABIS[:4]),
    ("py3", "none"),
)
PLATFORMS = (
    *(f"macosx_{major}_{minor}_{form}" for major, minor in RELEASES if minor == 0 or major == 10
      for form in ("x86_64", "universal2")),
    *(f"macosx_{major}_0_arm64" for major in (11, 12, 13, 14, 15, 26)),
)  # fmt: skip


@cache
def accepted(environment: Environment) -> frozenset[str]:
    """Every tag that an installer takes there, by packaging."""
    abi, arch, release = environment
    version = (3, int(abi.removesuffix("t")[3:]))
    platforms = list(pep425.mac_platforms(release, arch))
    ours = pep425.cpython_tags(version, [abi], platforms)
    generic = pep425.compatible_tags(version, f"cp3{version[1]}", platforms)
    return frozenset(map(str, [*ours, *generic]))


@cache
def takes(tag: str) -> frozenset[Environment]:
    """The environments whose installer takes `tag`."""
    return frozenset(one for one in WORLD if tag in accepted(one))


@cache
def promised(tag: str) -> frozenset[Environment]:
    """What `tag` says, also where no installer reads it: ``macosx_12_3_x86_64`` is from 12.3 on."""
    python, abi, platform = tag.split("-")
    found = re.fullmatch(r"macosx_(\d+)_(\d+)_(\w+)", platform)
    assert found is not None
    release = int(found[1]), int(found[2])
    archs = {"universal2": {"x86_64", "arm64"}, "intel": {"x86_64"}}.get(found[3], {found[3]})
    readable = f"{python}-{abi}-macosx_26_0_{'universal2' if len(archs) > 1 else min(archs)}"
    pythons = {one[0] for one in takes(readable)}
    said = {e for e in WORLD if e[0] in pythons and e[1] in archs and e[2] >= release}
    return takes(tag) | (said if not takes(tag) else set())


# --- wheels as descriptions --------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One architecture of a member: its minimum OS, and whether its entry point is there."""

    minimum: str
    whole: bool = True

    @property
    def release(self) -> tuple[int, int]:
        """The minimum OS as numbers."""
        major, minor = self.minimum.split(".")
        return int(major), int(minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A member: the module `name` for interpreters with `suffix`, or a library without suffix."""

    name: str
    suffix: str | None
    slices: Mapping[str, Slice]

    @property
    def path(self) -> str:
        """Where it lies in the wheel."""
        return f"p/{self.name}{self.suffix}" if self.suffix else f"p/.dylibs/{self.name}.dylib"

    def data(self) -> bytes:
        """Real linker output."""
        entry = f"PyInit_{self.name}" if self.suffix else "helper"
        thin = [
            mach(arch, one.minimum, (entry if one.whole else "nothing",))
            for arch, one in self.slices.items()
        ]
        return thin[0] if len(thin) == 1 else fat(*thin)


def works(parts: tuple[Part, ...], environment: Environment) -> bool:
    """Whether every member loads there, and every module has a file that is imported there."""
    abi, arch, release = environment
    loads = all(
        arch in part.slices and part.slices[arch].whole and part.slices[arch].release <= release
        for part in parts
    )
    modules = {part.name for part in parts if part.suffix}
    imported = {part.name for part in parts if part.suffix in _imported_by(abi)}
    return loads and modules <= imported


def _imported_by(abi: str) -> set[str]:
    """CPython's suffixes: a free-threaded build leaves out ``.abi3.so``."""
    own = f".cpython-{abi[2:]}-darwin.so"
    return {own} if abi.endswith("t") else {own, ".abi3.so"}


# --- the oracle --------------------------------------------------------------------------------


def largest_sets(sound: frozenset[str]) -> Iterator[frozenset[Environment]]:
    """What every tag set serves that one file name can say and that has sound tags only."""
    parts = [tag.split("-", 2) for tag in sound]
    pythons, abis = sorted({p[0] for p in parts}), sorted({p[1] for p in parts})
    platforms = sorted({p[2] for p in parts})
    for some, others in product(_subsets(pythons), _subsets(abis)):
        pairs = list(product(some, others))
        common = [p for p in platforms if all(f"{i}-{a}-{p}" in sound for i, a in pairs)]
        yield frozenset().union(*(takes(f"{i}-{a}-{p}") for i, a in pairs for p in common))


def _subsets(items: list[str]) -> Iterator[tuple[str, ...]]:
    return (some for size in range(1, len(items) + 1) for some in combinations(items, size))


def hold_against_oracle(parts: tuple[Part, ...], claimed: set[str], given_tags: set[str]) -> None:
    """Fail when a tag is false or wider than the claim, or when a larger sound set exists.

    A claim that is true nowhere may be put right: such a set must only be sound.
    """
    working = frozenset(one for one in WORLD if works(parts, one))
    said = frozenset().union(*map(promised, claimed))
    allowed = working & said or working
    for tag in given_tags:
        assert takes(tag) <= allowed, f"{tag} is taken where it is false or was not claimed"
    universe = ("-".join((*python, platform)) for python in PYTHON_PARTS for platform in PLATFORMS)
    everything = {*universe, *claimed} if working & said else set()
    sound = frozenset(tag for tag in everything if takes(tag) and takes(tag) <= allowed)
    served = frozenset().union(*map(takes, given_tags))
    larger = [more for more in largest_sets(sound) if more > served]
    assert not larger, f"{sorted(max(larger, key=len) - served)[:5]} could be served too"


# --- made wheels -------------------------------------------------------------------------------

_X86 = st.sampled_from(["10.9", "10.13", "11.0", "12.6", "14.0"])
_ARM = st.sampled_from(["11.0", "12.0", "12.6", "15.5"])
_SLICES = st.one_of(
    st.fixed_dictionaries({"x86_64": st.builds(Slice, minimum=_X86)}),
    st.fixed_dictionaries({"arm64": st.builds(Slice, minimum=_ARM)}),
    st.fixed_dictionaries(
        {
            "x86_64": st.builds(Slice, minimum=_X86),
            "arm64": st.builds(Slice, minimum=_ARM, whole=st.sampled_from([True, True, False])),
        }
    ),
)
_SUFFIXES = st.sampled_from(
    [".cpython-311-darwin.so", ".cpython-312-darwin.so", ".cpython-313t-darwin.so", ".abi3.so"]
)
_MODULES = st.lists(
    st.builds(Part, name=st.sampled_from(["a", "b"]), suffix=_SUFFIXES, slices=_SLICES),
    min_size=1,
    max_size=3,
    unique_by=lambda part: part.path,
)
_LIBRARIES = st.lists(
    st.builds(
        Part,
        name=st.just("libdep"),
        suffix=st.none(),
        slices=_SLICES.map(
            lambda held: {arch: Slice(minimum=one.minimum) for arch, one in held.items()}
        ),
    ),
    max_size=1,
)
_PYTHONS = st.sampled_from(
    [
        "cp311-cp311", "cp312-cp312", "cp311.cp312-cp311", "cp310-abi3", "cp312-abi3",
        "cp313-cp313t", "cp313-cp313", "cp311-none", "cp313-none", "py3-none",
    ]
)  # fmt: skip
_MACS = st.sampled_from(
    [
        "macosx_10_9_universal2", "macosx_11_0_universal2", "macosx_10_9_x86_64",
        "macosx_11_0_arm64", "macosx_12_0_arm64", "macosx_12_3_universal2", "macosx_10_9_intel",
        "macosx_10_13_x86_64.macosx_11_0_arm64", "macosx_10_9_arm64",
        "macosx_10_9_x86_64.macosx_11_0_arm64.macosx_10_9_universal2",
    ]
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(modules=_MODULES, libraries=_LIBRARIES, python=_PYTHONS, mac=_MACS)
def test_the_tags_of_a_macos_wheel_are_the_largest_that_are_true(
    tmp_path: Path, modules: list[Part], libraries: list[Part], python: str, mac: str
) -> None:
    parts = (*modules, *libraries)
    assume(not _says_too_little(parts, python))
    members = {part.path: part.data() for part in parts}
    path = wheel(tmp_path, f"p-1.0-{python}-{mac}.whl", members)
    judgement = judge(path)
    claimed = set(map(str, open_wheel(path).claimed))
    hold_against_oracle(parts, claimed, names(judgement))
    assert (judgement.verdict == "accept") == (names(judgement) == claimed)
    if judgement.verdict == "retag":
        _hold_against_itself(path, names(judgement), tmp_path)


def _says_too_little(parts: tuple[Part, ...], python: str) -> bool:
    """``py3-none`` over ``.abi3.so``: no byte says which Python is the first that it is for."""
    return python.endswith("-none") and any(part.suffix == ".abi3.so" for part in parts)


def _hold_against_itself(path: Path, tags: set[str], folder: Path) -> None:
    """What is written afresh is accepted under the same tags, and written again is the same."""
    out = folder / "out"
    out.mkdir(exist_ok=True)
    again = retag_to(path, judge(path), out, Context())
    assert (again.verdict, names(again)) == ("accept", tags)
    written = out / again.filename
    before = written.read_bytes()
    fresh = open_wheel(written)
    assert write_retagged(fresh, again.tags, out, build_of(fresh)) == written
    assert written.read_bytes() == before
