"""The way into the store: a verified wheel is verified once more, kept, and then listed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from sqlalchemy import Connection

from store import catalogue
from store.blobs import Blobs, Staged
from store.catalogue import Catalogue
from store.channel import UPSTREAM, Channel, Inheritance, admit
from store.database import Database
from store.digest import Sha256, canonical_json
from store.errors import (
    MalformedError,
    NameTakenError,
    NotProvenError,
    PolicyError,
    QuotaError,
    StoreError,
)
from store.fingerprint import Fingerprint, fingerprint_of
from store.folder import open_parts
from store.invalidate import refuse_disowned
from store.provenance import Provenance
from store.release import Release, Widening, WideningReason
from store.shelf import Blob
from store.target import Target
from store.verdict import VerifiedWheel
from store.widening import check_serves, prove

_LOG: Final = logging.getLogger("wheelfarm.store")
_TRIES: Final = 3
_LONGEST_NAME: Final = 255 - len(".metadata")
# Bytes. PostgreSQL indexes no row beyond some 2,700, and a source is unique by its origin, too.
_LONGEST_LOCATION: Final = 2_000
_COMPARED: Final = (
    "filename",
    "sha256",
    "size",
    "content_sha256",
    "name",
    "version",
    "tags",
    "requires_python",
    "metadata",
    "extension_modules",
    "interpreter_bound",
)


class Verifier(Protocol):
    """Reads the wheel at `path` and gives what its bytes say; raises when they do not hold."""

    def __call__(self, path: Path) -> VerifiedWheel:
        """The wheel as it is, under the file name that it has."""
        ...


Fence = Callable[[Connection], None]
"""Refuses, inside the publishing transaction, who may not publish any more."""


def _no_fence(_connection: Connection) -> None:
    """Lets everybody pass."""


Quota = Callable[[Channel], int | None]
"""How many bytes of wheels a channel may hold; None for no limit."""


def _no_quota(_channel: Channel) -> int | None:
    """No channel has a limit."""
    return None


class _Swept(Exception):  # noqa: N818  # no trouble, but a reason to begin again
    """A garbage collection took a blob that this publication found on its shelf."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Papers:
    """For whom a wheel is published, and the record of how it came to be."""

    target: Target
    provenance: Provenance


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """A folder of blobs and the catalogue of what they are. `Store.open` makes one."""

    root: Path
    blobs: Blobs
    catalogue: Catalogue
    database: Database
    verifier: Verifier | None
    quota: Quota = _no_quota

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        database: str | None = None,
        blobs: str | None = None,
        verifier: Verifier | None = None,
        quota: Quota = _no_quota,
        inheritance: Inheritance = Inheritance(),  # noqa: B008  # frozen
        create: bool = True,
    ) -> Store:
        """The store in the folder `path`, its tables brought up to date.

        Its catalogue and its blobs are in the folder; in PostgreSQL where `database`, and in a
        bucket where `blobs` is a URL. A new store when the folder is empty or absent and `create`
        is set. `inheritance`: which channels list what others have. Without a verifier it serves
        and explains, and takes nothing. Raises NotAStoreError for a folder of something else, and
        a database or bucket of another store; UsageError for what is no URL; StoreError for trouble
        with disk, server or bucket.
        """
        parts = open_parts(path, database, blobs, create=create)
        kept = Blobs(path, parts.shelf)
        try:
            kept.prepare()
        except BaseException:
            parts.database.close()
            raise
        return cls(
            root=path,
            blobs=kept,
            catalogue=Catalogue(parts.database, inheritance),
            database=parts.database,
            verifier=verifier,
            quota=quota,
        )

    def close(self) -> None:
        """Close the catalogue."""
        self.database.close()

    def put(
        self,
        wheel: VerifiedWheel,
        *,
        provenance: Provenance,
        channel: Channel,
        target: Target,
        log: Path,
        fence: Fence = _no_fence,
    ) -> Release:
        """Publish `wheel` for `target` in `channel`; give the release that now stands.

        The same build again changes nothing but that a blob which is missing is put back. When the
        BuildKey has a release of other bytes, that first one stands and is given (its `sha256`
        differs from the wheel's), and the log says so. `log` is the build's log file. `fence` is
        called inside the transaction that makes the release seen, and may refuse by an error of
        its own.

        Raises PolicyError when channel or target may not have it; NotProvenError when its bytes
        or its papers say otherwise; NameTakenError when the file name has other bytes;
        DisownedError when these bytes, or what went into them, were taken back; QuotaError when
        the channel is full; StoreError.
        """
        papers = [Papers(target=target, provenance=provenance)]
        return self.put_all(wheel, papers, channel=channel, log=log, fence=fence)[0]

    def put_all(
        self,
        wheel: VerifiedWheel,
        papers: Sequence[Papers],
        *,
        channel: Channel,
        log: Path,
        fence: Fence = _no_fence,
    ) -> list[Release]:
        """Publish `wheel` for several targets at once, or for none of them; as `put` does.

        All papers are about one log. Gives the release of each, in order.
        """
        for each in papers:
            _check_papers(wheel, each.provenance, each.target)
            admit(each.provenance.source, channel)
        for _ in range(_TRIES):
            with suppress(_Swept):
                return self._put(wheel, papers, channel, log, fence)
        raise StoreError(
            f"the blobs of {wheel.filename} are swept as soon as they are kept",
            hint="let the garbage collection have a longer grace",
        )

    def _put(
        self,
        wheel: VerifiedWheel,
        papers: Sequence[Papers],
        channel: Channel,
        log: Path,
        fence: Fence,
    ) -> list[Release]:
        with (
            self.blobs.stage_file(wheel.path, wheel.filename) as staged,
            self.blobs.stage_file(log, "build.log") as staged_log,
        ):
            seen = self._verify_again(wheel, staged)
            for each in papers:
                _check_log(staged_log, each.provenance)
                check_serves(seen.filename, seen.tags, seen.interpreter_bound, each.target)
            found = self._standing(seen, papers, channel)
            if any(each is None or each.sha256 == seen.sha256 for each in found):
                self._keep(staged, staged_log, seen)
            releases = [each for each in found if each is not None]
            if len(releases) < len(papers):
                releases = self._list(seen, papers, channel, fence)
        for release in releases:
            _say_which_stands(release, seen)
        return releases

    def keep(self, path: Path) -> Blob:
        """Keep a file (an sdist, a log) as a blob that no release names."""
        for _ in range(_TRIES):
            blob = self.blobs.put_file(path)
            with self.database.writing() as connection:
                # What is swept is swept under this lock, so what is there now stays.
                if self.blobs.has(blob):
                    catalogue.record_blob(connection, blob.sha256, blob.size)
                    return blob
        raise StoreError(f"the bytes of {path.name} are swept as soon as they are kept")

    def widen(self, release: Release, fingerprint: Fingerprint, reason: WideningReason) -> Widening:
        """Let `release` serve `fingerprint` as well, once `reason` is proved; record the proof.

        Raises PolicyError when it does not hold, NotFoundError when the store does not know the
        fingerprint (`Catalogue.remember_target` tells it).
        """
        evidence = prove(self.catalogue, release, fingerprint, reason)
        widening = Widening(
            release_id=release.id,
            fingerprint=fingerprint,
            reason=reason,
            evidence=evidence,
            recorded_at=catalogue.now(),
        )
        with self.database.writing() as connection:
            catalogue.record_widening(connection, widening)
        return widening

    def _verify_again(self, wheel: VerifiedWheel, staged: Staged) -> VerifiedWheel:
        """What the verifier reads in the bytes that the store has just copied."""
        if self.verifier is None:
            raise StoreError("this store was opened to be read: it has no verifier")
        _compare("sha256", wheel.sha256, staged.blob.sha256, wheel.filename)
        seen = self.verifier(staged.path)
        for field in _COMPARED:
            _compare(field, getattr(wheel, field), getattr(seen, field), wheel.filename)
        return seen

    def _standing(
        self, wheel: VerifiedWheel, papers: Sequence[Papers], channel: Channel
    ) -> list[Release | None]:
        """The release that each of `papers` has already, as one state of the catalogue has them."""
        with self.database.reading() as connection:
            return [_standing(connection, wheel, each.provenance, channel) for each in papers]

    def _keep(self, staged: Staged, staged_log: Staged, wheel: VerifiedWheel) -> None:
        """Blobs come before rows: a row never names bytes that are not there."""
        self.blobs.adopt(staged)
        self.blobs.adopt(staged_log)
        self.blobs.put_bytes(wheel.metadata)

    def _list(
        self, wheel: VerifiedWheel, papers: Sequence[Papers], channel: Channel, fence: Fence
    ) -> list[Release]:
        """All rows in one transaction, but those that another process was first with.

        Raises _Swept where a blob is gone again: blobs are swept under the same lock, so those
        that are there now stay.
        """
        with self.database.writing() as connection:
            fence(connection)
            return [self._list_one(connection, wheel, each, channel) for each in papers]

    def _list_one(
        self, connection: Connection, wheel: VerifiedWheel, papers: Papers, channel: Channel
    ) -> Release:
        provenance = papers.provenance
        if standing := _standing(connection, wheel, provenance, channel):
            return standing
        check_status(connection, wheel.name, channel)
        self._check_there(wheel, provenance)
        check_quota(connection, channel, wheel, self.quota(channel))
        _record(connection, wheel, provenance, channel, papers.target)
        release = _standing(connection, wheel, provenance, channel)
        assert release is not None
        if channel != UPSTREAM:  # an index may have several wheels of a version: tags choose there
            catalogue.supersede(connection, release)
        return release

    def _check_there(self, wheel: VerifiedWheel, provenance: Provenance) -> None:
        metadata = Blob(sha256=catalogue.metadata_blob(wheel)[0], size=len(wheel.metadata))
        log = Blob(sha256=provenance.log_sha256, size=provenance.log_size)
        wheel_blob = Blob(sha256=wheel.sha256, size=wheel.size)
        if not all(map(self.blobs.has, (wheel_blob, metadata, log))):
            raise _Swept


