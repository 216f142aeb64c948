"""Projections, the log's anchor and the index of entries."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "journal_0001"
down_revision = None
branch_labels = ("journal",)
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "projection",
        sa.Column("name", sa.String(80), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("last_index", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_projection")),
    )
    op.create_table(
        "log_anchor",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("origin", sa.String(200), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("root", sa.LargeBinary(32), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_log_anchor_single_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_anchor")),
    )
    op.create_table(
        "log_entry",
        sa.Column("entry_index", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("kind", sa.String(40), nullable=False),
        sa.Column("time", sa.String(24), nullable=False),
        sa.Column("contract_id", sa.String(80), nullable=True),
        sa.PrimaryKeyConstraint("entry_index", name=op.f("pk_log_entry")),
    )
    op.create_index("ix_log_entry_contract_id", "log_entry", ["contract_id", "entry_index"])
    op.create_index("ix_log_entry_kind", "log_entry", ["kind", "entry_index"])


def downgrade() -> None:
    """Refuses: a downgrade restores the backup."""
    raise NotImplementedError("restore the backup that was made before the upgrade")
