"""The project of each release and widening, so that pages are found by it; and a value that every
change of what pages are made of changes, by triggers.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"

_SHOWN = (
    "files",
    "invalidations",
    "local_names",
    "project_statuses",
    "releases",
    "targets",
    "widenings",
)
_CHANGE = "UPDATE generation SET value = hex(randomblob(16))"
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def upgrade() -> None:
    """Make the column and the table, and what fills them."""
    _name_projects()
    generation = op.create_table(
        "generation",
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("value", sa.String(length=36), nullable=False),
        sa.CheckConstraint("row = 1", name=op.f("ck_generation_row")),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_generation")),
    )
    op.bulk_insert(generation, [{"row": 1, "value": "new"}])
    if op.get_bind().dialect.name == "sqlite":
        _watch_in_sqlite()
    else:
        _watch_in_postgresql()


def _name_projects() -> None:
    for table, filled in (
        ("releases", "SELECT name FROM files WHERE files.filename = releases.filename"),
        ("widenings", "SELECT project FROM releases WHERE releases.id = widenings.release_id"),
    ):
        project = sa.Column("project", sa.Text(), nullable=False, server_default="")
        op.add_column(table, project)
        op.execute(f"UPDATE {table} SET project = ({filled})")  # noqa: S608
        if op.get_bind().dialect.name != "sqlite":  # which keeps a default for ever
            op.alter_column(table, "project", server_default=None)
    op.create_index("ix_releases_project", "releases", ["channel", "project", "fingerprint"])
    op.create_index("ix_widenings_project", "widenings", ["fingerprint", "project"])
    op.create_index("ix_files_name", "files", ["name", "version"])


def _watch_in_sqlite() -> None:
    for table in _SHOWN:
        for event in _EVENTS:
            name = f"{table}_{event.lower()}"
            op.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {_CHANGE}; END")


def _watch_in_postgresql() -> None:
    op.execute(
        "CREATE OR REPLACE FUNCTION change_generation() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN UPDATE generation SET value = gen_random_uuid()::text; RETURN NULL; END $$"
    )
    for table in _SHOWN:
        op.execute(
            f"CREATE TRIGGER {table}_change "
            f"AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION change_generation()"
        )
