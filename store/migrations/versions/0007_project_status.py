"""What a channel says of a whole project (PEP 792)."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "project_statuses",
        sa.Column("channel", sa.String(length=80), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "status IN ('archived', 'quarantined', 'deprecated')",
            name=op.f("ck_project_statuses_status"),
        ),
        sa.PrimaryKeyConstraint("channel", "name", name=op.f("pk_project_statuses")),
    )
