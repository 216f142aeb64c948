"""The release history's files, and the debits of contracts, at the holder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "compute_0002"
down_revision = "compute_0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "compute_history",
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("history_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", "name", name=op.f("pk_compute_history")),
    )
    op.create_table(
        "compute_debits",
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("debits", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("contract_id", name=op.f("pk_compute_debits")),
    )
