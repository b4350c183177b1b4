"""The tables of the catalogue. How a catalogue gets them: `store/migrations`.

What is in the bytes of a wheel is kept once, in `files`; who may have it, in `releases`; what was
taken back, in `invalidations`; what is still to be built, in `jobs`; who may ask, in `tokens`; who
changed what, in `audit`. JSON is kept as canonical text, times as UTC, and there are no floats.
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
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

from store.digest import JSON, canonical_json

HEAD: Final = "0009"
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
    # When a garbage collection found that nothing names it; see `store/garbage.py`.
    Column("condemned_at", UtcTime),
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
    CheckConstraint(
        "origin_kind IN ('index', 'local', 'vcs', 'upload', 'index-wheel')", name="origin_kind"
    ),
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
    Index(None, "metadata_sha256"),
    Index("ix_files_name", "name", "version"),
)

# A yank or a disowning that somebody ordered, and what it was ordered of: `store/invalidate.py`.
invalidations: Final = Table(
    "invalidations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("verb", String(16), nullable=False),
    Column("selection", CanonicalJson, nullable=False),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("undone_at", UtcTime),
    Column("undone_by", String(200)),
    CheckConstraint("verb IN ('yank', 'disown')", name="verb"),
)

STANDING: Final = text("disowned IS NULL")
"""Said in just these words, the engines know that the index over standing releases will do."""

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
    # The order that took it back; NULL while it stands.
    Column("disowned", Integer, ForeignKey("invalidations.id")),
    # Whence, by whom, when and why it was promoted; NULL or JSON's null where it was not.
    Column("promotion", CanonicalJson),
    # The name of its file's project, here as well: pages are found by it.
    Column("project", Text, nullable=False),
    # A build has one release that stands, and as many as were disowned.
    Index(
        "uq_releases_standing",
        "channel",
        "fingerprint",
        "build_key",
        unique=True,
        sqlite_where=STANDING,
        postgresql_where=STANDING,
    ),
    Index(None, "channel", "fingerprint", "filename"),
    Index("ix_releases_project", "channel", "project", "fingerprint"),
    Index(None, "filename"),
    Index(None, "build_key"),
    Index(None, "source_id"),
    Index(None, "log_sha256"),
)

# What went into a release's build, each by its digest: whoever takes back a build requirement
# takes back what was made with it.
release_requirements: Final = Table(
    "release_requirements",
    metadata,
    Column("release_id", Integer, ForeignKey("releases.id"), primary_key=True),
    Column("sha256", _DIGEST, primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", Text, nullable=False),
    Index("ix_release_requirements_sha256", "sha256"),
    Index("ix_release_requirements_name", "name", "version"),
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
    # The order that took away its proof; NULL while it holds.
    Column("disowned", Integer, ForeignKey("invalidations.id")),
    # That of its release, here as well.
    Column("project", Text, nullable=False),
    UniqueConstraint("release_id", "fingerprint"),
    Index(None, "fingerprint"),
    Index("ix_widenings_project", "fingerprint", "project"),
    CheckConstraint("reason IN ('same-content', 'abi3', 'linkage-free')", name="reason"),
)

# Which releases an order struck, and the reason of the yank that each had before.
invalidated: Final = Table(
    "invalidated",
    metadata,
    Column("invalidation_id", Integer, ForeignKey("invalidations.id"), primary_key=True),
    Column("release_id", Integer, ForeignKey("releases.id"), primary_key=True),
    Column("yanked_before", Text),
    Column("lifted_at", UtcTime),
    Index("ix_invalidated_release", "release_id"),
)

# Which environments were given which file, to the day: `store/servings.py`.
servings: Final = Table(
    "servings",
    metadata,
    Column("channel", String(80), primary_key=True),
    Column("fingerprint", String(200), primary_key=True),
    Column("filename", String(255), ForeignKey("files.filename"), primary_key=True),
    Column("first_on", String(10), nullable=False),
    Column("last_on", String(10), nullable=False),
    Index("ix_servings_filename", "filename"),
)

# What the garbage collection must keep, whatever the channel's rule says: `store/retention.py`.
pins: Final = Table(
    "pins",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("by", String(200), nullable=False),
    Column("at", UtcTime, nullable=False),
)

resolutions: Final = Table(
    "resolutions",
    metadata,
    Column("key", _DIGEST, primary_key=True),
    Column("pins", CanonicalJson, nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
)

# The farm. A job is one build to do, a row that workers lease; `workers/farm` says what it means.
_NUMBER: Final = BigInteger().with_variant(Integer, "sqlite")  # only INTEGER counts by itself there
OPEN_JOBS: Final = text("state IN ('waiting', 'running')")
"""Said in just these words, the engines know that the index over the open jobs will do."""

jobs: Final = Table(
    "jobs",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("work_key", _DIGEST, nullable=False),
    Column("build_key", _DIGEST),
    Column("label", Text, nullable=False),
    Column("fingerprint", String(200), nullable=False),
    Column("channel", String(80), nullable=False),
    Column("work", CanonicalJson, nullable=False),
    Column("state", String(16), nullable=False),
    Column("queue", String(250), nullable=False),
    Column("nice", Integer, nullable=False),
    Column("rank", BigInteger, nullable=False),
    Column("submitter", String(200), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("tries", CanonicalJson, nullable=False),
    Column("owner", String(100)),
    Column("avoid", String(100)),
    Column("lease_until", UtcTime),
    Column("heartbeat_at", UtcTime),
    Column("not_before", UtcTime),
    Column("failure", String(32)),
    Column("outcome", CanonicalJson, nullable=False),
    Column("log_sha256", _DIGEST),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("finished_at", UtcTime),
    CheckConstraint(
        "state IN ('waiting', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
    ),
    # Single flight: one open job for one piece of work, however many ask for it.
    Index(
        "uq_jobs_open_work",
        "work_key",
        unique=True,
        sqlite_where=OPEN_JOBS,
        postgresql_where=OPEN_JOBS,
    ),
    Index("ix_jobs_next", "state", "queue", "nice", "rank", "id"),
    Index("ix_jobs_rank", "state", "rank"),
    Index("ix_jobs_submitter", "submitter", "state", "rank"),
    Index("ix_jobs_lease", "state", "lease_until"),
    Index("ix_jobs_build_key", "build_key"),
    Index("ix_jobs_log", "log_sha256"),
)

job_events: Final = Table(
    "job_events",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("job_id", _NUMBER, ForeignKey("jobs.id"), nullable=False),
    Column("at", UtcTime, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("worker", String(100)),
    Column("detail", CanonicalJson, nullable=False),
    Index("ix_job_events_job", "job_id", "id"),
)

# What a running build has printed, piece by piece; gone when its log is a blob.
log_pieces: Final = Table(
    "log_pieces",
    metadata,
    Column("job_id", _NUMBER, ForeignKey("jobs.id"), primary_key=True),
    Column("token", BigInteger, primary_key=True, autoincrement=False),
    Column("start", BigInteger, primary_key=True, autoincrement=False),
    Column("data", LargeBinary, nullable=False),
)

submissions: Final = Table(
    "submissions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("submitter", String(200), nullable=False),
    Column("call", CanonicalJson, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    # The planner's lease while it plans; then the submitter's, where it must stay (a local run).
    Column("planner", String(100)),
    Column("lease_until", UtcTime),
    Column("planned_at", UtcTime),
    Column("cancelled_at", UtcTime),
    Column("error", CanonicalJson, nullable=False),
    Index("ix_submissions_planned", "planned_at", "lease_until"),
)

submission_items: Final = Table(
    "submission_items",
    metadata,
    Column("submission_id", String(32), ForeignKey("submissions.id"), primary_key=True),
    Column("place", Integer, primary_key=True, autoincrement=False),
    Column("job_id", _NUMBER, ForeignKey("jobs.id")),
    Column("target", Text, nullable=False),
    Column("outcome", CanonicalJson, nullable=False),
    Index("ix_submission_items_job", "job_id"),
)

farm_workers: Final = Table(
    "farm_workers",
    metadata,
    Column("id", String(100), primary_key=True),
    Column("state", String(16), nullable=False),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("queues", CanonicalJson, nullable=False),
    Column("facts", CanonicalJson, nullable=False),
    Column("strikes", Integer, nullable=False),
    Column("losing_run", Integer, nullable=False),
    Column("reason", Text),
    Column("started_at", UtcTime, nullable=False),
    Column("heartbeat_at", UtcTime, nullable=False),
    CheckConstraint("state IN ('ready', 'draining', 'set-aside', 'gone')", name="state"),
)

# What a worker's toolchain is, so that a planner knows a BuildKey without having the toolchain.
farm_toolchains: Final = Table(
    "farm_toolchains",
    metadata,
    Column("worker_id", String(100), ForeignKey("farm_workers.id"), primary_key=True),
    Column("fingerprint", String(200), primary_key=True),
    Column("name", Text, nullable=False),
    Column("sha256", _DIGEST, nullable=False),
    Column("identity", CanonicalJson, nullable=False),
    Column("tools", CanonicalJson, nullable=False),
    Index("ix_farm_toolchains_fingerprint", "fingerprint"),
)

failures: Final = Table(
    "failures",
    metadata,
    Column("build_key", _DIGEST, primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("outcome", CanonicalJson, nullable=False),
    Column("worker", String(100)),
    Column("recorded_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

# No row means that a project is active.
project_statuses: Final = Table(
    "project_statuses",
    metadata,
    Column("channel", String(80), primary_key=True),
    Column("name", String(255), primary_key=True),
    Column("status", String(16), nullable=False),
    Column("reason", Text),
    Column("recorded_at", UtcTime, nullable=False),
    CheckConstraint("status IN ('archived', 'quarantined', 'deprecated')", name="status"),
)

# Every project of which a build or an upload came from elsewhere than an index, at any time and in
# any channel: its name is never looked up upstream. Rows are never removed.
local_names: Final = Table(
    "local_names",
    metadata,
    Column("name", Text, primary_key=True),
    Column("since", UtcTime, nullable=False),
)

# Files of an index that were looked at and refused: by its digest, so that another file of that
# name is looked at.
upstream_refusals: Final = Table(
    "upstream_refusals",
    metadata,
    Column("sha256", _DIGEST, primary_key=True),
    Column("filename", String(255), nullable=False),
    Column("name", Text, nullable=False),
    Column("code", String(40), nullable=False),
    Column("message", Text, nullable=False),
    Column("findings", CanonicalJson, nullable=False),
    Column("refused_at", UtcTime, nullable=False),
    Index("ix_upstream_refusals_name", "name"),
)

# At most one row: which store this catalogue belongs to. See `store/folder.py`.
identity: Final = Table(
    "identity",
    metadata,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("store_id", String(32), nullable=False),
    CheckConstraint("row = 1", name="row"),
)

# One row, whose value is another one after each change of the tables that pages are made of:
# triggers see to it (revision 0009). See `Database.generation`.
generation: Final = Table(
    "generation",
    metadata,
    Column("row", Integer, primary_key=True, autoincrement=False),
    Column("value", String(36), nullable=False),
    CheckConstraint("row = 1", name="row"),
)

SHOWN: Final = frozenset(
    {files, invalidations, local_names, project_statuses, releases, targets, widenings}
)
"""The tables that pages and the finding of files read: what changes the generation. (Of a blob they
read the size, which is that of its digest.) One more needs triggers, in a migration, and so does
one that a migration makes anew."""

# Who may do what. Of a token's text only the digest is here; `store/token.py` says why it does.
tokens: Final = Table(
    "tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", Text, nullable=False),
    Column("digest", _DIGEST, nullable=False),
    Column("scopes", CanonicalJson, nullable=False),
    Column("channels", CanonicalJson, nullable=False),
    Column("origin", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("created_by", Text, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    Column("revoked_at", UtcTime),
    CheckConstraint("origin IN ('made', 'minted')", name="origin"),
    Index("ix_tokens_over", "origin", "expires_at"),
)

# Who changed what. No reference to a token: what is over is removed, its deeds stay.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", _NUMBER, primary_key=True),
    Column("at", UtcTime, nullable=False),
    Column("who", Text, nullable=False),
    Column("token", String(12)),
    Column("address", Text),
    Column("action", String(40), nullable=False),
    Column("object", Text, nullable=False),
    Column("result", String(40), nullable=False),
    Column("detail", CanonicalJson, nullable=False),
    Index("ix_audit_at", "at"),
    Index("ix_audit_who", "who", "id"),
    Index("ix_audit_token", "token", "id"),
)

# Under which name which bytes were uploaded: a name never means two files in one channel. What is
# served has a name of its own, made from its content.
uploads: Final = Table(
    "uploads",
    metadata,
    Column("channel", String(80), primary_key=True),
    Column("filename", String(255), primary_key=True),
    Column("sha256", _DIGEST, nullable=False),
    Column("uploaded_at", UtcTime, nullable=False),
    Column("uploaded_by", Text, nullable=False),
)
