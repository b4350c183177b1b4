"""What the farm is asked for during the chaos: tiny sdists, each with a version of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from store.target import Target
from tests.sdists import pack_project
from workers.plan import Call, WantedTarget
from workers.requirements import WantedFile

RECIPES: Final = '[recipes.naps]\nenv = { SECONDS = "2" }\n'
"""What the farm's settings say of them."""
UNSOUND: Final = frozenset({"raises", "exits"})
"""The projects that no worker can build."""

_MIX: Final = ("pure", "naps", "two-minded", "pure", "naps", "raises", "pure", "naps", "exits")


class Catalogue:
    """All that may be asked for, by number, as files in a folder of its own."""

    def __init__(self, folder: Path, target: Target) -> None:
        self._folder = folder
        self._target = WantedTarget(name="native", target=target)
        folder.mkdir()

    def call(self, numbers: list[int], submitter: str) -> Call:
        """The builds of those numbers, wanted by `submitter`."""
        wanted = tuple(WantedFile(path=self._sdist(number)) for number in numbers)
        return Call(wanted=wanted, targets=(self._target,), submitter=submitter)

    def _sdist(self, number: int) -> Path:
        return pack_project(_MIX[number % len(_MIX)], self._folder, version=f"1.{number}")
