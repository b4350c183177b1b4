"""Fingerprints: frozen ones, one test for each field, and reading them back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.tags import Tag

from store import probe
from store.digest import JSON, Sha256, canonical_json, digest_of
from store.errors import MalformedError
from store.fingerprint import (
    SCHEMA,
    Fingerprint,
    canonical_identity,
    fingerprint_of,
    identity_digest,
    parse_fingerprint,
    read_canonical_identity,
    supported_tags_of,
)
from store.target import (
    Baseline,
    Interpreter,
    InterpreterBuild,
    Target,
    identity_of,
    target_from_identity,
)

GOLDEN: dict[str, Any] = json.loads(
    (Path(__file__).parent.parent / "golden" / "fingerprints.json").read_text()
)
DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "fingerprint.md"

EXACT = identity_of(target_from_identity(GOLDEN["linux, shared libpython"]["identity"]))
PORTABLE = identity_of(target_from_identity(GOLDEN["linux, portable"]["identity"]))

# Each identity field -> the fields to write instead. What cannot change alone changes with the
# fields that it must agree with: the libc is named by the baseline's kind.
CHANGES: dict[str, dict[str, JSON]] = {
    "arch": {"arch": "aarch64"},
    "baseline": {"baseline": "manylinux_2_17"},
    "build.config_sha256": {"build.config_sha256": "0" * 64},
    "build.details_sha256": {"build.details_sha256": "1" * 64},
    "build.libpython": {"build.libpython": "static"},
    "build.libpython_name": {"build.libpython_name": "libpython3.11.so"},
    "build.libpython_resolves": {"build.libpython_resolves": False},
    "debug": {"debug": True},
    "ext_suffix": {"ext_suffix": ".cpython-311-x86_64-linux-musl.so"},
    "free_threaded": {"free_threaded": True},
    "implementation": {"implementation": "pypy", "soabi": "pypy311-pp73"},
    "isa": {"isa": "x86-64-v2"},
    "libc": {"libc": "musl", "baseline": "musllinux_1_2"},
    "os": {"os": "macos", "libc": "libsystem", "baseline": "macosx_11_0"},
    "pointer_bytes": {"pointer_bytes": 4},
    "python": {"python": "3.12"},
    "soabi": {"soabi": "cpython-311-x86_64-linux-gnux32"},
}


@pytest.mark.parametrize("name", GOLDEN)
def test_a_known_target_keeps_its_fingerprint(name: str) -> None:
    known = GOLDEN[name]
    target = target_from_identity(known["identity"])
    assert identity_of(target) == known["identity"]
    assert identity_digest(target) == known["digest"]
    assert fingerprint_of(target) == known["fingerprint"]


def test_the_frozen_targets_are_all_different() -> None:
    assert len({known["fingerprint"] for known in GOLDEN.values()}) == len(GOLDEN) >= 12


@pytest.mark.parametrize("field", sorted(EXACT))
def test_a_change_of_a_field_changes_the_fingerprint(field: str) -> None:
    changed = EXACT | CHANGES[field]
    assert changed[field] != EXACT[field]
    before, after = target_from_identity(EXACT), target_from_identity(changed)
    assert fingerprint_of(after)[-12:] != fingerprint_of(before)[-12:]
    # The digest is taken of this field too, not just of those that had to change with it.
    without = {name: value for name, value in EXACT.items() if name != field}
    assert digest_of({"schema": SCHEMA, "identity": without}) != identity_digest(before)


def test_no_change_is_left_over() -> None:
    assert CHANGES.keys() == EXACT.keys()


def test_the_schema_version_is_part_of_the_fingerprint(exact: Target) -> None:
    canonical = canonical_identity(exact)
    assert identity_digest(exact) == digest_of(canonical)
    assert digest_of(canonical | {"schema": SCHEMA + 1}) != identity_digest(exact)


def test_every_field_of_the_records_is_an_identity_field() -> None:
    fields = {*Target.__slots__, *Interpreter.__slots__, *InterpreterBuild.__slots__}
    fields -= {"interpreter", "build"}  # Records of fields of their own.
    names = {name.removeprefix("build.") for name in EXACT} | {"version", "build_details_sha256"}
    assert fields <= names


def test_a_portable_target_has_no_interpreter_build(exact: Target, portable: Target) -> None:
    assert {name for name in EXACT if name not in PORTABLE} == {
        name for name in EXACT if name.startswith("build.")
    }
    assert fingerprint_of(exact) != fingerprint_of(portable)


def test_the_label_is_the_abi_and_the_platform(exact: Target) -> None:
    assert fingerprint_of(exact).startswith("cp311-manylinux_2_36_x86_64-")


@pytest.mark.parametrize("name", GOLDEN)
def test_a_fingerprint_alone_gives_the_tags_of_its_target(name: str) -> None:
    known = GOLDEN[name]
    fingerprint = parse_fingerprint(known["fingerprint"])
    target = target_from_identity(known["identity"])
    assert list(supported_tags_of(fingerprint)) == list(target.supported_tags())


def test_the_tags_of_a_free_threaded_mac() -> None:
    tags = list(supported_tags_of(Fingerprint("cp313t-macosx_11_0_arm64-7f3c9a12be04")))
    assert tags[0] == Tag("cp313", "cp313t", "macosx_11_0_arm64")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "cp311",
        "cp311-linux_x86_64",
        "cp311-macosx_11_0_arm64-7F3C9A12BE04",
        "cp311-macosx_11_0_arm64-7f3c9a12be0",
        "../etc-passwd-7f3c9a12be04",
        "cp311-macosx_11_0_arm64-7f3c9a12be04\n",
        "cp311-" + "a" * 300 + "-7f3c9a12be04",
    ],
)
def test_what_is_no_fingerprint_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="not a fingerprint"):
        parse_fingerprint(text)


def test_a_fingerprint_of_no_target_has_no_tags() -> None:
    for text in ("abi3-macosx_11_0_arm64-7f3c9a12be04", "cp311-any-7f3c9a12be04"):
        with pytest.raises(MalformedError):
            list(supported_tags_of(parse_fingerprint(text)))


# ---- reading back -------------------------------------------------------------------------

digests = st.text("0123456789abcdef", min_size=64, max_size=64).map(Sha256)
minors = st.integers(8, 20)
baselines = st.one_of(
    st.builds(Baseline, kind=st.just("macosx"), major=st.integers(11, 30), minor=st.just(0)),
    st.builds(Baseline, kind=st.just("macosx"), major=st.just(10), minor=st.integers(4, 16)),
    st.builds(Baseline, kind=st.just("manylinux"), major=st.just(2), minor=st.integers(5, 60)),
    st.builds(Baseline, kind=st.just("musllinux"), major=st.just(1), minor=st.integers(0, 9)),
)
builds = st.builds(
    InterpreterBuild,
    libpython=st.sampled_from(["static", "shared", "framework"]),
    libpython_name=st.none() | st.text("abc/@.é ", max_size=30),
    libpython_resolves=st.booleans(),
    config_sha256=digests,
    build_details_sha256=st.none() | digests,
)
interpreters = st.builds(
    Interpreter,
    implementation=st.just("cpython"),
    version=minors.map("3.{}".format) | minors.map("3.{}.0rc1".format),
    soabi=st.sampled_from(["cpython-311-darwin", "cpython-313td-x86_64-linux-gnu"]),
    ext_suffix=st.sampled_from([".cpython-311-darwin.so", ".so", ".abi3t.so"][:2]),
    debug=st.booleans(),
    free_threaded=st.booleans(),
    pointer_bytes=st.sampled_from([4, 8]),
)
targets = st.builds(
    Target,
    interpreter=interpreters,
    build=st.none() | builds,
    arch=st.sampled_from(["x86_64", "arm64", "aarch64", "universal2"]),
    baseline=baselines,
    isa=st.none() | st.sampled_from(["x86-64-v2", "armv7"]),
)


@given(targets)
def test_a_target_is_read_back_from_its_identity(target: Target) -> None:
    assert target_from_identity(identity_of(target)) == target
    text = canonical_json(canonical_identity(target))
    assert read_canonical_identity(text) == target
    assert parse_fingerprint(fingerprint_of(target)) == fingerprint_of(target)


@given(targets, targets)
def test_two_targets_share_a_fingerprint_only_when_they_are_equal(a: Target, b: Target) -> None:
    assert (fingerprint_of(a) == fingerprint_of(b)) == (a == b)


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"arch": "../x"}, "arch"),
        ({"arch": "x86-64"}, "arch"),
        ({"arch": None}, "arch"),
        ({"baseline": "macosx_11_0"}, "os"),
        ({"baseline": "manylinux_02_36"}, "baseline"),
        ({"baseline": "windows_11_0"}, "baseline"),
        ({"libc": "musl"}, "libc"),
        ({"debug": 0}, "debug"),
        ({"pointer_bytes": True}, "pointer_bytes"),
        ({"pointer_bytes": 16}, "pointer_bytes"),
        ({"python": "3"}, "python"),
        ({"python": "3.11.7"}, "python"),
        ({"python": "3.١١"}, "python"),
        ({"implementation": "graalpy"}, "implementation"),
        ({"isa": "x 86"}, "isa"),
        ({"ext_suffix": "/tmp/x.so"}, "ext_suffix"),
        ({"build.config_sha256": "0"}, "build.config_sha256"),
        ({"build.libpython": "loose"}, "build.libpython"),
        ({"build.libpython_name": "a\nb"}, "build.libpython_name"),
        ({"build.libpython_name": "a" * 5000}, "build.libpython_name"),
        ({"more": 1}, "more"),
    ],
)
def test_a_wrong_identity_is_refused_with_its_path(changes: dict[str, JSON], path: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(path)):
        target_from_identity(EXACT | changes)


@pytest.mark.parametrize("field", sorted(EXACT))
def test_a_missing_field_is_refused_with_its_path(field: str) -> None:
    rest = {name: value for name, value in EXACT.items() if name != field}
    with pytest.raises(MalformedError) as caught:
        target_from_identity(rest)
    assert caught.value.path == field


def test_a_soabi_that_gives_no_abi_tag_is_refused() -> None:
    with pytest.raises(MalformedError, match="ABI"):
        target_from_identity(EXACT | {"implementation": "pypy", "soabi": "pypy-x"})
    with pytest.raises(MalformedError, match="no SOABI of pp312"):
        target_from_identity(
            EXACT | {"implementation": "pypy", "soabi": "pypy311-pp73", "python": "3.12"}
        )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{",
        '{"schema":1}',
        '{"schema":2,"identity":{}}',
        '{"schema":1.0,"identity":{}}',
        '{"schema":NaN}',
        '{"schema":1,"schema":1}',
        '{"schema":1,"identity":[]}',
        "[" * 20_000,
        '{"schema":' + "9" * 10_000 + "}",
        b"\xff\xfe\xfd",
        " " * 70_000,
    ],
)
def test_what_is_no_canonical_identity_is_refused(text: str | bytes) -> None:
    with pytest.raises(MalformedError):
        read_canonical_identity(text)


# ---- the document -------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["schema", *sorted(EXACT)])
def test_every_field_is_documented_as_part_of_the_fingerprint(field: str) -> None:
    rows = [row for row in DOCUMENT.read_text().splitlines() if row.startswith(f"| `{field}` |")]
    assert len(rows) == 1
    assert "Part of the fingerprint" in rows[0]


def test_nothing_else_is_documented_as_part_of_the_fingerprint() -> None:
    text = DOCUMENT.read_text()
    rows = re.findall(r"^\| `(\S+)` \|.*Part of the fingerprint", text, re.MULTILINE)
    assert set(rows) == {"schema", *EXACT}


def test_the_documented_sysconfig_variables_are_those_of_the_probe() -> None:
    text = DOCUMENT.read_text()
    listed = re.search(r"<!-- variables -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert listed is not None
    assert re.findall(r"`(\w+)`", listed[1]) == list(probe.CONFIG_VARIABLES)


def test_every_field_that_the_probe_prints_is_documented(answer: dict[str, Any]) -> None:
    text = DOCUMENT.read_text()
    for group in ("interpreter", "build", "os", "libc", "facts"):
        for name in answer[group]:
            assert f"`{group}.{name}`" in text
    for name in answer.keys() - {"interpreter", "build", "os", "libc", "facts"}:
        assert f"`{name}`" in text
