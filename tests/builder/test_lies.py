"""Every kind in the table of lies: the wheel is made, and seen through."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from builder.checks.catalogue import TITLES
from builder.checks.context import Context
from builder.judge import judge
from builder.verify import retag_to
from tests.builder.forge import errors, names
from tests.builder.lies import LIES, Lie, full

_FAMILIES = {
    "architecture": 20, "minimum OS": 11, "linkage, macOS": 14, "Python": 12, "purity": 4,
    "ELF": 16, "Windows": 2, "archive, metadata": 21,
}  # fmt: skip


_MESSAGE_TELLS_ALL = {"archive-safety", "dist-info", "wheel-filename"}


def test_the_table_has_every_kind_once() -> None:
    assert len({str(lie) for lie in LIES}) == len(LIES)
    assert Counter(lie.family for lie in LIES) == _FAMILIES
    assert {lie.check for lie in LIES} <= TITLES.keys()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("lie", LIES, ids=str)
def test_the_lie_is_seen_through(lie: Lie, tmp_path: Path) -> None:
    path = lie.make(tmp_path)
    judgement = judge(path)
    assert judgement.verdict == lie.verdict
    found = [finding for finding in judgement.findings if finding.check == lie.check]
    told = [one for one in found if (one.member, one.slice) == (lie.member, lie.arch)]
    assert told
    assert told[0].evidence or lie.check in _MESSAGE_TELLS_ALL
    if lie.verdict == "reject":
        assert lie.check in errors(judgement)
    if lie.verdict == "accept":
        assert {finding.severity for finding in found} == {"warning"}
        assert names(judgement) == {full(lie.claim)}
    if lie.verdict == "retag":
        assert names(judgement) == lie.tags
        out = tmp_path / "out"
        out.mkdir()
        assert retag_to(path, judgement, out, Context()).verdict == "accept"
