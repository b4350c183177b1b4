"""What the farm is asked for during the chaos: tiny sdists, each order a build of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Final

from tests.sdists import pack_project
from tests.workers.yard import Yard
from workers.farm.farm import Farm
from workers.farm.work import Work

_EPOCH: Final = 1_600_000_000
_MIX: Final[tuple[tuple[str, dict[str, str]], ...]] = (
    ("pure", {}),
    ("naps", {"SECONDS": "1"}),
    ("two-minded", {}),
    ("pure", {}),
    ("naps", {"SECONDS": "2"}),
    ("raises", {}),
    ("pure", {}),
    ("naps", {"SECONDS": "1"}),
    ("two-minded", {}),
    ("exits", {}),
)
UNSOUND: Final = frozenset({"raises==1.0", "exits==1.0"})
"""The labels of those that no worker can build."""


class Catalogue:
    """All that may be asked for, by number; the sdists are in the store."""

    def __init__(self, yard: Yard, farm: Farm) -> None:
        folder = yard.folder / "packed"
        folder.mkdir()
        self._works = [self._work(yard, farm, folder, *each) for each in _MIX]

    def work(self, number: int) -> Work:
        """The work of that number, which has a BuildKey of its own."""
        work = self._works[number % len(self._works)]
        return dataclasses.replace(work, epoch=_EPOCH + 2 * number)

    def _work(
        self, yard: Yard, farm: Farm, folder: Path, project: str, env: dict[str, str]
    ) -> Work:
        sdist = pack_project(project, folder)
        farm.store.keep(sdist)
        return yard.orders(sdist, env=env)[0].work