def check_quota(
    connection: Connection, channel: Channel, wheel: VerifiedWheel | Release, most: int | None
) -> None:
    """Raise QuotaError when the channel has no room for a file that it does not have yet."""
    if most is None or catalogue.channel_has(connection, channel, wheel.filename):
        return
    held = catalogue.channel_size(connection, channel)
    if held + wheel.size > most:
        raise QuotaError(
            f"the channel {channel} holds {held} bytes of wheels; with the {wheel.size} of "
            f"{wheel.filename} it would be over its quota of {most}",
            hint="`wheelfarm gc` frees what its rules do not keep; quota-mib raises it",
        )


def _check_papers(wheel: VerifiedWheel, provenance: Provenance, target: Target) -> None:
    """Hold the provenance against the wheel and the target that it is said to belong to."""
    _check_name(wheel)
    source, inputs, name = provenance.source, provenance.inputs, wheel.filename
    _compare("fingerprint", provenance.fingerprint, fingerprint_of(target), name)
    _compare("name", canonicalize_name(source.name), canonicalize_name(wheel.name), name)
    _compare("version", source.version, wheel.version, name)
    _compare("source sha256", source.sha256, inputs.source_sha256, name)
    _check_text(wheel, provenance)


def _check_name(wheel: VerifiedWheel) -> None:
    name = wheel.filename
    try:
        project, version, _, tags = parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        raise MalformedError(f"not a wheel's file name: {name[:80]!r}") from error
    if len(name) > _LONGEST_NAME or not name.isascii() or "/" in name or not name.isprintable():
        raise MalformedError(f"not a file name that the store can keep: {name[:80]!r}")
    _compare("name", canonicalize_name(wheel.name), project, name)
    _compare("version", wheel.version, str(version), name)
    _compare("tags", wheel.tags, tags, name)


