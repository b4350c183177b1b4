"""What a User-Agent says, held against a fingerprint."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.fingerprint import Fingerprint
from store.user_agent import mismatches

LINUX = Fingerprint("cp311-manylinux_2_36_x86_64-0123456789ab")
MAC = Fingerprint("cp313t-macosx_11_0_arm64-0123456789ab")


def _agent(**facts: object) -> str:
    return "pip/25.0 " + json.dumps(facts)


def test_a_client_of_the_right_kind_has_no_mismatch() -> None:
    agent = _agent(
        python="3.11.7",
        implementation={"name": "CPython", "version": "3.11.7"},
        cpu="x86_64",
        system={"name": "Linux", "release": "6.1"},
    )
    assert mismatches(agent, LINUX) == []
    mac = _agent(python="3.13.1", cpu="arm64", system={"name": "Darwin"})
    assert mismatches(mac, MAC) == []


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"python": "3.12.1"}, "python: wanted 3.11, found 3.12"),
        ({"cpu": "aarch64"}, "machine: wanted x86_64, found aarch64"),
        ({"cpu": "arm64"}, "machine: wanted x86_64, found aarch64"),
        ({"system": {"name": "Darwin"}}, "system: wanted linux, found darwin"),
        ({"implementation": {"name": "PyPy"}}, "implementation: wanted cpython, found pypy"),
    ],
)
def test_each_difference_is_named(facts: dict[str, object], said: str) -> None:
    assert mismatches(_agent(**facts), LINUX) == [said]


def test_both_slices_of_a_universal_target_are_right() -> None:
    both = Fingerprint("cp311-macosx_11_0_universal2-0123456789ab")
    assert mismatches(_agent(cpu="arm64"), both) == []
    assert mismatches(_agent(cpu="x86_64"), both) == []
    assert mismatches(_agent(cpu="ppc"), both) != []


@pytest.mark.parametrize(
    "agent",
    ["", "curl/8", "pip/25 {", "pip/25 []", 'pip/25 {"python": 3}', 'pip/25 {"system": "Linux"}',
     'pip/25 {"a": ' + "[" * 3000, _agent(python="9" * 5000), _agent(cpu="x\r\nSet-Cookie: a=b")],
)  # fmt: skip
def test_what_says_nothing_sound_is_no_mismatch(agent: str) -> None:
    assert mismatches(agent, LINUX) == []


@given(st.text(max_size=50), st.text(max_size=50))
def test_what_is_said_is_short_printable_ascii(python: str, cpu: str) -> None:
    for line in mismatches(_agent(python=python, cpu=cpu), LINUX):
        assert line.isascii()
        assert line.isprintable()
        assert len(line) < 120
