"""Privacy spent per domain and contract, at the holder."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "compute_0003"
down_revision = "compute_0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Creates the table."""
    op.create_table(
        "compute_privacy_spent",
        sa.Column("domain", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("epsilon", sa.BigInteger(), nullable=True),
        sa.Column("rho", sa.BigInteger(), nullable=False),
        sa.Column("delta", sa.BigInteger(), nullable=False),
        sa.Column("computations", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("domain", "contract_id", name=op.f("pk_compute_privacy_spent")),
    )
