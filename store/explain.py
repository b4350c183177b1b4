"""Where a wheel comes from, what went in, what was found in it, and whom it serves and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from store.channel import Channel
from store.digest import JSON, parse_sha256
from store.errors import MalformedError, NotFoundError
from store.fingerprint import Fingerprint
from store.invalidate import Invalidation, Order
from store.publish import Store
from store.release import Release, Widening
from store.upstream import refusals_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """One index that lists the wheel: `reason` is ``built-for``, that of a widening, or
    ``inherited`` for the index of a channel that lists what another one has."""

    channel: Channel
    fingerprint: Fingerprint
    reason: str
    evidence: Mapping[str, JSON]

    def to_json(self) -> dict[str, JSON]:
        """The serving as plain JSON."""
        return {
            "channel": self.channel,
            "fingerprint": self.fingerprint,
            "reason": self.reason,
            "evidence": dict(self.evidence),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One release with the record of its build, as `Provenance.to_json` gave it, and the order
    that took it back, None while it stands."""

    release: Release
    provenance: Mapping[str, JSON]
    disowned: Order | None = None

    def to_json(self) -> dict[str, JSON]:
        """The publication as plain JSON."""
        return {
            "release": self.release.to_json(),
            "provenance": dict(self.provenance),
            "disowned": self.disowned.to_json() if self.disowned else None,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Every publication of one file, and every index that serves it."""

    filename: str
    publications: tuple[Publication, ...]
    serves: tuple[Serving, ...]

    def to_json(self) -> dict[str, JSON]:
        """The explanation as plain JSON."""
        return {
            "filename": self.filename,
            "publications": [each.to_json() for each in self.publications],
            "serves": [each.to_json() for each in self.serves],
        }


def explain(store: Store, text: str) -> tuple[Explanation, ...]:
    """One explanation for each file that `text` names: a file name, a digest or a BuildKey.

    Raises NotFoundError when the store has nothing of that name; it says of a file of an index that
    was refused why it was.
    """
    found = store.catalogue.releases_of(_bare(text))
    if not found:
        for refusal in refusals_of(store.database, _bare(text)):
            raise NotFoundError(
                f"{refusal.filename} of the index upstream is not here: {refusal.message}",
                hint="`wheelfarm adopt` looks at it once more",
            )
        raise NotFoundError(
            f"the store knows no wheel and no build {text[:200]!r}",
            hint="give a wheel's file name, its sha256, or a BuildKey",
        )
    names = dict.fromkeys(release.filename for release in found)
    explained = (
        _explanation(store, name, [each for each in found if each.filename == name])
        for name in names
    )
    return tuple(replace(each, serves=(*each.serves, *_heirs(store, each))) for each in explained)


def _heirs(store: Store, explained: Explanation) -> Iterator[Serving]:
    """The indexes of channels that list the wheel because they inherit the one that has it."""
    catalogue = store.catalogue
    heirs = catalogue.inheritance.heirs([index.channel for index in catalogue.indexes()])
    for own in explained.serves:
        for heir in heirs:
            listed = catalogue.served_file(heir, own.fingerprint, explained.filename)
            if heir != own.channel and listed is not None and listed.channel == own.channel:
                evidence: dict[str, JSON] = {"from": own.channel}
                yield replace(own, channel=heir, reason="inherited", evidence=evidence)


def explain_file(store: Store, release: Release) -> Explanation:
    """What there is to say of the file of `release` in its own channel."""
    everywhere = store.catalogue.releases_of(release.filename)
    here = [
        each for each in everywhere if each.channel == release.channel and each.disowned is None
    ]
    return _explanation(store, release.filename, here)


def _explanation(store: Store, filename: str, releases: list[Release]) -> Explanation:
    return Explanation(
        filename=filename,
        publications=tuple(
            Publication(
                release=each,
                provenance=store.catalogue.provenance(each),
                disowned=_order_of(store, each),
            )
            for each in releases
        ),
        serves=tuple(
            serving
            for each in releases
            if each.disowned is None
            for serving in _servings(store, each)
        ),
    )


def _order_of(store: Store, release: Release) -> Order | None:
    if release.disowned is None:
        return None
    return Invalidation(store.database).order(release.disowned)


def _servings(store: Store, release: Release) -> list[Serving]:
    evidence: dict[str, JSON] = {"build_key": release.build_key}
    own = Serving(
        channel=release.channel,
        fingerprint=release.fingerprint,
        reason="built-for",
        evidence=evidence,
    )
    return [own, *(_widened(release, each) for each in store.catalogue.widenings(release))]


def _widened(release: Release, widening: Widening) -> Serving:
    return Serving(
        channel=release.channel,
        fingerprint=widening.fingerprint,
        reason=widening.reason,
        evidence=widening.evidence,
    )


def _bare(text: str) -> str:
    """The digest that `text` is, without ``sha256:`` before it; else `text`, a file name."""
    try:
        return parse_sha256(text)
    except MalformedError:
        return text
