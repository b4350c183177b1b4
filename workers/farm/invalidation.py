"""Yanks and disownings as they are asked for and answered, in the words of the farm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from store.errors import MalformedError
from store.invalidate import Invalidation, Verb
from store.invalidate import Lifted as LiftedByStore
from store.invalidate import Order as OrderInStore
from store.publish import Store
from store.radius import Radius as RadiusInStore
from store.radius import Struck as StruckInStore
from workers.farm import answers
from workers.farm.calls import SaidStrike, SaidUndo
from workers.farm.cleaning import cleaning

_MOST_LISTED: Final = 10_000


def strike(store: Store, verb: Verb, call: SaidStrike) -> answers.Strike:
    """What the order reached, or would. Raises MalformedError."""
    selection = call.selection.selection()
    deep = verb == "disown" if call.deep is None else call.deep
    orders = Invalidation(store.database)
    if call.dry_run:
        return answers.Strike(order=None, radius=_radius(orders.look(selection, deep=deep)))
    if call.reason is None:
        raise MalformedError("is missing", path="reason", hint="say why: it is shown to everyone")
    order = orders.yank if verb == "yank" else orders.disown
    given, found = order(selection, reason=call.reason, by=call.by, deep=deep)
    return answers.Strike(order=_order(given) if given else None, radius=_radius(found))


def undo(store: Store, verb: Verb, call: SaidUndo) -> answers.Lifted:
    """What came back. Raises MalformedError, NotFoundError."""
    if (call.order is None) == (call.selection is None):
        raise MalformedError("give the number of an order, or a selection", path="order")
    which = call.order if call.selection is None else call.selection.selection()
    assert which is not None
    return _lifted(Invalidation(store.database).undo(verb, which, by=call.by))


def orders(store: Store) -> answers.Orders:
    """The newest orders."""
    return answers.Orders(orders=[_order(each) for each in Invalidation(store.database).orders()])


def _radius(found: RadiusInStore) -> answers.Radius:
    lists = ("selected", "made_with", "widened", "same_bytes", "served")
    return answers.Radius(
        totals={name: len(getattr(found, name)) for name in lists},
        selected=_struck(found.selected),
        made_with=_struck(found.made_with),
        widened=[
            answers.Widened.model_validate(each.to_json()) for each in found.widened[:_MOST_LISTED]
        ],
        same_bytes=_struck(found.same_bytes),
        served=[
            answers.ServedTo.model_validate(each.to_json()) for each in found.served[:_MOST_LISTED]
        ],
        channels=list(found.channels),
        fingerprints=list(found.fingerprints[:_MOST_LISTED]),
        cleaning=[
            answers.Cleaning(command=command, drops=drops)
            for command, drops in cleaning(found.projects)
        ],
    )


def _struck(found: Iterable[StruckInStore]) -> list[answers.Struck]:
    return [answers.Struck.model_validate(each.to_json()) for each in tuple(found)[:_MOST_LISTED]]


def _order(order: OrderInStore) -> answers.Order:
    return answers.Order.model_validate(order.to_json())


def _lifted(lifted: LiftedByStore) -> answers.Lifted:
    return answers.Lifted(
        restored=_struck(lifted.restored),
        replaced=_struck(lifted.replaced),
        held=_struck(lifted.held),
    )
