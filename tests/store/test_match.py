"""Matching: what satisfies what, which target is best, which is nearest, and why."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from store.environment import Environment, parse_environment
from store.match import NEAREST, NOT_MEASURED, Difference, diff, match, satisfies
from store.target import Target, identity_of, parse_baseline, target_from_identity


def at(target: Target, baseline: str) -> Target:
    return replace(target, baseline=parse_baseline(baseline))


def fields(differences: tuple[Difference, ...]) -> list[str]:
    return [difference.field for difference in differences]


def test_an_environment_satisfies_the_target_that_it_is(mac: Environment) -> None:
    assert satisfies(mac, mac.target()) == ()


def test_the_os_may_be_above_the_baseline_and_not_below(mac: Environment) -> None:
    assert satisfies(mac, at(mac.target(), "macosx_11_0")) == ()
    assert satisfies(mac, at(mac.target(), "macosx_10_15")) == ()
    (difference,) = satisfies(mac, at(mac.target(), "macosx_26_0"))
    assert str(difference) == "baseline: wanted macosx_26_0 or later, found macosx_15_0"


def test_another_kind_of_baseline_is_never_reached(mac: Environment) -> None:
    assert "baseline" in fields(satisfies(mac, at(mac.target(), "manylinux_2_5")))


def test_musl_does_not_satisfy_glibc(answer: dict[str, Any]) -> None:
    answer |= {
        "os": {"family": "linux", "version": "6"},
        "libc": {"family": "musl", "version": "1.2"},
    }
    musl = parse_environment(json.dumps(answer))
    glibc = at(musl.target(), "manylinux_2_17")
    assert fields(satisfies(musl, glibc)) == ["baseline", "libc"]


def test_every_other_field_must_be_equal(mac: Environment, exact: Target) -> None:
    own = identity_of(mac.target())
    others = {"arch": "x86_64", "python": "3.14", "isa": "armv8.2", "pointer_bytes": 4,
              "debug": True, "build.libpython_resolves": False,
              "build.config_sha256": "0" * 64}  # fmt: skip
    for name, value in others.items():
        target = target_from_identity(own | {name: value})
        (difference,) = satisfies(mac, target)
        assert (difference.field, difference.wanted, difference.found) == (name, value, own[name])


def test_a_portable_target_does_not_ask_for_the_interpreter_build(mac: Environment) -> None:
    assert satisfies(mac, replace(mac.target(), build=None)) == ()


def test_an_exact_target_asks_for_it(mac: Environment) -> None:
    moved = replace(mac.build, libpython_name="/install/lib/libpython3.13.dylib")
    assert fields(satisfies(mac, replace(mac.target(), build=moved))) == ["build.libpython_name"]


def test_the_best_target_is_exact_before_portable_then_the_highest_baseline(
    mac: Environment,
) -> None:
    own = mac.target()
    portable = replace(own, build=None)
    targets = [
        at(portable, "macosx_11_0"),
        at(own, "macosx_11_0"),
        at(own, "macosx_12_0"),
        at(own, "macosx_26_0"),
        portable,
    ]
    assert match(mac, targets).best == at(own, "macosx_12_0")
    assert match(mac, targets[:1] + targets[3:]).best == portable
    assert match(mac, reversed(targets)).best == at(own, "macosx_12_0")
    assert match(mac, targets).nearest == ()


def test_without_a_best_target_the_nearest_are_named(mac: Environment, exact: Target) -> None:
    own = mac.target()
    intel = replace(own, arch="x86_64")
    far = [at(own, "macosx_26_0"), intel, at(intel, "macosx_26_0"), exact]
    found = match(mac, far)
    assert found.best is None
    assert len(found.nearest) == NEAREST < len(far)
    assert [fields(miss.differences) for miss in found.nearest] == [
        ["baseline"],
        ["arch"],
        ["arch", "baseline"],
    ]
    assert match(mac, reversed(far)) == found


def test_an_empty_store_has_no_match(mac: Environment) -> None:
    assert match(mac, []) == match(mac, iter(()))
    assert match(mac, []).best is None


def test_a_difference_between_targets_names_both_sides(exact: Target) -> None:
    other = replace(exact, arch="aarch64", baseline=parse_baseline("manylinux_2_39"))
    assert diff(exact, exact) == ()
    arch, baseline = diff(exact, other)
    assert str(arch) == "arch: wanted x86_64, found aarch64"
    assert str(baseline) == "baseline: wanted manylinux_2_36, found manylinux_2_39"
    assert [(d.wanted, d.found) for d in diff(other, exact)] == [
        (d.found, d.wanted) for d in diff(exact, other)
    ]


def test_an_exact_and_a_portable_target_differ_in_every_field_of_the_build(
    exact: Target, portable: Target
) -> None:
    differences = diff(portable, exact)
    assert len(differences) == 5
    assert all(difference.field.startswith("build.") for difference in differences)
    assert {difference.wanted for difference in differences} == {NOT_MEASURED}


@pytest.mark.parametrize(
    ("wanted", "found", "sentence"),
    [
        (None, "x86-64-v2", "isa: wanted none, found x86-64-v2"),
        (True, False, "isa: wanted true, found false"),
    ],
)
def test_values_are_shown_as_json_would(
    wanted: str | bool, found: str | bool, sentence: str
) -> None:
    difference = Difference(field="isa", wanted=wanted, found=found)
    assert str(difference) == sentence
    assert difference.to_json()["message"] == sentence
