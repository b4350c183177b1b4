"""Whole indexes: how a wheel of an index upstream comes into the channel upstream.

Nothing enters on its own word. A wheel is fetched against the hash that the index gives, judged in
a process of its own as an upload is, and published: as it is when all of its tags hold, so that it
keeps the index's name and hash; under the tags that hold when it claims too much; or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from packaging.utils import NormalizedName, canonicalize_name
from sqlalchemy import Connection

from builder.index_wheels import ListedWheel, fetch_wheel, list_wheels
from builder.verify import reverify_adopted, verify_adopted
from store import catalogue
from store.access import Actor
from store.audit import Deed, record
from store.channel import UPSTREAM
from store.digest import JSON, sha256_of
from store.disk import disk_trouble, locked_folder
from store.fingerprint import Fingerprint
from store.provenance import ADOPTED, Origin, Source
from store.publish import Store
from store.release import Release
from store.target import Target
from store.upstream import (
    Adoption,
    Refusal,
    adoptions_of,
    forget_refusal,
    remember_refusal,
)
from store.verdict import VerifiedWheel
from workers.admission import Admission
from workers.errors import (
    AdoptionRefusedError,
    NotFromUpstreamError,
    ServesNobodyError,
    WheelRefusedError,
)
from workers.foreign import papers_of, serves, write_log
from workers.inspection import Inspection
from workers.job import scratch_of
from workers.settings import Settings, UpstreamRules

_INSPECTION: Final = Inspection(refusal=AdoptionRefusedError)
_SHOWN: Final = 5

Targets = Mapping[Fingerprint, Target]


def admission_of(rules: UpstreamRules) -> Admission:
    """The rules of the settings."""
    return Admission(
        allow=rules.allow,
        deny=rules.deny,
        local=rules.local,
        min_age=timedelta(days=rules.min_age_days),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """An index upstream and the store that takes wheels of it, by the rules; for `actor`."""

    store: Store
    admission: Admission
    index_url: str | None
    scratch: Path
    actor: Actor

    @classmethod
    def of(cls, store: Store, settings: Settings, actor: Actor) -> Upstream:
        """What the settings name."""
        return cls(
            store=store,
            admission=admission_of(settings.upstream),
            index_url=settings.upstream.index_url or settings.index_url,
            scratch=scratch_of(settings.cache),
            actor=actor,
        )

    def check_project(self, name: NormalizedName) -> None:
        """Raise NotFromUpstreamError when a rule keeps the project from being looked up."""
        is_local = self.store.catalogue.is_local(name)
        if why := self.admission.refusal(name, is_local=is_local):
            raise NotFromUpstreamError(
                f"{name} is not looked up in the index upstream: {why}",
                hint="[upstream] in wheelfarm.toml; a full name under `allow` beats `local`",
            )

    def wheels(self, name: NormalizedName) -> tuple[ListedWheel, ...]:
        """The wheels that the index has of a project, young ones too.

        Raises NotFromUpstreamError before anybody is asked; NoSuchProjectError,
        IndexUnreachableError.
        """
        self.check_project(name)
        return list_wheels(name, self.index_url)

    def why_too_young(self, listed: ListedWheel) -> str | None:
        """Why the cool-down keeps a file out for now; None when it may come in."""
        return self.admission.too_young(listed.uploaded_at, catalogue.now())

    def bring(
        self, listed: ListedWheel, targets: Targets, *, pinned: bool = False
    ) -> list[Release]:
        """Have the wheel for each of `targets` that it serves; give the releases.

        `pinned`: a person gave its hash beforehand, and not the index alone.
        What is there by its hash is not fetched again. Raises AdoptionRefusedError, which is
        remembered; NotFromUpstreamError for one that is too young; DigestError,
        IndexUnreachableError, NameTakenError, DisownedError, QuotaError, PolicyError, StoreError.
        """
        self.check_project(listed.name)
        if why := self.why_too_young(listed):
            raise NotFromUpstreamError(f"{listed.filename} may not come in yet: {why}")
        with disk_trouble("write to", self.scratch), locked_folder(self.scratch) as folder:
            try:
                wheel = self._wheel(listed, folder)
            except AdoptionRefusedError as error:
                self._remember(listed, error)
                raise
            releases = self._publish(wheel, _source(listed, pinned=pinned), targets, folder)
        if listed.yanked is not None:
            self.store.catalogue.yank(UPSTREAM, wheel.filename, listed.yanked)
        return releases

    def bring_again(self, known: Adoption, targets: Targets) -> list[Release]:
        """Have a wheel that was adopted for one target serve further ones; nothing is fetched."""
        self.check_project(canonicalize_name(known.release.name))
        told: Any = self.store.catalogue.provenance(known.release)["source"]
        source = Source(**{**told, "origin": Origin(**told["origin"])})
        with disk_trouble("write to", self.scratch), locked_folder(self.scratch) as folder:
            return self._publish(self._kept(known.release, folder), source, targets, folder)

    def _wheel(self, listed: ListedWheel, folder: Path) -> VerifiedWheel:
        """The wheel as it may be published: the one that the store has, or a new one."""
        standing = [
            each.release
            for each in adoptions_of(self.store.database, listed.sha256)
            if each.release.disowned is None
        ]
        if standing:
            return self._kept(standing[0], folder)
        path = fetch_wheel(listed, folder)
        out = folder / "retagged"
        out.mkdir()
        wheel = _INSPECTION.wheel(verify_adopted, path, out)
        _check_listed(listed, wheel)
        return wheel

    def _kept(self, release: Release, folder: Path) -> VerifiedWheel:
        path = folder / release.filename
        self.store.blobs.place(release.sha256, path)
        return _INSPECTION.again(reverify_adopted, path)

    def _publish(
        self, wheel: VerifiedWheel, source: Source, targets: Targets, folder: Path
    ) -> list[Release]:
        """The releases, listed in the transaction that writes the audit log."""
        chosen = {name: each for name, each in targets.items() if serves(wheel, each)}
        if not chosen:
            raise _serves_nobody(wheel)
        log = folder / "adoption.log"
        write_log(wheel, source, f"of the index {source.origin.location}", log)
        came: dict[str, JSON] = {"adopted_by": self.actor.who, "token": self.actor.token}
        papers = [
            papers_of(wheel, source, target, log=log, environment=came)
            for target in chosen.values()
        ]

        def note(connection: Connection) -> None:
            forget_refusal(connection, source.sha256)
            record(connection, _deed(self.actor, source, wheel, sorted(chosen)))

        verifying = replace(self.store, verifier=_verified_again)
        return verifying.put_all(wheel, papers, channel=UPSTREAM, log=log, fence=note)

    def _remember(self, listed: ListedWheel, error: WheelRefusedError) -> None:
        refusal = Refusal(
            sha256=listed.sha256,
            filename=listed.filename,
            name=listed.name,
            code=error.code,
            message=error.message,
            findings=[finding.to_json() for finding in error.findings],
        )
        remember_refusal(self.store.database, refusal)


def _verified_again(path: Path) -> VerifiedWheel:
    """The store's own look at the bytes that it copied."""
    return _INSPECTION.again(reverify_adopted, path)


