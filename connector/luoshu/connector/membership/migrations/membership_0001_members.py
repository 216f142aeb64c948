"""Credentials of members by serial, and the newest status list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "membership_0001"
down_revision = None
branch_labels = ("membership",)
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "membership_credential",
        sa.Column("participant_id", sa.String(100), nullable=False),
        sa.Column("serial", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("participant_id", "serial", name=op.f("pk_membership_credential")),
    )
    op.create_table(
        "membership_status",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("log_index", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_membership_status_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_membership_status")),
    )


def downgrade() -> None:
    """Refuses: a downgrade restores the backup."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
