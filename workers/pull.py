"""Pull-through: a server lists what an index upstream has, and fetches what is asked for.

A page lists a wheel with the index's word for it: its hash, and its METADATA's. No byte of a wheel
goes out before it was fetched, held against that hash, judged and published: the first who asks
waits for that, others who ask for the same file meanwhile wait with them, and whoever waits too
long is told to come again. One that is refused is remembered, and listed no more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as WaitedTooLong
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Final, Generic, TypeAlias, TypeVar

from packaging.utils import NormalizedName, canonicalize_name

from builder.errors import DigestError, IndexUnreachableError, NoSuchProjectError
from builder.index_wheels import (
    LARGEST_WHEEL,
    ListedWheel,
    fetch_metadata,
    serves,
)
from store.digest import Sha256
from store.disk import locked_folder
from store.errors import (
    DisownedError,
    NameTakenError,
    NotProvenError,
    PolicyError,
    QuotaError,
    UnknownFileError,
    UnknownIndexError,
    UpstreamAwayError,
    WheelfarmError,
)
from store.fingerprint import Fingerprint, fingerprint_of
from store.offer import MOST_WAITING, Offer, Offers
from store.release import Release
from store.target import Target, tag_order
from store.upstream import Adoption, Refusal, adoptions, refusals
from workers.errors import AdoptionRefusedError, UpstreamBusyError
from workers.upstream import Upstream

_LOG: Final = logging.getLogger("wheelfarm.serve")
_AT_ONCE: Final = 4
"""Files that are fetched and judged at a time."""
_PAGES_AT_ONCE: Final = 8
_MOST_FLYING: Final = 256
"""Files, or pages, that are fetched or wait for their turn."""
_MOST_LISTED: Final = 50_000
"""Wheels on the pages that are remembered, some 2 KB each."""
_MOST_METADATA: Final = 2_000
_LARGEST_KEPT: Final = 256 << 10
_MOST_UNFIT: Final = 10_000

_OTHERS: Final = (NameTakenError, NotProvenError, DisownedError, PolicyError, QuotaError)
_LASTING: Final = (AdoptionRefusedError, *_OTHERS)

_Wish: TypeAlias = tuple[Sha256, Fingerprint]
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spans:
    """How many seconds things take at most. A request waits for a `file` or a `page` so long; what
    it waits for goes on, clients ask again, and find it done. A page is `fresh` so long; an index
    that was `away` is not asked again, and a file that was `unfit` not tried again, for so long."""

    file: float = 120.0
    page: float = 20.0
    fresh: float = 300.0
    away: float = 15.0
    unfit: float = 600.0


class Pull:
    """The wheels of an index upstream, brought when they are asked for. `close` ends it."""

    def __init__(self, upstream: Upstream, spans: Spans = Spans()) -> None:  # frozen
        self._spans = spans
        waiting = threading.BoundedSemaphore(MOST_WAITING)
        self._upstream = upstream
        self._database = upstream.store.database
        self._files: Flights[_Wish, Release] = Flights(_AT_ONCE, waiting)
        self._pages: Flights[NormalizedName, _Page] = Flights(_PAGES_AT_ONCE, waiting)
        self._texts: Flights[Sha256, bytes] = Flights(_PAGES_AT_ONCE, waiting)
        self._known: _Latest[NormalizedName, _Page] = _Latest(
            _MOST_LISTED, lambda page: 1 + len(page.wheels)
        )
        self._metadata: _Latest[Sha256, bytes] = _Latest(_MOST_METADATA)
        self._unfit: _Latest[_Wish, tuple[WheelfarmError, float]] = _Latest(_MOST_UNFIT)

    def close(self) -> None:
        """Take on nothing more. What is being fetched ends by itself, or with the process."""
        for flights in (self._files, self._pages, self._texts):
            flights.close()

    def offers(self, fingerprint: Fingerprint, project: NormalizedName) -> Offers:
        """What may be listed beside what is there (`store.offer.Puller`)."""
        target = self._target(fingerprint)
        page = self._page(project)
        found = self._sorted(fingerprint, project)
        listed = [each for each in page.wheels if self._may_be_listed(each, target, found)]
        again = [each for each in found.elsewhere if _is_served(each.release, target)]
        names = {each.release.filename for each in again}
        return Offers(
            offers=(
                *(_offer_again(each.release) for each in again),
                *(_offer(each) for each in listed if each.filename not in names),
            ),
            yanked=_yanked(page.wheels, found.here),
            away=page.away,
        )

    def file(self, fingerprint: Fingerprint, filename: str) -> Release:
        """The wheel of that name, published (`store.offer.Puller`)."""
        target, project = self._target(fingerprint), _project(filename)
        self._upstream.check_project(project)
        found = self._sorted(fingerprint, project)
        wanted = {fingerprint: target}
        if known := _named(found.elsewhere, filename):
            again = partial(self._upstream.bring_again, known, wanted)
            return self._brought(known.sha256, fingerprint, again)
        listed = self._listed(filename, project, found)
        bring = partial(self._upstream.bring, listed, wanted)
        return _under_that_name(self._brought(listed.sha256, fingerprint, bring), filename)

    def metadata(self, fingerprint: Fingerprint, filename: str) -> bytes:
        """The METADATA of a wheel that is not there yet (`store.offer.Puller`)."""
        target, project = self._target(fingerprint), _project(filename)
        self._upstream.check_project(project)
        found = self._sorted(fingerprint, project)
        known = _named(found.elsewhere, filename)
        if known is not None and _is_served(known.release, target):
            return self._upstream.store.blobs.read(known.release.metadata_sha256)
        listed = self._listed(filename, project, found)
        if listed.metadata_sha256 is None:
            raise UnknownFileError(f"the index has no metadata of {filename} beside it")
        if (data := self._metadata.get(listed.metadata_sha256)) is not None:
            return data
        data = self._texts.join(listed.sha256, lambda: self._fetched(listed), self._spans.page)
        if len(data) <= _LARGEST_KEPT:
            self._metadata.put(listed.metadata_sha256, data)
        return data

    def _fetched(self, listed: ListedWheel) -> bytes:
        with locked_folder(self._upstream.scratch) as folder:
            return fetch_metadata(listed, folder)

    def _target(self, fingerprint: Fingerprint) -> Target:
        known = self._upstream.store.catalogue.target(fingerprint)
        if known is None:
            raise UnknownIndexError(f"nobody has heard of {fingerprint} here")
        return known

    def _page(self, project: NormalizedName) -> _Page:
        """What the index lists of a project, not older than some minutes; or, when it is away, what
        it listed last, if that is known.

        Raises NotFromUpstreamError.
        """
        self._upstream.check_project(project)
        last = self._known.get(project)
        if last is not None and last.is_good:
            return last
        try:
            return self._pages.join(project, lambda: self._asked(project, last), self._spans.page)
        except UpstreamBusyError as error:
            _LOG.warning("the page of %s upstream: %s", project, error.message)
            return self._away(last)

    def _asked(self, project: NormalizedName, last: _Page | None) -> _Page:
        """The page, remembered, also when nobody waits for it any more."""
        wheels: tuple[ListedWheel, ...] = ()
        try:
            with suppress(NoSuchProjectError):
                wheels = self._upstream.wheels(project)
        except IndexUnreachableError as error:
            _LOG.warning("%s: %s", error.code, error.message)
            page = self._away(last)
        else:
            page = _Page(wheels=wheels, away=False, until=_in(self._spans.fresh))
        self._known.put(project, page)
        return page

    def _away(self, last: _Page | None) -> _Page:
        """What was listed last, if anything, for as long as the index is left alone."""
        wheels = last.wheels if last else ()
        return _Page(wheels=wheels, away=True, until=_in(self._spans.away))

    def _sorted(self, fingerprint: Fingerprint, project: NormalizedName) -> _Sorted:
        found = adoptions(self._database, project)
        here = {each.sha256 for each in found if each.release.fingerprint == fingerprint}
        taken_back = {each.sha256 for each in found if each.release.disowned is not None}
        elsewhere = {each.sha256: each for each in found if each.sha256 not in here | taken_back}
        return _Sorted(
            here=[each for each in found if each.release.fingerprint == fingerprint],
            elsewhere=list(elsewhere.values()),
            taken_back=taken_back,
            closed=here | taken_back | elsewhere.keys(),
            refused=refusals(self._database, project),
        )

    def _may_be_listed(self, listed: ListedWheel, target: Target, found: _Sorted) -> bool:
        return (
            listed.sha256 not in found.closed
            and listed.sha256 not in found.refused
            and serves(listed, target)
            and (listed.size or 0) <= LARGEST_WHEEL
            and self._upstream.why_too_young(listed) is None
            and not isinstance(self._trouble((listed.sha256, fingerprint_of(target))), _LASTING)
        )

    def _listed(self, filename: str, project: NormalizedName, found: _Sorted) -> ListedWheel:
        """The wheel of that name in the index. Raises UnknownFileError, AdoptionRefusedError."""
        page = self._page(project)
        listed = next((each for each in page.wheels if each.filename == filename), None)
        if listed is None and page.away:
            raise UpstreamAwayError(
                f"the index upstream does not answer, and {filename[:200]} is not here yet",
                hint="ask again later",
            )
        if listed is None:
            raise UnknownFileError(
                f"neither this index nor the one upstream has a file {filename[:80]!r}"
            )
        if listed.sha256 in found.taken_back:
            raise DisownedError(f"{filename} was disowned: it must not be used any more")
        if refusal := found.refused.get(listed.sha256):
            raise AdoptionRefusedError(
                refusal.message, hint="`wheelfarm adopt` looks at it once more"
            )
        _refuse_retagged(listed, found)
        return listed

    def _brought(
        self, sha256: Sha256, fingerprint: Fingerprint, bring: Callable[[], Iterable[Release]]
    ) -> Release:
        """The one release that `bring` makes, once for all who ask at a time."""
        key = (sha256, fingerprint)
        if error := self._trouble(key):
            raise error.with_traceback(None)
        return self._files.join(key, lambda: self._tried(key, bring), self._spans.file)

    def _tried(self, key: _Wish, bring: Callable[[], Iterable[Release]]) -> Release:
        """What stands in its way is remembered for a while, so that the same bytes are not fetched
        again and again."""
        try:
            return next(iter(bring()))
        except DigestError as error:
            raise self._noted(
                key, AdoptionRefusedError(error.message), self._spans.unfit
            ) from error
        except _OTHERS as error:
            self._noted(key, error, self._spans.unfit)
            raise
        except IndexUnreachableError as error:
            away = UpstreamAwayError(error.message, hint=error.hint)
            raise self._noted(key, away, self._spans.away) from error

    def _noted(self, key: _Wish, error: WheelfarmError, seconds: float) -> WheelfarmError:
        self._unfit.put(key, (error, _in(seconds)))
        return error

    def _trouble(self, key: _Wish) -> WheelfarmError | None:
        found = self._unfit.get(key)
        return found[0] if found is not None and monotonic() < found[1] else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """What an index lists of a project; good `until` then, by the monotonic clock."""

    wheels: tuple[ListedWheel, ...]
    away: bool
    until: float

    @property
    def is_good(self) -> bool:
        return monotonic() < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """What is known of a project's files: adopted for this target, or for others alone; `closed`
    are digests that are not listed as the index has them."""

    here: list[Adoption]
    elsewhere: list[Adoption]
    taken_back: set[Sha256]
    closed: set[Sha256]
    refused: dict[Sha256, Refusal]


class Flights(Generic[K, V]):
    """Work that is done once for all who ask for it at a time, some of it at a time."""

    def __init__(self, at_once: int, waiting: threading.BoundedSemaphore) -> None:
        self._waiting = waiting
        self._slots = threading.BoundedSemaphore(at_once)
        self._over = False
        self._guard = threading.Lock()
        self._flying: dict[K, Future[V]] = {}

    def close(self) -> None:
        """Begin nothing more; nobody waits for what has begun."""
        self._over = True

    def join(self, key: K, work: Callable[[], V], seconds: float) -> V:
        """What `work` gives, or what the same key's work that is under way gives.

        Raises what it raises; UpstreamBusyError after `seconds`, or when too much is waiting.
        """
        if not self._waiting.acquire(blocking=False):
            raise UpstreamBusyError("too many wait for upstream", hint="ask again later")
        try:
            return self._flight(key, work).result(seconds)
        except WaitedTooLong as error:
            raise UpstreamBusyError(
                f"it is still being fetched and looked at after {seconds:.0f} s",
                hint="ask again: it goes on meanwhile",
            ) from error
        finally:
            self._waiting.release()

    def _flight(self, key: K, work: Callable[[], V]) -> Future[V]:
        with self._guard:
            if (flying := self._flying.get(key)) is not None:
                return flying
            if len(self._flying) >= _MOST_FLYING:
                raise UpstreamBusyError(
                    f"{len(self._flying)} others are being fetched from upstream",
                    hint="ask again later",
                )
            flight: Future[V] = Future()
            self._flying[key] = flight
        # A daemon's: a server that stops does not wait for what is being fetched.
        threading.Thread(target=self._fly, args=(key, work, flight), daemon=True).start()
        return flight

    def _check_open(self) -> None:
        if self._over:
            raise UpstreamBusyError("the server stops", hint="ask again later")

    def _fly(self, key: K, work: Callable[[], V], flight: Future[V]) -> None:
        try:
            with self._slots:
                self._check_open()
                flight.set_result(work())
        except BaseException as error:  # noqa: BLE001  # whatever it is, it is raised where one waits
            flight.set_exception(error)
        finally:
            with self._guard:
                self._flying.pop(key, None)


class _Latest(Generic[K, V]):
    """The last values that were put, by key; together of no more than a weight."""

    def __init__(self, most: int, weigh: Callable[[V], int] = lambda _: 1) -> None:
        self._left = most
        self._weigh = weigh
        self._guard = threading.Lock()
        self._values: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        with self._guard:
            return self._values.get(key)

    def put(self, key: K, value: V) -> None:
        with self._guard:
            if key in self._values:
                self._drop(key)
            self._values[key] = value
            self._left -= self._weigh(value)
            while self._left < 0 and self._values:
                self._drop(next(iter(self._values)))

    def _drop(self, key: K) -> None:
        self._left += self._weigh(self._values.pop(key))


def _weight(page: _Page) -> int:
    return 1 + len(page.wheels)


def _in(seconds: float) -> float:
    return monotonic() + seconds


def _named(found: Iterable[Adoption], filename: str) -> Adoption | None:
    return next((each for each in found if each.release.filename == filename), None)


def _project(filename: str) -> NormalizedName:
    return canonicalize_name(filename.partition("-")[0])


def _is_served(release: Release, target: Target) -> bool:
    return not release.tags.isdisjoint(tag_order(target))


def _yanked(wheels: Iterable[ListedWheel], here: Iterable[Adoption]) -> dict[str, str]:
    """The reasons upstream of files that are here, under the names that they have here."""
    reasons = {each.sha256: each.yanked for each in wheels if each.yanked is not None}
    return {each.release.filename: reasons[each.sha256] for each in here if each.sha256 in reasons}


def _offer(listed: ListedWheel) -> Offer:
    return Offer(
        filename=listed.filename,
        sha256=listed.sha256,
        version=str(listed.version),
        size=listed.size,
        requires_python=listed.requires_python,
        metadata_sha256=listed.metadata_sha256,
        published_at=listed.uploaded_at,
        yanked=listed.yanked,
    )


def _offer_again(release: Release) -> Offer:
    """A wheel that was adopted for another target: its name and digests are proved."""
    return Offer(
        filename=release.filename,
        sha256=release.sha256,
        version=release.version,
        size=release.size,
        requires_python=release.requires_python,
        metadata_sha256=release.metadata_sha256,
        published_at=release.published_at,
        yanked=release.yanked,
    )


def _refuse_retagged(listed: ListedWheel, found: _Sorted) -> None:
    for each in (*found.here, *found.elsewhere):
        if each.sha256 == listed.sha256:
            _under_that_name(each.release, listed.filename)


def _under_that_name(release: Release, filename: str) -> Release:
    if release.filename != filename:
        raise AdoptionRefusedError(
            f"{filename} claims more than its bytes hold; what holds of it is listed as "
            f"{release.filename}",
            hint="read the page of the project again",
        )
    return release
