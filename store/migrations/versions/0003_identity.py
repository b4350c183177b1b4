"""Which store a catalogue belongs to, for one that is not in the store's own folder."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "identity",
        sa.Column("row", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("store_id", sa.String(length=32), nullable=False),
        sa.CheckConstraint("row = 1", name=op.f("ck_identity_row")),
        sa.PrimaryKeyConstraint("row", name=op.f("pk_identity")),
    )
