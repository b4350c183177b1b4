"""A farm: a store, and over the same database its jobs, submissions, workers and failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from store.publish import Store, Verifier
from workers.farm.failures import Failures
from workers.farm.ledger import Ledger
from workers.farm.poke import SILENT, Poker
from workers.farm.registry import Registry
from workers.farm.submissions import Submissions
from workers.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """Everything that planners, workers and servers of one farm share."""

    settings: Settings
    store: Store
    ledger: Ledger
    submissions: Submissions
    registry: Registry
    failures: Failures
    poker: Poker


@contextmanager
def open_farm(settings: Settings, poker: Poker = SILENT) -> Iterator[Farm]:
    """The farm that the settings name, for as long as the ``with`` block lasts.

    `poker` tells workers of the jobs that are made or freed through it.

    Raises StoreError, NotAStoreError.
    """
    store = store_of(settings)
    try:
        yield farm_over(store, settings, poker)
    finally:
        store.close()


def store_of(settings: Settings, *, create: bool = True, verifier: Verifier | None = None) -> Store:
    """The store that the settings name. Raises what `Store.open` does."""
    return Store.open(
        settings.store,
        database=settings.database,
        blobs=settings.blobs,
        create=create,
        verifier=verifier,
        quota=settings.quota,
        inheritance=settings.inheritance,
    )


def farm_over(store: Store, settings: Settings, poker: Poker = SILENT) -> Farm:
    """The farm over an open store."""
    database, rules = store.database, settings.farm
    return Farm(
        settings=settings,
        store=store,
        ledger=Ledger(database, lease_seconds=rules.lease_seconds, poker=poker),
        submissions=Submissions(database, lease_seconds=rules.lease_seconds, poker=poker),
        registry=Registry(database, silent_seconds=2 * rules.lease_seconds),
        failures=Failures(database, ttl_seconds=rules.failure_ttl_seconds),
        poker=poker,
    )
