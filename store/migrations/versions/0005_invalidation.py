"""What was taken back and why, what was built with what, who was given which file, what is pinned.

A build may have a second release once its first is disowned, so the unique constraint over builds
becomes an index over those that stand. SQLite cannot drop a constraint: there the tables
`releases` and `widenings` are written anew, the second because it refers to the first.
"""

import json
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_STANDING = sa.text("disowned IS NULL")
_ROWS_AT_ONCE = 500


def upgrade() -> None:
    """Make the tables, and read what was built with what out of the provenance."""
    _make_invalidations()
    if op.get_bind().dialect.name == "sqlite":
        _rewrite_releases()
    else:
        _alter_releases()
    op.create_index(
        "uq_releases_standing",
        "releases",
        ["channel", "fingerprint", "build_key"],
        unique=True,
        sqlite_where=_STANDING,
        postgresql_where=_STANDING,
    )
    _make_the_rest()
    _let_garbage_be_found()
    _fill_requirements()


def _make_invalidations() -> None:
    op.create_table(
        "invalidations",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("verb", sa.String(length=16), nullable=False),
        sa.Column("selection", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("undone_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("undone_by", sa.String(length=200), nullable=True),
        sa.CheckConstraint("verb IN ('yank', 'disown')", name=op.f("ck_invalidations_verb")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invalidations")),
    )


def _alter_releases() -> None:
    op.drop_constraint("uq_releases_channel_fingerprint_build_key", "releases", type_="unique")
    for table in ("releases", "widenings"):
        op.add_column(table, sa.Column("disowned", sa.Integer(), nullable=True))
        name = f"fk_{table}_disowned_invalidations"
        op.create_foreign_key(op.f(name), table, "invalidations", ["disowned"], ["id"])


def _rewrite_releases() -> None:
    """Copy both tables; drop the old ones, the referring one first; take over their names.

    SQLite follows a renamed table in the references to it.
    """
    _make_new_releases()
    _make_new_widenings()
    for table in ("releases", "widenings"):
        bind = op.get_bind()
        names = ", ".join(column["name"] for column in sa.inspect(bind).get_columns(table))
        op.execute(f"INSERT INTO {table}_new ({names}) SELECT {names} FROM {table}")  # noqa: S608
    for table in ("widenings", "releases"):
        op.drop_table(table)
        op.rename_table(f"{table}_new", table)
    op.create_index(op.f("ix_releases_build_key"), "releases", ["build_key"])
    op.create_index(
        op.f("ix_releases_channel_releases_fingerprint_releases_filename"),
        "releases",
        ["channel", "fingerprint", "filename"],
    )
    op.create_index(op.f("ix_releases_filename"), "releases", ["filename"])
    op.create_index(op.f("ix_widenings_fingerprint"), "widenings", ["fingerprint"])


def _make_new_releases() -> None:
    op.create_table(
        "releases_new",
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
        sa.Column("disowned", sa.Integer(), nullable=True),
        _reference("releases", "filename", "files.filename"),
        _reference("releases", "fingerprint", "targets.fingerprint"),
        _reference("releases", "log_sha256", "blobs.sha256"),
        _reference("releases", "source_id", "sources.id"),
        _reference("releases", "disowned", "invalidations.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_releases")),
    )


def _make_new_widenings() -> None:
    op.create_table(
        "widenings_new",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("disowned", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "reason IN ('same-content', 'abi3', 'linkage-free')", name=op.f("ck_widenings_reason")
        ),
        _reference("widenings", "fingerprint", "targets.fingerprint"),
        sa.ForeignKeyConstraint(
            ["release_id"], ["releases_new.id"], name=op.f("fk_widenings_release_id_releases")
        ),
        _reference("widenings", "disowned", "invalidations.id"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_widenings")),
        sa.UniqueConstraint(
            "release_id", "fingerprint", name=op.f("uq_widenings_release_id_fingerprint")
        ),
    )


def _reference(table: str, column: str, to: str) -> sa.ForeignKeyConstraint:
    name = f"fk_{table}_{column}_{to.partition('.')[0]}"
    return sa.ForeignKeyConstraint([column], [to], name=op.f(name))


def _make_the_rest() -> None:
    op.create_table(
        "release_requirements",
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        _reference("release_requirements", "release_id", "releases.id"),
        sa.PrimaryKeyConstraint("release_id", "sha256", name=op.f("pk_release_requirements")),
    )
    op.create_index("ix_release_requirements_sha256", "release_requirements", ["sha256"])
    op.create_index("ix_release_requirements_name", "release_requirements", ["name", "version"])
    op.create_table(
        "invalidated",
        sa.Column("invalidation_id", sa.Integer(), nullable=False),
        sa.Column("release_id", sa.Integer(), nullable=False),
        sa.Column("yanked_before", sa.Text(), nullable=True),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        _reference("invalidated", "invalidation_id", "invalidations.id"),
        _reference("invalidated", "release_id", "releases.id"),
        sa.PrimaryKeyConstraint("invalidation_id", "release_id", name=op.f("pk_invalidated")),
    )
    op.create_index("ix_invalidated_release", "invalidated", ["release_id"])
    op.create_table(
        "servings",
        sa.Column("channel", sa.String(length=80), nullable=False),
        sa.Column("fingerprint", sa.String(length=200), nullable=False),
        sa.Column("filename", sa.String(length=255), nullable=False),
        sa.Column("first_on", sa.String(length=10), nullable=False),
        sa.Column("last_on", sa.String(length=10), nullable=False),
        _reference("servings", "filename", "files.filename"),
        sa.PrimaryKeyConstraint("channel", "fingerprint", "filename", name=op.f("pk_servings")),
    )
    op.create_index("ix_servings_filename", "servings", ["filename"])
    op.create_table(
        "pins",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("by", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("pk_pins")),
    )


def _let_garbage_be_found() -> None:
    """A blob that is deleted is looked for in every column that may name it."""
    op.add_column("blobs", sa.Column("condemned_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(op.f("ix_files_metadata_sha256"), "files", ["metadata_sha256"])
    op.create_index(op.f("ix_releases_source_id"), "releases", ["source_id"])
    op.create_index(op.f("ix_releases_log_sha256"), "releases", ["log_sha256"])
    op.create_index("ix_jobs_log", "jobs", ["log_sha256"])


def _fill_requirements() -> None:
    bind = op.get_bind()
    query = sa.text(
        "INSERT INTO release_requirements (release_id, sha256, name, version) "
        "VALUES (:release_id, :sha256, :name, :version)"
    )
    for release_id, provenance in _provenances(bind):
        pins = json.loads(provenance)["inputs"]["build_requirements"]
        unique = {pin["sha256"]: pin for pin in pins}
        rows = [
            {"release_id": release_id, **{key: pin[key] for key in ("sha256", "name", "version")}}
            for pin in unique.values()
        ]
        if rows:
            bind.execute(query, rows)


def _provenances(bind: sa.Connection) -> Iterator[tuple[int, Any]]:
    """(number, provenance) of every release, some at a time: a large store's do not fit memory."""
    last = 0
    query = sa.text(
        "SELECT id, provenance FROM releases WHERE id > :last ORDER BY id LIMIT :at_once"
    )
    while rows := bind.execute(query, {"last": last, "at_once": _ROWS_AT_ONCE}).all():
        yield from ((row.id, row.provenance) for row in rows)
        last = rows[-1].id