def _check_listed(listed: ListedWheel, wheel: VerifiedWheel) -> None:
    """Hold what the index says of the wheel against what the wheel says of itself."""
    told: list[tuple[str, object, object]] = [
        ("name", listed.name, canonicalize_name(wheel.name)),
        ("version", str(listed.version), wheel.version),
    ]
    if listed.metadata_sha256 is not None:
        told.append(("metadata's sha256", listed.metadata_sha256, sha256_of(wheel.metadata)))
    for field, said, seen in told:
        if said != seen:
            raise AdoptionRefusedError(
                f"{listed.filename}: its {field} is {seen!a:.200}, not {said!a:.200} as the index "
                "says"
            )


def _serves_nobody(wheel: VerifiedWheel) -> ServesNobodyError:
    if wheel.interpreter_bound:
        return ServesNobodyError(
            f"{wheel.filename} is bound to one interpreter build ({wheel.interpreter_bound[0]})",
            hint="build its sdist: `wheelfarm build`",
        )
    tags = ", ".join(sorted(map(str, wheel.tags))[:_SHOWN])
    return ServesNobodyError(
        f"the tags that hold of {wheel.filename} ({tags}) are for none of the targets",
        hint="build its sdist for the target: `wheelfarm build`",
    )


def _source(listed: ListedWheel, *, pinned: bool) -> Source:
    origin = Origin(kind=ADOPTED, location=listed.place, pinned=pinned)
    return Source(
        name=listed.name,
        version=str(listed.version),
        filename=listed.filename,
        sha256=listed.sha256,
        origin=origin,
    )


def _deed(actor: Actor, source: Source, wheel: VerifiedWheel, fingerprints: Sequence[str]) -> Deed:
    detail: dict[str, JSON] = {
        "index": source.origin.location,
        "sha256": source.sha256,
        "as": wheel.filename,
        "fingerprints": list(fingerprints),
    }
    return Deed(actor=actor, action="adopt", object=source.filename, detail=detail)
