"""A program that publishes, or collects, without end: to be killed at any moment.

python -m tests.store.trampled ROLE SEED STORE [DATABASE [BLOBS]]
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from store.errors import StoreError
from store.garbage import collect
from store.publish import Store
from store.retention import Policy, Rule
from tests.store.wheelshop import make_wheel, publish, read_wheel

NAMES = ("wheaty", "corny", "barley")


def publish_for_ever(store: Store, chance: random.Random) -> Iterator[None]:
    """A few wheels again and again, so that what one publishes another has just collected."""
    with tempfile.TemporaryDirectory() as folder:
        while True:
            path = make_wheel(
                Path(folder), name=chance.choice(NAMES), version=f"1.{chance.randrange(3)}"
            )
            with suppress(StoreError):  # swept three times under its hands
                publish(store, path, epoch=chance.randrange(2))
            yield


def collect_for_ever(store: Store, chance: random.Random) -> Iterator[None]:
    """With no grace at all, so that every order of events may happen."""
    while True:
        count = chance.randrange(2)
        collect(store, Policy(rule=lambda _: Rule(versions=count), grace=timedelta(0)))  # noqa: B023
        yield


ROLES = {"publish": publish_for_ever, "collect": collect_for_ever}


def main(role: str, seed: str, folder: str, database: str = "", blobs: str = "") -> None:
    """Say when it begins, and go on until it is killed."""
    store = Store.open(
        Path(folder), database=database or None, blobs=blobs or None, verifier=read_wheel
    )
    for number, _ in enumerate(ROLES[role](store, random.Random(seed))):
        if number == 0:
            print("begun", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
