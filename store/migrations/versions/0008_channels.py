"""Promotions, wheels of an index as sources, names that are local, what was refused upstream."""

from collections.abc import Iterator
from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion

revision = "0008"
down_revision = "0007"

_ORIGINS = "origin_kind IN ('index', 'local', 'vcs', 'upload', 'index-wheel')"


def upgrade() -> None:
    """Make the column and the tables, change the constraint, note the names."""
    op.add_column("releases", sa.Column("promotion", sa.Text(), nullable=True))
    local_names = op.create_table(
        "local_names",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_local_names")),
    )
    op.create_table(
        "upstream_refusals",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("findings", sa.Text(), nullable=False),
        sa.Column("refused_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_upstream_refusals")),
    )
    op.create_index("ix_upstream_refusals_name", "upstream_refusals", ["name"])
    if rows := [{"name": name, "since": datetime.now(UTC)} for name in sorted(set(_local()))]:
        op.bulk_insert(local_names, rows)
    if op.get_bind().dialect.name == "sqlite":
        _allow_adopted_by_copying()
        return
    op.drop_constraint(op.f("ck_sources_origin_kind"), "sources", type_="check")
    op.create_check_constraint(op.f("ck_sources_origin_kind"), "sources", _ORIGINS)


def _local() -> Iterator[str]:
    """What came from elsewhere than an index so far, as far as rows tell of it still."""
    connection = op.get_bind()
    query = "SELECT DISTINCT name FROM sources WHERE origin_kind <> 'index'"
    for name in connection.execute(sa.text(query)).scalars():
        yield canonicalize_name(name)
    for filename in connection.execute(sa.text("SELECT filename FROM uploads")).scalars():
        parse = parse_wheel_filename if filename.endswith(".whl") else parse_sdist_filename
        try:
            yield parse(filename)[0]
        except (InvalidSdistFilename, InvalidWheelFilename, InvalidVersion):
            continue  # it was never taken under such a name


def _allow_adopted_by_copying() -> None:
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
