"""Environments: read strictly from what a probe prints, and the target that each one is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from store.environment import MAX_PROBE_JSON, Environment, parse_environment
from store.errors import MalformedError
from store.fingerprint import fingerprint_of


def test_a_measurement_of_a_mac_is_read(mac: Environment, answer: dict[str, Any]) -> None:
    assert mac.interpreter.abi_tag == "cp313t"
    assert mac.build.libpython == "framework"
    assert mac.target().platform == "macosx_15_0_arm64"
    assert fingerprint_of(mac.target()) == "cp313t-macosx_15_0_arm64-d86479b1581e"
    assert mac.to_json() == {name: answer[name] for name in ("os", "libc", "facts")}


@pytest.mark.parametrize(
    ("version", "baseline"),
    [
        ("15.5", "macosx_15_0"),
        ("26.1.1", "macosx_26_0"),
        ("11.0", "macosx_11_0"),
        ("13", "macosx_13_0"),
        ("10.15.7", "macosx_10_15"),
        ("10.9", "macosx_10_9"),
    ],
)
def test_from_macos_11_on_the_baseline_has_no_minor(
    answer: dict[str, Any], version: str, baseline: str
) -> None:
    answer["os"]["version"] = version
    assert str(parse_environment(json.dumps(answer)).baseline) == baseline


@pytest.mark.parametrize(
    ("libc", "version", "baseline"),
    [("glibc", "2.36", "manylinux_2_36"), ("musl", "1.2", "musllinux_1_2")],
)
def test_on_linux_the_baseline_is_that_of_the_libc(
    answer: dict[str, Any], libc: str, version: str, baseline: str
) -> None:
    answer |= {
        "os": {"family": "linux", "version": "6.1.0-13-amd64"},
        "libc": {"family": libc, "version": version},
    }
    assert str(parse_environment(json.dumps(answer)).target().baseline) == baseline


def test_facts_are_no_part_of_the_fingerprint(answer: dict[str, Any], mac: Environment) -> None:
    answer["facts"] |= {
        "binary": "/b",
        "executable": "/e",
        "full_version": "3.13.9",
        "libpython_path": None,
        "machine": "x86_64",
        "prefix": "/p",
        "translated": None,
        "warnings": ["one"],
    }
    changed = parse_environment(json.dumps(answer))
    assert changed != mac
    assert fingerprint_of(changed.target()) == fingerprint_of(mac.target())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("schema", 2),
        ("schema", "1"),
        ("arch", "x86-64"),
        ("arch", 5),
        ("isa", ""),
        ("interpreter", None),
        ("interpreter.implementation", "jython"),
        ("interpreter.version", "2.7"),
        ("interpreter.soabi", "../../etc"),
        ("interpreter.pointer_bytes", 8.0),
        ("interpreter.debug", "no"),
        ("build.libpython", "dynamic"),
        ("build.config_sha256", "xyz"),
        ("build.libpython_resolves", None),
        ("os.family", "windows"),
        ("os.version", "fifteen"),
        ("os.version", "15.5.1.2"),
        ("os.version", "9999"),
        ("libc.family", "glibc"),
        ("libc.version", "2.36"),
        ("facts.warnings", ["x\x1b[31m"]),
        ("facts.warnings", [1]),
        ("facts.warnings", ["x"] * 101),
        ("facts.warnings", "text"),
        ("facts.prefix", "\ud800"),
        ("facts.binary", "a" * 5000),
        ("facts.translated", 1),
        ("facts", []),
    ],
)
def test_a_wrong_value_is_refused_with_its_path(
    answer: dict[str, Any], path: str, value: object
) -> None:
    _put(answer, path, value)
    with pytest.raises(MalformedError) as caught:
        parse_environment(json.dumps(answer))
    assert path.startswith(caught.value.path.split(".")[0])


def test_every_field_is_needed_and_no_other_is_known(answer: dict[str, Any]) -> None:
    paths = list(_paths(answer))
    assert len(paths) > 20
    for path in paths:
        changed = json.loads(json.dumps(answer))
        _remove(changed, path)
        with pytest.raises(MalformedError, match="is missing"):
            parse_environment(json.dumps(changed))
    for group in ("", "interpreter.", "build.", "os.", "libc.", "facts."):
        changed = json.loads(json.dumps(answer))
        _put(changed, f"{group}more", 1)
        with pytest.raises(MalformedError, match="unknown fields: 'more'"):
            parse_environment(json.dumps(changed))


@pytest.mark.parametrize(
    "text",
    ["", "null", "[1]", "{", "[" * 30_000, '{"a":1,"a":1}', b"\xff", " " * (MAX_PROBE_JSON + 1)],
)
def test_what_is_no_measurement_is_refused(text: str | bytes) -> None:
    with pytest.raises(MalformedError):
        parse_environment(text)


def test_the_probes_own_error_is_passed_on() -> None:
    text = json.dumps({"schema": 1, "error": {"code": "unsupported", "message": "no sunos"}})
    with pytest.raises(MalformedError, match=r"could not measure \(unsupported\): no sunos"):
        parse_environment(text)


def test_another_schema_is_told_apart(answer: dict[str, Any]) -> None:
    answer["schema"] = 9
    with pytest.raises(MalformedError) as caught:
        parse_environment(json.dumps(answer))
    assert caught.value.path == "schema"
    assert "take the probe of the same version" in str(caught.value.hint)


def _put(answer: dict[str, Any], path: str, value: object) -> None:
    *groups, name = path.split(".")
    for group in groups:
        answer = answer[group]
    answer[name] = value


def _remove(answer: dict[str, Any], path: str) -> None:
    *groups, name = path.split(".")
    for group in groups:
        answer = answer[group]
    del answer[name]


def _paths(answer: Mapping[str, Any], prefix: str = "") -> list[str]:
    found = [f"{prefix}{name}" for name in answer]
    for name, value in answer.items():
        if isinstance(value, dict):
            found += _paths(value, f"{prefix}{name}.")
    return found
