"""Accounts: tokens, the log of who changed what, and what was uploaded under which name."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

_ORIGINS = "origin_kind IN ('index', 'local', 'vcs', 'upload')"
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=12), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("channels", sa.Text(), nullable=False),
        sa.Column("origin", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("origin IN ('made', 'minted')", name=op.f("ck_tokens_origin")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tokens")),
    )
    op.create_index("ix_tokens_over", "tokens", ["origin", "expires_at"], unique=False)
    op.create_table(
        "audit",
        sa.Column("id", _NUMBER, nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("token", sa.String(length=12), nullable=True),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("result", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_token", "audit", ["token", "id"], unique=False)
    op.create_index("ix_audit_who", "audit", ["who", "id"], unique=False)
    op.create_table(
        "uploads",
        sa.Column("channel", sa.String(length=80), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("uploaded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("uploaded_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "filename", name=op.f("pk_uploads")),
    )
    if op.get_bind().dialect.name == "sqlite":
        _allow_uploads_by_copying()
        return
    op.drop_constraint(op.f("ck_sources_origin_kind"), "sources", type_="check")
    op.create_check_constraint(op.f("ck_sources_origin_kind"), "sources", _ORIGINS)


def _allow_uploads_by_copying() -> None:
    """SQLite changes no constraint. The table has its name all the time that rows refer to it: one
    that is renamed would take the references of other tables along."""
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE sources_before AS SELECT * FROM sources")
    op.drop_table("sources")
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
        sa.CheckConstraint(_ORIGINS, name=op.f("ck_sources_origin_kind")),
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
    op.execute("INSERT INTO sources SELECT * FROM sources_before")
    op.drop_table("sources_before")
