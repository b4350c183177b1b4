"""A planner as a process, so that it may be killed: it turns submissions into jobs.

    python -m tests.chaos.planner FARM.TOML

The works of a submission are in its call; they are added a few at a time.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from pathlib import Path
from typing import Final

from store.errors import StoreError
from workers.cli.broker import celery_app, pokes
from workers.farm.farm import Farm, open_farm
from workers.farm.line import Order
from workers.farm.submissions import Item, SubmissionRow
from workers.farm.work import work_from_json
from workers.settings import load_settings

_ME: Final = f"planner-{os.getpid()}"
_AT_ONCE: Final = 4
_PAUSE: Final = 0.1


def main() -> None:
    """Plan for ever; what the database refuses is tried again."""
    settings = load_settings(file=Path(sys.argv[1]))
    with pokes(celery_app(settings)) as poker:
        while True:
            try:
                with open_farm(settings, poker) as farm:
                    _plan_all(farm)
            except StoreError:
                time.sleep(_PAUSE)


def _plan_all(farm: Farm) -> None:
    while True:
        found = farm.submissions.claim_planning(_ME)
        if found is not None:
            _plan(farm, found)
        time.sleep(_PAUSE)


def _plan(farm: Farm, submission: SubmissionRow) -> None:
    works = map(work_from_json, submission.call["works"])
    place = 0
    while some := list(itertools.islice(works, _AT_ONCE)):
        orders = [Order(work=work, submitter=submission.submitter) for work in some]
        farm.submissions.add(
            submission.id, place, [Item(target="native", wanted=order) for order in orders]
        )
        place += len(some)
        time.sleep(_PAUSE)
    farm.submissions.planned(submission.id)


if __name__ == "__main__":
    main()
