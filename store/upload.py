"""What was uploaded: under which name, and whom it may serve beside what was built here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from packaging.utils import canonicalize_name
from sqlalchemy import Connection, select

from store.channel import Channel
from store.database import clock, insert_new
from store.digest import Sha256
from store.errors import NameTakenError
from store.fingerprint import Fingerprint
from store.schema import files, releases, sources, uploads
from store.target import Target
from store.verdict import VerifiedWheel

UPLOAD: Final = "upload"
"""The kind of the origin of a wheel that was uploaded."""


def check_name(connection: Connection, channel: Channel, filename: str, sha256: Sha256) -> None:
    """Raise NameTakenError when other bytes were uploaded under that name in the channel."""
    kept = uploads.c.channel == channel, uploads.c.filename == filename
    known = connection.execute(select(uploads.c.sha256).where(*kept)).scalar()
    if known not in {None, sha256}:
        raise NameTakenError(
            f"{filename[:200]} already exists in {channel} with other bytes "
            f"({known[:12]}, not {sha256[:12]})",
            hint="a name never has two contents: raise the version",
        )


def take_name(
    connection: Connection, channel: Channel, filename: str, sha256: Sha256, who: str
) -> None:
    """Note that these bytes have that name in the channel. Raises NameTakenError."""
    check_name(connection, channel, filename, sha256)
    row = {
        "channel": channel,
        "filename": filename,
        "sha256": sha256,
        "uploaded_at": clock(connection),
        "uploaded_by": who,
    }
    if not insert_new(connection, uploads, row):  # somebody was first with it, or with others
        check_name(connection, channel, filename, sha256)


def better_served(
    connection: Connection,
    channel: Channel,
    wheel: VerifiedWheel,
    targets: Mapping[Fingerprint, Target],
) -> frozenset[Fingerprint]:
    """Which of `targets` have a wheel of the version already that an upload does not replace.

    What was built here is better than any upload; of two uploads the one that the target's
    installer would prefer, by its tags.
    """
    query = (
        select(releases.c.fingerprint, files.c.tags, sources.c.origin_kind)
        .join_from(releases, files)
        .join(sources, releases.c.source_id == sources.c.id)
        .where(
            releases.c.channel == channel,
            releases.c.project == canonicalize_name(wheel.name),
            files.c.version == wheel.version,
            files.c.filename != wheel.filename,
            releases.c.yanked.is_(None),
            releases.c.disowned.is_(None),
        )
    )
    found = [row for row in connection.execute(query) if row.fingerprint in targets]
    return frozenset(
        Fingerprint(row.fingerprint)
        for row in found
        if row.origin_kind != UPLOAD
        or _rank(row.tags, targets[Fingerprint(row.fingerprint)])
        < _rank(map(str, wheel.tags), targets[Fingerprint(row.fingerprint)])
    )


def _rank(tags: Iterable[str], target: Target) -> int:
    """The place of the best of `tags` in the target's order; the lower the better."""
    wanted, order = frozenset(tags), list(map(str, target.supported_tags()))
    return next((place for place, tag in enumerate(order) if tag in wanted), len(order))
