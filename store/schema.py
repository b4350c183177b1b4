"""The tables of the catalogue. How a catalogue gets them: `store/migrations`.

What is in the bytes of a wheel is kept once, in `files`; who may have it, in `releases`. JSON is
kept as canonical text, times as UTC, and there are no floats.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
)

from store.digest import JSON, canonical_json

HEAD: Final = "0002"
"""The newest revision in `store/migrations/versions`: what this code reads and writes."""


class CanonicalJson(TypeDecorator[JSON]):
    """A JSON value as its canonical text, which compares as bytes and holds no float."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: JSON | None, dialect: Dialect) -> str:  # noqa: ARG002
        """The text to keep."""
        return canonical_json(value).decode()

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value that was kept."""
        return None if value is None else json.loads(value)


class UtcTime(TypeDecorator[datetime]):
    """A moment: aware on both sides, UTC in between."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The moment in UTC. Raises ValueError for a naive one."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a moment without a time zone")
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """The moment, in UTC: SQLite gives it back without a zone, PostgreSQL in the session's."""
        if value is None or value.tzinfo is not None:
            return None if value is None else value.astimezone(UTC)
        return value.replace(tzinfo=UTC)


metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_DIGEST: Final = String(64)

blobs: Final = Table(
    "blobs",
    metadata,
    Column("sha256", _DIGEST, primary_key=True),
    Column("size", BigInteger, nullable=False),
    CheckConstraint("length(sha256) = 64 AND size >= 0", name="digest"),
)

sources: Final = Table(
    "sources",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("sha256", _DIGEST, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("origin_kind", Text, nullable=False),
    Column("origin_location", Text, nullable=False),
    Column("origin_pinned", Boolean, nullable=False),
    # Named by hand: PostgreSQL cuts names at 63 bytes.
    UniqueConstraint(
        "sha256",
        "filename",
        "origin_kind",
        "origin_location",
        "origin_pinned",
        name="uq_sources_identity",
    ),
    CheckConstraint("origin_kind IN ('index', 'local', 'vcs')", name="origin_kind"),
)

targets: Final = Table(
    "targets",
    metadata,
    Column("fingerprint", String(200), primary_key=True),
    Column("identity", CanonicalJson, nullable=False),
)

# A name never has two contents, and a content never two names: both columns are unique.
files: Final = Table(
    "files",
    metadata,
    Column("filename", String(255), primary_key=True),
    Column("sha256", _DIGEST, ForeignKey("blobs.sha256"), nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("tags", CanonicalJson, nullable=False),
    Column("requires_python", Text),
    Column("metadata_sha256", _DIGEST, ForeignKey("blobs.sha256"), nullable=False),
    Column("content_sha256", _DIGEST, nullable=False),
    Column("extension_modules", CanonicalJson, nullable=False),
    Column("interpreter_bound", CanonicalJson, nullable=False),
)

releases: Final = Table(
    "releases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("channel", String(80), nullable=False),
    Column("fingerprint", String(200), ForeignKey("targets.fingerprint"), nullable=False),
    Column("build_key", _DIGEST, nullable=False),
    Column("filename", String(255), ForeignKey("files.filename"), nullable=False),
    Column("source_id", Integer, ForeignKey("sources.id"), nullable=False),
    Column("log_sha256", _DIGEST, ForeignKey("blobs.sha256"), nullable=False),
    Column("provenance", CanonicalJson, nullable=False),
    Column("proof", Text, nullable=False),
    Column("published_at", UtcTime, nullable=False),
    Column("yanked", Text),
    UniqueConstraint("channel", "fingerprint", "build_key"),
    Index(None, "channel", "fingerprint", "filename"),
    Index(None, "filename"),
    Index(None, "build_key"),
)

widenings: Final = Table(
    "widenings",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("release_id", Integer, ForeignKey("releases.id"), nullable=False),
    Column("fingerprint", String(200), ForeignKey("targets.fingerprint"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("evidence", CanonicalJson, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    UniqueConstraint("release_id", "fingerprint"),
    Index(None, "fingerprint"),
    CheckConstraint("reason IN ('same-content', 'abi3', 'linkage-free')", name="reason"),
)

resolutions: Final = Table(
    "resolutions",
    metadata,
    Column("key", _DIGEST, primary_key=True),
    Column("pins", CanonicalJson, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
)

# At most one row: which store's folder this catalogue belongs to. See `store/folder.py`.
identity: Final = Table(
    "identity",
    metadata,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    CheckConstraint("row = 1", name="row"),
)
