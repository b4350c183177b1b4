"""What a garbage collection has to keep, as the settings and the command line say it."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

from store.channel import Channel
from store.retention import Policy, Rule
from workers.errors import SettingsError
from workers.requirements import read_locked
from workers.settings import Settings


def policy_of(settings: Settings, locks: Sequence[Path], grace_hours: int | None) -> Policy:
    """The policy that is set, with further lock files and maybe another grace.

    Raises SettingsError for a pattern that no file has: a folder of locks that is not there must
    not become garbage. Raises RequirementsError for a lock that cannot be read.
    """
    rules = settings.retention
    hours = rules.grace_hours if grace_hours is None else grace_hours
    return Policy(
        rule=lambda channel: _rule(settings, channel),
        locked=read_locked([*_found(settings), *locks]),
        grace=timedelta(hours=hours),
        log_days=rules.log_days,
    )


def _rule(settings: Settings, channel: Channel) -> Rule:
    rules = settings.channel(channel)
    return Rule(versions=rules.keep_versions or None, days=rules.keep_days or None)


def _found(settings: Settings) -> Iterator[Path]:
    for number, pattern in enumerate(settings.retention.locks):
        found = glob.glob(str(settings.folder / pattern), recursive=True)  # noqa: PTH207
        if not found:
            raise SettingsError(
                f"no file is {pattern[:200]!r}", path=f"retention.locks[{number}]",
                hint="nothing was collected: what a lock holds on to must be known",
            )  # fmt: skip
        yield from (Path(each) for each in sorted(found))
