"""The first tables: blobs, sources, targets, files, releases, widenings, resolutions.

A revision says types of the database, not of `store.schema`: it must still mean the same when the
schema has moved on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("length(sha256) = 64 AND size >= 0", name=op.f("ck_blobs_digest")),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_table(
        "resolutions",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("pins", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_resolutions")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("origin_kind", sa.Text(), nullable=False),
        sa.Column("origin_location", sa.Text(), nullable=False),
        sa.Column("origin_pinned", sa.Boolean(), nullable=False),
        sa.CheckConstraint(
            "origin_kind IN ('index', 'local', 'vcs')", name=op.f("ck_sources_origin_kind")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint(
            "sha256",
            "filename",
            "origin_kind",
            "origin_location",
            "origin_pinned",
            name="uq_sources_identity",
        ),
    )
    op.create_table(
        "targets",
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("identity", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", name=op.f("pk_targets")),
    )
    op.create_table(
        "files",
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("tags", sa.Text(), nullable=False),
        sa.Column("requires_python", sa.Text(), nullable=True),
        sa.Column("metadata_sha256", sa.String(length=64), nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("extension_modules", sa.Text(), nullable=False),
        sa.Column("interpreter_bound", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["metadata_sha256"], ["blobs.sha256"], name=op.f("fk_files_metadata_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], name=op.f("fk_files_sha256_blobs")),
        sa.PrimaryKeyConstraint("filename", name=op.f("pk_files")),
        sa.UniqueConstraint("sha256", name=op.f("uq_files_sha256")),
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("channel", sa.String(length=80), nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("build_key", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("source_id", sa.Integer(), nullable=False),
        sa.Column("log_sha256", sa.String(length=64), nullable=False),
        sa.Column("provenance", sa.Text(), nullable=False),
        sa.Column("proof", sa.Text(), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("yanked", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["filename"], ["files.filename"], name=op.f("fk_releases_filename_files")
        ),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["targets.fingerprint"], name=op.f("fk_releases_fingerprint_targets")
        ),
        sa.ForeignKeyConstraint(
            ["log_sha256"], ["blobs.sha256"], name=op.f("fk_releases_log_sha256_blobs")
        ),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_releases_source_id_sources")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
        sa.UniqueConstraint(
            "channel",
            "fingerprint",
            "build_key",
            name=op.f("uq_releases_channel_fingerprint_build_key"),
        ),
    )
    op.create_index(op.f("ix_releases_build_key"), "releases", ["build_key"], unique=False)
    op.create_index(
        op.f("ix_releases_channel_releases_fingerprint_releases_filename"),
        "releases",
        ["channel", "fingerprint", "filename"],
        unique=False,
    )
    op.create_index(op.f("ix_releases_filename"), "releases", ["filename"], unique=False)
    op.create_table(
        "widenings",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "reason IN ('same-content', 'abi3', 'linkage-free')", name=op.f("ck_widenings_reason")
        ),
        sa.ForeignKeyConstraint(
            ["fingerprint"], ["targets.fingerprint"], name=op.f("fk_widenings_fingerprint_targets")
        ),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases.id"], name=op.f("fk_widenings_release_id_releases")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_widenings")),
        sa.UniqueConstraint(
            "release_id", "fingerprint", name=op.f("uq_widenings_release_id_fingerprint")
        ),
    )
    op.create_index(op.f("ix_widenings_fingerprint"), "widenings", ["fingerprint"], unique=False)
