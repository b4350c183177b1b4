"""What there is to do: every wanted thing for every target, and what is done already.

Planning needs no network for what was built before: the build requirements that a Source got for a
Fingerprint are remembered as a resolution, so its BuildKey is known at once. Things are planned
some at a time, so that the first builds start while the last sdists are still being fetched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from builder.stages import Sdist
from store.catalogue import SUPERSEDED, Catalogue
from store.channel import Channel, admit
from store.digest import Sha256, digest_of
from store.errors import WheelfarmError
from store.fingerprint import Fingerprint, fingerprint_of
from store.provenance import BuildKey
from store.publish import Store
from store.release import Release
from store.target import Target
from workers.errors import ConflictingSourcesError
from workers.farm.failures import Failures, Remembered
from workers.farm.line import Order
from workers.farm.registry import ToolchainFacts
from workers.farm.submissions import Item
from workers.farm.work import Work
from workers.markers import applies
from workers.outcome import Outcome, Status, outcome_from_json, outcome_of, status_of
from workers.requirements import Wanted, WantedFile
from workers.settings import Settings
from workers.sources import acquire, channel_for

_AT_ONCE: Final = 100
_FETCHES: Final = 8

Toolchains = Mapping[Fingerprint, Sequence[ToolchainFacts]]


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedTarget:
    """A Target under the name that its submitter gave it."""

    name: str
    target: Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What one submission asks for.

    `channel` None sends each Source where it belongs; `refresh` has build requirements resolved
    afresh; `retry` builds what is remembered to fail.
    """

    wanted: tuple[Wanted, ...]
    targets: tuple[WantedTarget, ...]
    submitter: str
    channel: Channel | None = None
    refresh: bool = False
    retry: bool = False
    nice: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planner:
    """What planning looks at: the store, what is known of toolchains and failures, the settings.

    `keep` puts an sdist where the workers find it.
    """

    store: Store
    failures: Failures
    settings: Settings
    toolchains: Callable[[Collection[Fingerprint]], Toolchains]
    keep: Callable[[Sdist], None]

    def plan(self, call: Call) -> Iterator[list[Item]]:
        """The items of `call` in order, some at a time: for each wanted thing, every target.

        A thing that cannot be had (no such version, another hash) ends for all targets, and harms
        no other. Raises ConflictingSourcesError when two sdists claim one name and version.
        """
        toolchains = self.toolchains([fingerprint_of(each.target) for each in call.targets])
        seen: dict[tuple[str, str], Sha256] = {}
        with ThreadPoolExecutor(max_workers=_FETCHES) as fetchers:
            for first in range(0, len(call.wanted), _AT_ONCE):
                some = call.wanted[first : first + _AT_ONCE]
                acquired = list(fetchers.map(lambda one: self._acquired(one, call), some))
                for _, sdist in acquired:
                    _refuse_conflict(seen, sdist)
                drafts = [d for one, sdist in acquired for d in _drafts(one, sdist, call, self)]
                yield self._items(drafts, call, toolchains)

    def _acquired(self, wanted: Wanted, call: Call) -> tuple[Wanted, Sdist | WheelfarmError | None]:
        """The thing with its sdist, or with why there is none; None where no target wants it."""
        if not any(_applies(wanted, target) for target in call.targets):
            return wanted, None
        try:
            sdist = acquire(wanted, self.settings)
            self.keep(sdist)
        except WheelfarmError as error:
            return wanted, error
        return wanted, sdist

    def _items(self, drafts: Sequence[Item], call: Call, toolchains: Toolchains) -> list[Item]:
        """The drafts, what is built or known to fail already replaced by its outcome."""
        resolved = drafts if call.refresh else list(self._with_pins(drafts))
        keys = {place: _keys(item, toolchains) for place, item in enumerate(resolved)}
        every = {key for some in keys.values() for key in some}
        releases = self._releases(every)
        failed = {} if call.retry else self.failures.known(every)
        return [
            _settled(item, keys[place], releases, failed) for place, item in enumerate(resolved)
        ]

    def _with_pins(self, drafts: Iterable[Item]) -> Iterator[Item]:
        keyed = [
            (item, resolution_key(item.wanted.work) if isinstance(item.wanted, Order) else None)
            for item in drafts
        ]
        known = self.store.catalogue.resolutions([key for _, key in keyed if key])
        for item, key in keyed:
            if key in known and isinstance(item.wanted, Order):
                work = dataclasses.replace(item.wanted.work, pins=known[key])
                order = dataclasses.replace(item.wanted, work=work)
                yield dataclasses.replace(item, wanted=order)
            else:
                yield item

    def _releases(self, keys: Collection[BuildKey]) -> dict[tuple[str, str, str], Release]:
        """(channel, fingerprint, BuildKey) -> the release that serves it now."""
        found: dict[tuple[str, str, str], Release] = {}
        for release in self.store.catalogue.releases_of_builds(keys):
            if offered(self.store.catalogue, release):
                key = (release.channel, release.fingerprint, release.build_key)
                found[key] = release
        return found


