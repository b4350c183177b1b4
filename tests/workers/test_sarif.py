"""The SARIF log has the structure of the standard (OASIS SARIF 2.1.0), section by section."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from builder.checks.catalogue import NEVER_WAIVED, TITLES
from builder.policy import parse_policy, unused_waivers
from tests.builder.forge import MAC_SUFFIX, mach, wheel
from workers.sarif import sarif_log
from workers.verification import Order, Outcome, verify_one

_M = f"p/m{MAC_SUFFIX}"
_POLICY = """
[[waivers]]
check = "macho-architecture"
member = "p/m*"
wheel = "*"
reason = "runs under Rosetta only"

[[waivers]]
check = "record"
member = "*"
wheel = "*"
reason = "not needed"
"""
# Object of the standard -> the properties that we write of it, those that it requires first.
_SHAPES = {
    "log": ({"version", "runs"}, {"$schema"}),
    "run": ({"tool"}, {"columnKind", "artifacts", "invocations", "results"}),
    "driver": ({"name"}, {"version", "rules"}),
    "rule": ({"id"}, {"shortDescription", "fullDescription", "help"}),
    "artifact": (set(), {"location", "properties", "hashes"}),
    "invocation": ({"executionSuccessful"}, {"toolConfigurationNotifications"}),
    "result": (
        {"message"},
        {"ruleId", "ruleIndex", "level", "locations", "partialFingerprints", "properties"}
        | {"suppressions"},
    ),
    "location": (set(), {"physicalLocation", "logicalLocations"}),
    "suppression": ({"kind"}, {"status", "justification"}),
}


def _has_shape(name: str, found: dict[str, Any]) -> None:
    required, optional = _SHAPES[name]
    assert required <= found.keys() <= required | optional, (name, found.keys())


@pytest.fixture
def log(tmp_path: Path) -> dict[str, Any]:
    lie = wheel(
        tmp_path, "p-1.0-cp311-cp311-macosx_11_0_universal2.whl", {_M: mach("x86_64")},
        extra={"p/\udcff.py".encode("utf-8", "replace").decode(): b""},
    )  # fmt: skip
    waived = tmp_path / "a b"
    waived.mkdir()
    other = wheel(waived, lie.name, {_M: mach("x86_64")})
    policy = parse_policy(_POLICY, TITLES, NEVER_WAIVED)
    order = Order(policy=policy)
    outcomes = [
        verify_one(Order(), lie),
        verify_one(order, other),
        verify_one(order, tmp_path / "not-there.whl"),
    ]
    findings = [finding for outcome in outcomes for finding in outcome.findings]
    unused = tuple(unused_waivers(policy, findings))
    found = json.loads(json.dumps(sarif_log(outcomes, unused)))
    assert isinstance(found, dict)
    return found


def test_each_object_has_its_shape(log: dict[str, Any]) -> None:
    _has_shape("log", log)
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    _has_shape("run", run)
    _has_shape("driver", run["tool"]["driver"])
    for kind, rows in (
        ("rule", run["tool"]["driver"]["rules"]),
        ("artifact", run["artifacts"]),
        ("invocation", run["invocations"]),
        ("result", run["results"]),
        ("location", [place for result in run["results"] for place in result["locations"]]),
        ("suppression", [s for result in run["results"] for s in result.get("suppressions", [])]),
    ):
        assert rows
        for row in rows:
            _has_shape(kind, row)


def test_each_code_is_a_rule_with_help(log: dict[str, Any]) -> None:
    rules = log["runs"][0]["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == list(TITLES)
    for rule in rules:
        assert rule["shortDescription"]["text"] == f"{TITLES[rule['id']]}."
        assert rule["fullDescription"]["text"]
        assert rule["help"]["markdown"].startswith(f"# {rule['id']}\n")
        assert not rule["help"]["text"].startswith("#")


def test_each_result_points_at_its_rule_and_artifact(log: dict[str, Any]) -> None:
    (run,) = log["runs"]
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in {"error", "warning", "note"}
        assert result["message"]["text"]
        (place,) = result["locations"]
        artifact = place["physicalLocation"]["artifactLocation"]
        assert run["artifacts"][artifact["index"]]["location"]["uri"] == artifact["uri"]
        assert place["physicalLocation"]["region"]["startLine"] == 1
    prints = [result["partialFingerprints"]["wheelfarmFinding/v1"] for result in run["results"]]
    assert all(re.fullmatch(r"[0-9a-f]{32}", text) for text in prints)


def test_places_are_uris_and_members(log: dict[str, Any], tmp_path: Path) -> None:
    (run,) = log["runs"]
    uris = [artifact["location"]["uri"] for artifact in run["artifacts"]]
    assert " " not in uris[1]
    assert unquote(uris[1].removeprefix("file://")).startswith(f"{tmp_path}/a b/")
    logical = run["results"][0]["locations"][0]["logicalLocations"]
    members = [
        place["fullyQualifiedName"]
        for result in run["results"]
        for place in result["locations"][0].get("logicalLocations", [])
    ]
    assert logical
    assert f"p-1.0-cp311-cp311-macosx_11_0_universal2.whl!{_M}[arm64]" in members


def test_a_waived_finding_is_a_suppressed_result(log: dict[str, Any]) -> None:
    (run,) = log["runs"]
    (result,) = [result for result in run["results"] if "suppressions" in result]
    assert result["level"] == "note"
    assert result["suppressions"] == [
        {"kind": "external", "status": "accepted", "justification": "runs under Rosetta only"}
    ]


def test_an_unused_waiver_is_a_notification(log: dict[str, Any]) -> None:
    (notice,) = log["runs"][0]["invocations"][0]["toolConfigurationNotifications"]
    assert notice["level"] == "warning"
    assert "waiver 2" in notice["message"]["text"]


def test_a_file_that_cannot_be_read_has_no_hash(log: dict[str, Any]) -> None:
    artifacts = log["runs"][0]["artifacts"]
    assert ["hashes" in artifact for artifact in artifacts] == [True, True, False]
    assert artifacts[2]["properties"]["verdict"] == "reject"


def test_a_relative_path_stays_relative() -> None:
    outcome = Outcome(path=Path("dist/x y.whl"), sha256=None, verdict="reject", findings=())
    log = json.loads(json.dumps(sarif_log([outcome])))
    assert log["runs"][0]["artifacts"][0]["location"]["uri"] == "dist/x%20y.whl"
