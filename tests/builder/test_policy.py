"""A policy weighs findings: what rises, what is waived and why, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.checks.catalogue import NEVER_WAIVED, TITLES
from builder.errors import VerifyPolicyError
from builder.judge import judge
from builder.policy import Policy, parse_policy, policy_for, unused_waivers, weigh
from store.verdict import Finding, Judgement
from tests.builder.forge import MAC_SUFFIX, errors, mach, names, only, wheel

_UNIVERSAL = "p-1.0-cp311-cp311-macosx_11_0_universal2.whl"
_PURE = "p-1.0-py3-none-any.whl"
_M, _N = f"p/m{MAC_SUFFIX}", f"p/n{MAC_SUFFIX}"


def _policy(text: str) -> Policy:
    return parse_policy(text, TITLES, NEVER_WAIVED)


def _waiver(check: str, member: str = "*", wheel_glob: str = "*", reason: str = "known") -> str:
    return (
        f'[[waivers]]\ncheck = "{check}"\nmember = "{member}"\n'
        f'wheel = "{wheel_glob}"\nreason = "{reason}"\n'
    )


def _lie(folder: Path, *members: str) -> Path:
    """A universal2 wheel all of whose members are x86_64."""
    data = {m: mach("x86_64", exports=(f"PyInit_{m[2]}",)) for m in members}
    return wheel(folder, _UNIVERSAL, data)


def _judged(path: Path, text: str) -> Judgement:
    return judge(path, policy=_policy(text))


def test_a_waived_finding_is_a_note_with_its_reason_and_the_tag_stands(tmp_path: Path) -> None:
    path = _lie(tmp_path, _M)
    assert judge(path).verdict == "retag"
    judgement = _judged(path, _waiver("macho-architecture", _M, "p-*", "rosetta only"))
    assert (judgement.verdict, errors(judgement)) == ("accept", set())
    assert names(judgement) == {"cp311-cp311-macosx_11_0_universal2"}
    finding = only(judgement, "macho-architecture")
    assert finding.severity == "note"
    kept = {key: finding.evidence[key] for key in ("waived", "waiver", "severity")}
    assert kept == {"waived": "rosetta only", "waiver": 1, "severity": "error"}


@pytest.mark.parametrize(
    "waiver",
    [
        _waiver("minimum-os"),
        _waiver("macho-architecture", "q/*"),
        _waiver("macho-architecture", "*", "q-*"),
    ],
    ids=["check", "member", "wheel"],
)
def test_a_waiver_of_another_thing_changes_nothing(tmp_path: Path, waiver: str) -> None:
    path = _lie(tmp_path, _M)
    assert _judged(path, waiver) == judge(path)


def test_one_of_two_faults_waived_leaves_the_narrower_tag(tmp_path: Path) -> None:
    judgement = _judged(_lie(tmp_path, _M, _N), _waiver("macho-architecture", _M))
    assert (judgement.verdict, names(judgement)) == ("retag", {"cp311-cp311-macosx_11_0_x86_64"})


def test_a_waived_error_of_a_find_check_no_longer_rejects(tmp_path: Path) -> None:
    path = wheel(tmp_path, _PURE, {}, extra={"p/unlisted.py": b""})
    assert judge(path).verdict == "reject"
    assert _judged(path, _waiver("record", "p/unlisted.py")).verdict == "accept"


def test_a_raised_warning_rejects(tmp_path: Path) -> None:
    path = wheel(tmp_path, _PURE, {"p/a.py": b"", "p/A.py": b""})
    assert judge(path).verdict == "accept"
    judgement = _judged(path, '[severities]\npath-collision = "error"')
    assert (judgement.verdict, errors(judgement)) == ("reject", {"path-collision"})


def test_a_raised_finding_can_still_be_waived(tmp_path: Path) -> None:
    path = wheel(tmp_path, _PURE, {"p/a.py": b"", "p/A.py": b""})
    text = '[severities]\npath-collision = "error"\n' + _waiver("path-collision")
    assert _judged(path, text).verdict == "accept"


def test_a_severity_never_falls() -> None:
    policy = _policy('[severities]\nrecord = "warning"')
    severities = [
        weigh(policy, Finding(check="record", severity=given, message="m")).severity
        for given in ("note", "warning", "error")
    ]
    assert severities == ["warning", "warning", "error"]


def test_unused_waivers_are_named() -> None:
    policy = _policy(_waiver("record", "a") + _waiver("record", "b"))
    found = weigh(policy, Finding(check="record", severity="error", message="m", member="b"))
    assert [waiver.member for waiver in unused_waivers(policy, [found])] == ["a"]


def test_a_policy_is_cut_to_what_is_about_a_wheel() -> None:
    policy = _policy(_waiver("record", wheel_glob="a-*") + _waiver("record", wheel_glob="b-*"))
    assert [w.number for w in policy_for(policy, "b-1.0-py3-none-any.whl").waivers] == [2]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("[severities]", "empty"),
        ("waivers = []", "empty"),
        ("waivers = 3", "waivers"),
        ("severities = 3", "severities"),
        ("[severities]\nno-such-check = 'error'", r"severities\.no-such-check: .*no check"),
        ("[severities]\nrecord = 'note'", r"severities\.record: .*needs a waiver"),
        ("[severities]\nrecord = 1", "severities"),
        ("[rules]\nx = 1", "unknown key 'rules'"),
        ("not toml", "not TOML"),
        ("x = " + "[" * 5000, "not TOML"),
        (_waiver("nope"), r"waivers\[0\]: there is no check called nope"),
        (_waiver("record", reason=" "), r"waivers\[0\]: .*a reason"),
        (_waiver("record").replace('reason = "known"', ""), r"waivers\[0\]: .*a reason"),
        (_waiver("record").replace('member = "*"', ""), r"waivers\[0\]: .*the member"),
        (_waiver("record") + "extra = 1", r"waivers\[0\]: unknown key 'extra'"),
        (_waiver("archive-safety"), "never waived"),
        (_waiver("check-crashed"), "never waived"),
        ("waivers = [1]", r"waivers\[0\]: a table"),
    ],
)
def test_a_bad_policy_is_refused_with_its_place(text: str, said: str) -> None:
    with pytest.raises(VerifyPolicyError, match=said) as caught:
        _policy(text)
    assert caught.value.hint
    assert caught.value.exit_status == 2


def test_a_crash_is_not_waived_by_a_policy_made_by_hand(tmp_path: Path) -> None:
    path = tmp_path / _PURE
    path.write_bytes(b"no zip")
    assert _judged(path, _waiver("record")).verdict == "reject"