def _check_text(wheel: VerifiedWheel, provenance: Provenance) -> None:
    source, location = provenance.source, provenance.source.origin.location
    try:
        canonical_json(provenance.to_json())
        longest = len(location.encode("utf-8"))
    except (UnicodeEncodeError, TypeError) as error:
        raise MalformedError(f"the provenance has no canonical form: {error}") from error
    if longest > _LONGEST_LOCATION:
        raise MalformedError(f"the sdist's origin is longer than {_LONGEST_LOCATION} bytes")
    # PostgreSQL holds no NUL, so no catalogue does.
    if any("\0" in text for text in (location, source.filename, wheel.requires_python or "")):
        raise MalformedError(f"{wheel.filename}: a NUL in its papers")


def _check_log(staged: Staged, provenance: Provenance) -> None:
    name = provenance.source.filename
    _compare("log sha256", provenance.log_sha256, staged.blob.sha256, name)
    _compare("log size", provenance.log_size, staged.blob.size, name)


def _compare(field: str, told: object, seen: object, filename: str) -> None:
    if told != seen:
        raise NotProvenError(
            f"{filename}: its {field} is {_short(seen)}, not {_short(told)} as stated",
            hint="it changed after it was verified, or its papers belong to another wheel",
        )


def _short(value: object) -> str:
    if isinstance(value, frozenset):
        return ", ".join(sorted(map(str, value)))[:300] or "empty"
    return f"{value!r:.100}"


