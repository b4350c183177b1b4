"""A store with an index upstream of the test's own, in one process: for adopting and pulling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from builder.interpreter import measure_self
from store.access import Actor
from store.channel import UPSTREAM, Channel
from store.fingerprint import Fingerprint, fingerprint_of
from store.publish import Store
from store.release import Release
from store.target import Target
from tests.builder import forge
from tests.indexes import Index, index_of
from tests.store.wheelshop import read_wheel
from workers.adopt import Adopted, adopt
from workers.requirements import read_pins
from workers.settings import ChannelRules, Settings, UpstreamRules
from workers.upstream import Upstream

NATIVE = measure_self().target()
HERE = fingerprint_of(NATIVE)
BY = Actor(who="ada")
DEV = Channel("dev/me")


@dataclass
class Shop:
    """The index, the store, and what the settings say of both."""

    folder: Path
    index: Index
    store: Store
    settings: Settings

    @property
    def upstream(self) -> Upstream:
        return Upstream.of(self.store, self.settings, BY)

    def ruled(self, **rules: Any) -> Shop:
        """The same with other rules under ``[upstream]``."""
        return replace(
            self,
            settings=replace(self.settings, upstream=replace(self.settings.upstream, **rules)),
        )

    def adopt(self, *wanted: str, target: Target = NATIVE) -> list[Adopted]:
        return list(adopt(self.upstream, read_pins(wanted, ()), {"here": target}))

    def listed(self, channel: Channel = UPSTREAM, fingerprint: Fingerprint = HERE) -> list[Release]:
        return self.store.catalogue.listing(channel, fingerprint)

    def wheel(self, name: str = "wheaty", version: str = "1.0", tag: str = "py3-none-any") -> Path:
        """A pure wheel that says nothing but the truth."""
        place = self.folder / f"made-{len(list(self.folder.iterdir()))}"
        place.mkdir()
        members: Mapping[str, bytes] = {f"{name}.py": f"V = {version!r}\n".encode()}
        return forge.wheel(place, f"{name}-{version}-{tag}.whl", members)


@contextmanager
def shop_in(folder: Path, database: str | None = None) -> Iterator[Shop]:
    """A shop whose dev channel inherits upstream, which is pulled through."""
    with index_of(folder / "index") as index:
        settings = Settings(
            store=folder / "store",
            cache=folder / "cache",
            database=database,
            upstream=UpstreamRules(index_url=index.url, pull_through=True),
            channels={
                DEV: ChannelRules(inherit=("release", "upstream")),
                "release": ChannelRules(inherit=("upstream",)),
            },
        )
        inheritance = settings.inheritance
        opened = Store.open(
            settings.store, database=database, verifier=read_wheel, inheritance=inheritance
        )
        with closing(opened) as store:
            store.catalogue.remember_target(NATIVE)
            yield Shop(folder=folder, index=index, store=store, settings=settings)
