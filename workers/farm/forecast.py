"""What a submission would do, without doing it: what is there, what is built, what nobody can."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal

from workers.farm.answers import Forecast
from workers.farm.line import Order
from workers.farm.submissions import Item
from workers.farm.work import Queue, queue_of
from workers.outcome import Outcome, Status

WhyNobody = Callable[[Queue, Order], str | None]
"""Why no worker takes jobs of a queue, in a sentence; None when one does."""

_FATES: Final[dict[Status, Literal["hit", "skip", "fail"]]] = {"hit": "hit", "skipped": "skip"}


def cache_by_queue(why: WhyNobody) -> WhyNobody:
    """`why`, asked once for each queue: ten thousand items may wait for the same worker."""
    known: dict[Queue, str | None] = {}

    def cached(queue: Queue, order: Order) -> str | None:
        if queue not in known:
            known[queue] = why(queue, order)
        return known[queue]

    return cached


def forecasts(items: Iterable[Item], why_nobody: WhyNobody) -> Iterator[Forecast]:
    """The fate of each planned item."""
    for item in items:
        if isinstance(item.wanted, Outcome):
            yield _settled(item.wanted)
        else:
            yield _to_build(item.target, item.wanted, why_nobody)


def _settled(outcome: Outcome) -> Forecast:
    return Forecast(
        label=outcome.label,
        target=outcome.target,
        fingerprint=outcome.fingerprint,
        fate=_FATES.get(outcome.status, "fail"),
        why=outcome.filename or outcome.message,
        queue=None,
    )


def _to_build(target: str, order: Order, why_nobody: WhyNobody) -> Forecast:
    queue = queue_of(order.work.capability, order.memory_class)
    nobody = why_nobody(queue, order)
    return Forecast(
        label=order.work.label,
        target=target,
        fingerprint=order.work.fingerprint,
        fate="nobody" if nobody else "build",
        why=nobody,
        queue=queue,
    )