def resolution_key(work: Work) -> Sha256:
    """Under what the resolved build requirements of a build are remembered."""
    return digest_of(
        {
            "source": work.source.sha256,
            "fingerprint": work.fingerprint,
            "recipe": work.recipe.to_json(),
        }
    )


def _drafts(
    wanted: Wanted, sdist: Sdist | WheelfarmError | None, call: Call, planner: Planner
) -> Iterator[Item]:
    """For each target the order, or why there is none."""
    for target in call.targets:
        if not _applies(wanted, target):
            yield Item(target=target.name, wanted=_skipped(wanted, target))
        elif isinstance(sdist, Sdist):
            yield Item(target=target.name, wanted=_order(sdist, target, call, planner.settings))
        else:
            assert sdist is not None
            yield Item(target=target.name, wanted=_unobtainable(wanted, target, sdist))


def _order(sdist: Sdist, target: WantedTarget, call: Call, settings: Settings) -> Order | Outcome:
    work = Work(
        source=sdist.source,
        target=target.target,
        recipe=settings.recipe(sdist.source.name),
        channel=call.channel or channel_for(sdist.source),
        epoch=settings.epoch,
        salt=settings.salt(sdist.source.name, fingerprint_of(target.target)),
        pins=None,
    )
    try:
        admit(work.source, work.channel)
    except WheelfarmError as error:
        return outcome_of(work, target.name, status_of(error), error=error)
    return Order(
        work=work,
        submitter=call.submitter,
        memory_class=settings.memory_classes.get(sdist.source.name, 1),
        nice=call.nice,
    )


def _keys(item: Item, toolchains: Toolchains) -> list[BuildKey]:
    """The BuildKeys that the item has with the toolchains that are known for its target."""
    if not isinstance(item.wanted, Order) or item.wanted.work.pins is None:
        return []
    work = item.wanted.work
    known = toolchains.get(work.fingerprint, ())
    return [work.inputs(each.identity, each.tools).key for each in known]


def _settled(
    item: Item,
    keys: Sequence[BuildKey],
    releases: Mapping[tuple[str, str, str], Release],
    failed: Mapping[str, Remembered],
) -> Item:
    if not isinstance(item.wanted, Order):
        return item
    work = item.wanted.work
    for key in keys:
        if release := releases.get((work.channel, work.fingerprint, key)):
            return dataclasses.replace(item, wanted=hit(work, item.target, release))
    for key in keys:
        if key in failed:
            return dataclasses.replace(item, wanted=_remembered(item.target, failed[key]))
    return item


def offered(catalogue: Catalogue, release: Release) -> bool:
    """Whether the release may be installed: one that was superseded is offered again by this."""
    if release.disowned is not None:
        return False
    if release.yanked is None:
        return True
    if not release.yanked.startswith(SUPERSEDED):
        return False
    catalogue.prefer(release)
    return True


def hit(work: Work, target: str, release: Release) -> Outcome:
    """The outcome of work whose wheel is in the store already."""
    return dataclasses.replace(
        outcome_of(work, target, "hit"),
        filename=release.filename,
        sha256=release.sha256,
        build_key=release.build_key,
    )


def _remembered(target: str, failure: Remembered) -> Outcome:
    when = failure.recorded_at.strftime("%Y-%m-%d %H:%M UTC")
    return dataclasses.replace(
        outcome_from_json({**failure.outcome, "target": target}),
        hint=f"this very build failed on {when}, and is not tried again before "
        f"{failure.expires_at:%Y-%m-%d %H:%M UTC}: --retry builds it all the same",
        seconds=0,
    )


def _applies(wanted: Wanted, target: WantedTarget) -> bool:
    return isinstance(wanted, WantedFile) or applies(wanted.marker, target.target)


def _refuse_conflict(
    seen: dict[tuple[str, str], Sha256], sdist: Sdist | WheelfarmError | None
) -> None:
    if not isinstance(sdist, Sdist):
        return
    source = sdist.source
    other = seen.setdefault((source.name, source.version), source.sha256)
    if other != source.sha256:
        raise ConflictingSourcesError(
            f"two sdists of {source.name} {source.version}: {other[:12]} and {source.sha256[:12]}",
            hint="a name and version has one content: leave one out",
        )


def _skipped(wanted: Wanted, target: WantedTarget) -> Outcome:
    marker = None if isinstance(wanted, WantedFile) else wanted.marker
    return dataclasses.replace(
        _without_a_source(wanted, target, "skipped"), message=f"its marker: {marker}"
    )


def _unobtainable(wanted: Wanted, target: WantedTarget, error: WheelfarmError) -> Outcome:
    return dataclasses.replace(
        _without_a_source(wanted, target, status_of(error)),
        code=error.code,
        message=error.message,
        hint=error.hint,
    )


def _without_a_source(wanted: Wanted, target: WantedTarget, status: Status) -> Outcome:
    name, version = _label(wanted)
    return Outcome(
        package=name,
        version=version,
        target=target.name,
        fingerprint=fingerprint_of(target.target),
        channel="",
        status=status,
    )


def _label(wanted: Wanted) -> tuple[str, str]:
    if isinstance(wanted, WantedFile):
        return wanted.path.name, ""
    return wanted.name, wanted.version