def _standing(
    connection: Connection, wheel: VerifiedWheel, provenance: Provenance, channel: Channel
) -> Release | None:
    """The release that the build has already.

    Where there is none, raises NameTakenError when the file name or the bytes are taken, and
    DisownedError when the bytes or what went into them were disowned.
    """
    key, fingerprint = provenance.inputs.key, provenance.fingerprint
    if first := catalogue.release_of_build(connection, channel, fingerprint, key):
        return first
    if taken := catalogue.file_conflict(connection, wheel.filename, wheel.sha256):
        raise _name_taken(wheel.filename, wheel.sha256, *taken)
    refuse_disowned(connection, wheel.filename, provenance.inputs.to_json())
    return None


def _name_taken(filename: str, sha256: Sha256, old_name: str, old_sha256: str) -> NameTakenError:
    if old_name == filename:
        return NameTakenError(
            f"{filename} is published with other bytes ({old_sha256[:12]}, not {sha256[:12]})",
            hint="a name never has two contents: give the wheel a build tag made from its content",
        )
    return NameTakenError(
        f"the bytes of {filename} are published as {old_name}",
        hint="publish them under that name",
    )


def check_status(connection: Connection, project: str, channel: Channel) -> None:
    """Raise PolicyError when the channel takes no new wheel of the project (PEP 792)."""
    name = canonicalize_name(project)
    said = catalogue.status_of(connection, channel, name)
    if not said.takes_wheels:
        raise PolicyError(
            f"{name} is {said.status} in {channel} and takes no new wheel"
            f"{f': {said.reason}' if said.reason else ''}",
            hint=f"`wheelfarm status {name} active` opens it again",
        )


def _record(
    connection: Connection,
    wheel: VerifiedWheel,
    provenance: Provenance,
    channel: Channel,
    target: Target,
) -> None:
    metadata = catalogue.metadata_blob(wheel)
    catalogue.record_blob(connection, wheel.sha256, wheel.size)
    catalogue.record_blob(connection, *metadata)
    catalogue.record_blob(connection, provenance.log_sha256, provenance.log_size)
    catalogue.record_target(connection, target)
    catalogue.record_file(connection, wheel, metadata[0])
    source_id = catalogue.record_source(connection, provenance.source)
    catalogue.record_release(connection, channel, provenance, wheel, source_id)


def _say_which_stands(release: Release, wheel: VerifiedWheel) -> None:
    if release.sha256 != wheel.sha256:
        _LOG.warning(
            "build %s gave %s this time; its first release %s stands",
            release.build_key[:12],
            wheel.filename,
            release.filename,
        )
