"""Computations at the holder, and relayed ones at the analyst's organisation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "compute_0001"
down_revision = None
branch_labels = ("compute",)
depends_on = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "compute_computations",
        sa.Column("consumer", sa.String(), nullable=False),
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.Column("message", sa.String(), nullable=True),
        sa.Column("rule", sa.String(), nullable=True),
        sa.Column("decision_index", sa.BigInteger(), nullable=False),
        sa.Column("outcome_index", sa.BigInteger(), nullable=True),
        sa.Column("result_digest", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("consumer", "request_id", name=op.f("pk_compute_computations")),
        sa.UniqueConstraint("decision_index", name=op.f("uq_compute_computations_decision_index")),
    )
    op.create_index("ix_compute_computations_state", "compute_computations", ["state"])
    op.create_table(
        "compute_relayed",
        sa.Column("request_id", sa.String(), nullable=False),
        sa.Column("request_digest", sa.String(), nullable=False),
        sa.Column("contract_id", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("request_index", sa.BigInteger(), nullable=False),
        sa.Column("receipt_index", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("request_id", name=op.f("pk_compute_relayed")),
    )
